//! The memory that tables take, and the disk where they take more.

use std::{collections::HashSet, io, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayData, RecordBatch},
        datatypes::SchemaRef,
    },
    common::DataFusionError,
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{
            FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation,
        },
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};
use url::Url;

use super::{ByteSize, Contents, Table, TableError, TableSettings, spill::Spilling};

/// How much memory and disk the steps of all runs may take together. A clone
/// shares what is taken.
///
/// Tables that wait for a step take half of the memory at most, so that there
/// is always some in which to sort, group and join. What does not fit is on
/// disk.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    memory: ByteSize,
    spill_size: ByteSize,
    environment: Arc<RuntimeEnv>,
    waiting: Arc<dyn MemoryPool>,
}

impl Budget {
    /// Takes the sizes of `settings`, and the folder `spill` for what does not
    /// fit into memory.
    pub(super) fn new(
        settings: &TableSettings,
        spill: &std::path::Path,
    ) -> Result<Self, TableError> {
        let memory = settings.memory();
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]))
            .with_max_temp_directory_size(settings.spill_size.bytes());
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory.addressable())))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| {
                let message = format!("--work-folder cannot be used: {}", error.strip_backtrace());
                TableError::refused("bad_folder", message)
            })?;
        // No query can name a file; should one ever, there is no way to it.
        if let Ok(local) = Url::parse("file://") {
            let removed = environment.deregister_object_store(&local);
            removed.map_err(|error| TableError::Fault {
                message: format!(
                    "local files cannot be shut off: {}",
                    error.strip_backtrace()
                ),
            })?;
        }
        Ok(Self {
            memory,
            spill_size: settings.spill_size,
            environment,
            waiting: Arc::new(GreedyMemoryPool::new(memory.addressable() / 2)),
        })
    }

    /// The memory of all steps together.
    pub(super) fn memory(&self) -> ByteSize {
        self.memory
    }

    /// How much may be taken by something that has to be in memory as a whole,
    /// such as a workbook.
    pub(super) fn piece(&self) -> ByteSize {
        ByteSize::of(self.memory.bytes() / 4)
    }

    /// How much disk may be taken.
    pub(super) fn disk(&self) -> ByteSize {
        self.spill_size
    }

    /// Memory and disk as the engine takes them.
    pub(super) fn environment(&self) -> &Arc<RuntimeEnv> {
        &self.environment
    }

    /// Neither the memory nor the disk that may be taken is enough.
    pub(super) fn full(&self, what: &str) -> TableError {
        let message = format!(
            "{what} needs more than the {} of memory that --memory allows to all steps together, or than the {} on disk that --spill-size allows",
            self.memory, self.spill_size
        );
        TableError::Full { message }
    }

    /// What an error of the work folder means.
    pub(super) fn spill_failed(&self, error: &DataFusionError) -> TableError {
        match error {
            DataFusionError::IoError(error) => self.disk_failed("a table", error),
            _ => self.full("a table"),
        }
    }

    /// What an error of a file in the work folder means: that of the system, or
    /// one of the engine about the room that may be taken.
    pub(super) fn disk_failed(&self, what: &str, error: &io::Error) -> TableError {
        if error.raw_os_error().is_none() {
            return self.full(what);
        }
        TableError::Full {
            message: format!("the work folder cannot be used: {error}"),
        }
    }
}

/// A table that is growing, within its budget.
pub(crate) struct Collector {
    budget: Budget,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: u64,
    bytes: u64,
    /// Where the buffers lie that are counted, since batches may share some.
    counted: HashSet<usize>,
    waiting: MemoryReservation,
    held: MemoryReservation,
    /// Where rows go since the memory was used up.
    spilling: Option<Spilling>,
}

impl Collector {
    /// An empty table with the columns `schema`.
    pub(super) fn new(budget: &Budget, schema: SchemaRef) -> Self {
        let consumer = || MemoryConsumer::new("table");
        Self {
            schema,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            counted: HashSet::new(),
            waiting: consumer().register(&budget.waiting),
            held: consumer().register(&budget.environment.memory_pool),
            spilling: None,
            budget: budget.clone(),
        }
    }

    /// Appends rows, or says that they do not fit. This may block on the disk.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        if self.spilling.is_none() {
            let more = bytes_of(&batch, &mut self.counted);
            if self.take(more) {
                self.bytes += more as u64;
                self.batches.push(batch);
                return Ok(());
            }
        }
        self.bytes += bytes_of(&batch, &mut HashSet::new()) as u64;
        let spilling = match &mut self.spilling {
            Some(spilling) => spilling,
            none => none.insert(Spilling::new(&self.budget, &self.schema)?),
        };
        spilling.push(&batch)
    }

    /// Takes memory, if there is as much.
    fn take(&mut self, bytes: usize) -> bool {
        if self.waiting.try_grow(bytes).is_err() {
            return false;
        }
        let taken = self.held.try_grow(bytes).is_ok();
        if !taken {
            self.waiting.shrink(bytes);
        }
        taken
    }

    /// The table.
    pub(crate) fn finish(self) -> Result<Table, TableError> {
        let spilled = self.spilling.map(Spilling::finish).transpose()?;
        Ok(Table(Arc::new(Contents {
            schema: self.schema,
            batches: self.batches,
            spilled,
            rows: self.rows,
            bytes: self.bytes,
            _waiting: self.waiting,
            _held: self.held,
        })))
    }
}

/// How many bytes the rows take, without what is `counted`.
pub(super) fn bytes_of(batch: &RecordBatch, counted: &mut HashSet<usize>) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| uncounted_bytes(&column.to_data(), counted))
        .sum()
}

fn uncounted_bytes(data: &ArrayData, counted: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let own: usize = data
        .buffers()
        .iter()
        .chain(nulls)
        .filter(|buffer| counted.insert(buffer.data_ptr().as_ptr() as usize))
        .map(|buffer| buffer.capacity())
        .sum();
    let children = data.child_data().iter();
    own + children
        .map(|child| uncounted_bytes(child, counted))
        .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{array::Int64Array, datatypes::*};

    use super::*;
    use crate::tables::tests::{budget, shown};

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let column = Int64Array::from_iter_values(0..rows);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).unwrap()
    }

    fn table(budget: &Budget, batches: usize) -> Result<Table, TableError> {
        let mut table = Collector::new(budget, batch(0).schema());
        for _ in 0..batches {
            table.push(batch(1000))?;
        }
        table.finish()
    }

    #[test]
    fn a_table_that_does_not_fit_is_on_disk_and_reads_alike() {
        let small = budget(40_000);
        let spilled = table(&small, 5).unwrap();
        let whole = table(&budget(1 << 20), 5).unwrap();
        assert!(spilled.0.spilled.is_some() && whole.0.spilled.is_none());
        assert_eq!((spilled.rows(), spilled.bytes()), (5000, whole.bytes()));
        assert_eq!(shown(&spilled), shown(&whole));
        assert_eq!(shown(&spilled).len(), 5001);
        // It can be read again, and leaves nothing behind.
        assert_eq!(shown(&spilled), shown(&whole));
        let disk = &small.environment.disk_manager;
        assert!(disk.used_disk_space() > 0);
        drop(spilled);
        assert_eq!(disk.used_disk_space(), 0);
    }

    #[test]
    fn a_table_that_fits_nowhere_names_the_settings() {
        let mut settings = crate::tables::tests::settings();
        settings.memory = Some(ByteSize::of(10_000));
        settings.spill_size = ByteSize::of(10_000);
        let budget = Budget::new(&settings, &std::env::temp_dir()).unwrap();
        let error = table(&budget, 1000).unwrap_err();
        assert!(error.is_retriable());
        let message = error.to_string();
        assert!(
            message.contains("--memory") && message.contains("--spill-size"),
            "{message}"
        );
    }

    #[test]
    fn waiting_tables_leave_half_of_the_memory_and_give_theirs_back() {
        let budget = budget(100_000);
        let first = table(&budget, 100).unwrap();
        let pool = &budget.environment.memory_pool;
        assert!((40_000..=50_000).contains(&pool.reserved()));
        let handle = first.clone();
        drop(first);
        assert!(pool.reserved() > 0);
        drop(handle);
        assert_eq!(pool.reserved(), 0);
        assert_eq!(budget.waiting.reserved(), 0);
    }

    #[test]
    fn rows_that_share_their_memory_count_once() {
        let budget = budget(1 << 20);
        let rows = batch(1000);
        let mut table = Collector::new(&budget, rows.schema());
        for start in 0..10 {
            table.push(rows.slice(start * 100, 100)).unwrap();
        }
        let table = table.finish().unwrap();
        assert_eq!(table.rows(), 1000);
        assert!((8000..9000).contains(&table.bytes()), "{}", table.bytes());
    }
}
