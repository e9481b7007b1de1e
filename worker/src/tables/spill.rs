//! Rows in the work folder, where there is no memory for them.

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::SchemaRef,
        error::ArrowError,
        ipc::{reader::StreamReader, writer::StreamWriter},
    },
    common::DataFusionError,
    execution::{SpillFile, SpillWriter},
};

use super::{TableError, memory::Budget};

/// How much is written or read at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A file in the work folder that is being written.
pub(super) struct Spilling {
    budget: Budget,
    schema: SchemaRef,
    file: Arc<dyn SpillFile>,
    writer: StreamWriter<BufWriter<Box<dyn SpillWriter>>>,
}

impl Spilling {
    pub(super) fn new(budget: &Budget, schema: &SchemaRef) -> Result<Self, TableError> {
        let disk = &budget.environment().disk_manager;
        let opened = disk.create_tmp_file("a table").and_then(|file| {
            let output = BufWriter::with_capacity(BUFFER_BYTES, file.open_writer()?);
            let writer = StreamWriter::try_new(output, schema)?;
            Ok((file, writer))
        });
        let (file, writer) = opened.map_err(|error| budget.spill_failed(&error))?;
        Ok(Self {
            budget: budget.clone(),
            schema: Arc::clone(schema),
            file,
            writer,
        })
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let written = self.writer.write(batch);
        written.map_err(|error| self.budget.spill_failed(&cause(error)))
    }

    pub(super) fn finish(self) -> Result<Spilled, TableError> {
        let Self {
            budget, mut writer, ..
        } = self;
        let finished = writer.finish().and_then(|()| writer.flush());
        finished.map_err(|error| budget.spill_failed(&cause(error)))?;
        Ok(Spilled {
            schema: self.schema,
            file: self.file,
        })
    }
}

/// Rows that are on disk as long as this is there.
pub(super) struct Spilled {
    schema: SchemaRef,
    file: Arc<dyn SpillFile>,
}

impl Spilled {
    /// Reads the rows from the first one on.
    pub(super) fn open(&self) -> Result<SpillReader, TableError> {
        let path = self.file.path().unwrap_or("".as_ref());
        let opened = File::open(path).map_err(ArrowError::from).and_then(|file| {
            StreamReader::try_new(BufReader::with_capacity(BUFFER_BYTES, file), None)
        });
        Ok(SpillReader(opened.map_err(unreadable)?))
    }
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spilled({})", self.schema)
    }
}

/// Rows that come back from disk.
#[derive(Debug)]
pub(super) struct SpillReader(StreamReader<BufReader<File>>);

impl SpillReader {
    pub(super) fn next(&mut self) -> Option<Result<RecordBatch, TableError>> {
        Some(self.0.next()?.map_err(unreadable))
    }
}

fn unreadable(error: ArrowError) -> TableError {
    TableError::Full {
        message: format!("the work folder cannot be used: {error}"),
    }
}

/// The error that a writer wraps.
fn cause(error: ArrowError) -> DataFusionError {
    match error {
        ArrowError::IoError(_, error) => DataFusionError::IoError(error),
        error => error.into(),
    }
}
