//! How rows live in the worker: tables in memory, the files they come from
//! and go to, and the engine that makes tables out of tables.

mod arrow_file;
mod batches;
mod column;
mod compression;
mod csv;
mod encoding;
mod engine;
mod error;
mod excel;
mod files;
mod inferred;
mod json;
mod look;
mod memory;
mod parquet;
mod partitions;
mod publish;
mod publish_elsewhere;
mod publish_folder;
mod query;
mod query_error;
mod read;
mod rejects;
mod remote_parquet;
#[cfg(test)]
mod round_trip_tests;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
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
pub(crate) use look::Kind;
pub(crate) use memory::Collector;
pub(crate) use read::{Read, Reading, read};
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
