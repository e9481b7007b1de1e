//! How rows live in the worker: tables in memory, the files they come from
//! and go to, and the engine that makes tables out of tables.

mod batches;
mod column;
mod csv;
mod engine;
mod error;
mod files;
mod inferred;
mod json;
mod memory;
mod parquet;
mod publish;
mod query;
mod query_error;
mod read;
mod settings;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::sync::Arc;

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    execution::memory_pool::MemoryReservation,
};

pub(crate) use engine::Engine;
pub(crate) use error::TableError;
pub(crate) use files::Files;
pub(crate) use memory::Collector;
pub(crate) use read::{Reading, read};
pub use settings::TableSettings;

use millstream_shared::byte_size::ByteSize;
pub(crate) use write::{Writing, write};

/// Rows with typed columns, held in memory and shared between steps.
///
/// A clone is another handle on the same rows; the memory counts once, and is
/// free again when the last handle is gone.
#[derive(Clone, Debug)]
pub(crate) struct Table(Arc<Contents>);

#[derive(Debug)]
struct Contents {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: u64,
    bytes: u64,
    /// What the table takes of the memory for all tables.
    _held: MemoryReservation,
}

impl Table {
    /// Its columns: names and types.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    /// Its rows, in order, in pieces that may be of any size.
    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.0.batches
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u64 {
        self.0.rows
    }

    /// How many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }
}
