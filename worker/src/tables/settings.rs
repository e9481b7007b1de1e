//! The settings of tables: memory, room on disk, folders.

use std::path::PathBuf;

use millstream_shared::byte_size::ByteSize;

/// How much memory and disk tables may take, and which folders steps may touch.
#[derive(Clone, Debug, clap::Args)]
pub struct TableSettings {
    /// Local folders that `read` and `write` steps may touch, separated by
    /// colons. Relative paths in flows start at the first. None: such steps
    /// fail.
    #[arg(long = "files", env = "MILLSTREAM_FILES", value_delimiter = ':')]
    pub files: Vec<PathBuf>,

    /// The largest table that a step may read or make.
    #[arg(
        long = "table-size",
        env = "MILLSTREAM_TABLE_SIZE",
        default_value = "1GiB"
    )]
    pub table_size: ByteSize,

    /// Memory for the tables of all runs together.
    #[arg(
        long = "tables-memory",
        env = "MILLSTREAM_TABLES_MEMORY",
        default_value = "4GiB"
    )]
    pub tables_memory: ByteSize,

    /// Memory in which all `sql` steps together sort, group and join; what
    /// does not fit goes to the work folder.
    #[arg(
        long = "sql-memory",
        env = "MILLSTREAM_SQL_MEMORY",
        default_value = "1GiB"
    )]
    pub sql_memory: ByteSize,

    /// How much room that may take in the work folder.
    #[arg(
        long = "spill-size",
        env = "MILLSTREAM_SPILL_SIZE",
        default_value = "50GiB"
    )]
    pub spill_size: ByteSize,
}
