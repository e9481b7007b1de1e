//! How rows live in the worker: tables in memory, the files they come from
//! and go to, and the engine that makes tables out of tables.

mod arrow_file;
mod arrow_stream;
mod batches;
mod column;
mod compression;
mod csv;
mod encoding;
mod engine;
mod error;
mod excel;
mod feed;
mod files;
#[cfg(test)]
mod flow_tests;
mod functions;
mod growth;
mod in_order;
mod inferred;
mod json;
mod look;
mod memory;
mod parquet;
mod parquet_pages;
mod partitions;
mod provider;
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
mod sink;
mod spill;
mod spooled;
#[cfg(test)]
pub(crate) mod tests;
mod typed;
mod value;
mod write;

use std::sync::Arc;

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    execution::memory_pool::MemoryReservation,
};

pub(crate) use arrow_stream::{read_stream, write_stream};
pub(crate) use engine::Engine;
pub(crate) use error::TableError;
pub(crate) use feed::{Feed, FeedReader, Flow};
pub(crate) use files::Files;
pub(crate) use look::Kind;
pub(crate) use memory::Collector;
pub(crate) use read::{Passed, Prepared, Reading, Work, prepare, read};
pub use settings::TableSettings;
pub(crate) use spooled::{Spooled, copy_into, read_spooled, write_text};

use millstream_shared::byte_size::ByteSize;
use spill::Spilled;
pub(crate) use write::{Writing, write};

/// Rows with typed columns, shared between steps: in memory as far as they fit,
/// and on disk behind.
///
/// A clone is another handle on the same rows; memory and disk count once, and
/// are free again when the last handle is gone.
#[derive(Clone, Debug)]
pub(crate) struct Table(Arc<Contents>);

#[derive(Debug)]
struct Contents {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// The rows behind those in memory.
    spilled: Option<Spilled>,
    rows: u64,
    bytes: u64,
    /// What the table takes of the memory for tables that wait for a step.
    _waiting: MemoryReservation,
    /// What the table takes of all memory.
    _held: MemoryReservation,
}

impl Table {
    /// Its columns: names and types.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    /// Reads its rows in order, in pieces that may be of any size.
    pub(crate) fn open(&self) -> Result<FeedReader, TableError> {
        Feed::Table(self.clone()).open()
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u64 {
        self.0.rows
    }

    /// How many bytes it takes, in memory and on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes
    }
}
