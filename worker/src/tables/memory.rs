//! The memory that tables take: one limit for each table, one for all.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayData, RecordBatch},
        datatypes::SchemaRef,
    },
    execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation},
};

use super::{ByteSize, Contents, Table, TableError, partitions::Partitions};

/// How much memory tables may take. A clone shares what is taken.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    table_size: ByteSize,
    tables_memory: ByteSize,
    pool: Arc<dyn MemoryPool>,
}

impl Budget {
    /// How much memory one table may take.
    pub(super) fn table_size(&self) -> ByteSize {
        self.table_size
    }

    /// Allows `table_size` to one table and `tables_memory` to all that are
    /// alive.
    pub(super) fn new(table_size: ByteSize, tables_memory: ByteSize) -> Self {
        Self {
            table_size,
            tables_memory,
            pool: Arc::new(GreedyMemoryPool::new(tables_memory.addressable())),
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
    held: MemoryReservation,
    partitions: Option<Arc<Partitions>>,
    /// Which file the rows come from that are pushed.
    file: usize,
}

impl Collector {
    /// An empty table with the columns `schema`.
    pub(super) fn new(budget: &Budget, schema: SchemaRef) -> Self {
        Self {
            budget: budget.clone(),
            schema,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            counted: HashSet::new(),
            held: MemoryConsumer::new("table").register(&budget.pool),
            partitions: None,
            file: 0,
        }
    }

    /// An empty table of rows from files with the columns `schema`, to which
    /// the folders of these files add others.
    pub(super) fn of_files(
        budget: &Budget,
        schema: &SchemaRef,
        partitions: &Arc<Partitions>,
    ) -> Self {
        Self {
            partitions: Some(Arc::clone(partitions)),
            ..Self::new(budget, partitions.extended(schema))
        }
    }

    /// From here on rows come from the file at this position.
    pub(super) fn start_file(&mut self, file: usize) {
        self.file = file;
    }

    /// Appends rows, or says that they do not fit.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = match &self.partitions {
            None => batch,
            Some(partitions) => {
                let extended = partitions.extend(batch, self.file, &self.schema);
                extended.map_err(|error| TableError::Fault {
                    message: error.to_string(),
                })?
            }
        };
        let mut more = 0;
        for column in batch.columns() {
            more += uncounted_bytes(&column.to_data(), &mut self.counted);
        }
        self.bytes += more as u64;
        if self.bytes > self.budget.table_size.bytes() {
            return Err(TableError::refused(
                "table_too_large",
                format!(
                    "the table takes more than the {} of memory that --table-size allows",
                    self.budget.table_size
                ),
            ));
        }
        if self.held.try_grow(more).is_err() {
            return Err(TableError::Full {
                message: format!(
                    "the tables of all runs together take the {} of memory that --tables-memory allows",
                    self.budget.tables_memory
                ),
            });
        }
        self.rows += batch.num_rows() as u64;
        self.batches.push(batch);
        Ok(())
    }

    /// The table.
    pub(crate) fn finish(self) -> Table {
        Table(Arc::new(Contents {
            schema: self.schema,
            batches: self.batches,
            rows: self.rows,
            bytes: self.bytes,
            _held: self.held,
        }))
    }
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

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let column = Int64Array::from_iter_values(0..rows);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).unwrap()
    }

    #[test]
    fn a_table_over_its_size_is_refused_and_named() {
        let budget = Budget::new(ByteSize::of(10_000), ByteSize::of(1 << 20));
        let mut table = Collector::new(&budget, batch(0).schema());
        table.push(batch(1000)).unwrap();
        let error = table.push(batch(1000)).unwrap_err();
        assert!(error.to_string().contains("--table-size"), "{error}");
        assert!(!error.is_retriable());
    }

    #[test]
    fn memory_is_free_again_when_the_last_handle_is_gone() {
        let budget = Budget::new(ByteSize::of(1 << 20), ByteSize::of(12_000));
        let mut first = Collector::new(&budget, batch(0).schema());
        first.push(batch(1000)).unwrap();
        let first = first.finish();
        let handle = first.clone();
        drop(first);

        let mut second = Collector::new(&budget, batch(0).schema());
        let error = second.push(batch(1000)).unwrap_err();
        assert!(error.to_string().contains("--tables-memory"), "{error}");
        assert!(error.is_retriable());

        drop(handle);
        drop(second);
        assert_eq!(budget.pool.reserved(), 0);
    }

    #[test]
    fn rows_that_share_their_memory_count_once() {
        let budget = Budget::new(ByteSize::of(10_000), ByteSize::of(1 << 20));
        let rows = batch(1000);
        let mut table = Collector::new(&budget, rows.schema());
        for start in 0..10 {
            table.push(rows.slice(start * 100, 100)).unwrap();
        }
        let table = table.finish();
        assert_eq!(table.rows(), 1000);
        assert!((8000..9000).contains(&table.bytes()), "{}", table.bytes());
    }
}
