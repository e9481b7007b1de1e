//! Files into a table.

use indexmap::IndexMap;
use millstream_shared::flow::step::{ColumnType, Format};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Table, TableError,
    batches::Columns,
    column::ColumnKind,
    csv,
    files::SourceFile,
    json::{self, Layout},
    memory::Budget,
    parquet,
};

/// What work on files has at hand.
pub(crate) struct Work {
    pub(super) budget: Budget,
    pub(super) cancelled: CancellationToken,
}

impl Work {
    /// Fails when nobody wants the result any more.
    pub(super) fn check(&self) -> Result<(), TableError> {
        if self.cancelled.is_cancelled() {
            Err(TableError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Which files to read, and how.
pub(crate) struct Reading<'a> {
    /// A path with `*`, `?`, `[…]` or `**`, or without.
    pub(crate) path: &'a str,
    /// What they hold; it follows from their endings when not given.
    pub(crate) format: Option<Format>,
    /// The columns to take and their types; all columns, with inferred types,
    /// when not given.
    pub(crate) columns: Option<&'a IndexMap<String, ColumnType>>,
}

/// A table read from files.
pub(crate) struct Read {
    pub(crate) table: Table,
    /// How many files it was read from.
    pub(crate) files: usize,
    /// How many bytes they have.
    pub(crate) bytes: u64,
}

/// Reads all files that `reading` names, in the order of their names. This
/// blocks: [`super::Engine::on_files`] is the place for it.
pub(crate) fn read(files: &Files, reading: &Reading<'_>, work: &Work) -> Result<Read, TableError> {
    let files = files.matching(reading.path)?;
    let format = match reading.format {
        Some(format) => format,
        None => common_format(&files)?,
    };
    if let Some(file) = files.iter().find(|file| file.compression().is_some())
        && !format.is_text()
    {
        return Err(compressed_inside(&file.shown));
    }
    let declared = reading.columns.map(|columns| {
        let kind = |(name, kind): (&String, &ColumnType)| (name.clone(), ColumnKind::Plain(*kind));
        columns.iter().map(kind).collect::<Columns>()
    });
    let declared = declared.as_ref();
    let table = match format {
        Format::Csv => csv::read(&files, declared, work),
        Format::Json => json::read(&files, Layout::Array, declared, work),
        Format::Ndjson => json::read(&files, Layout::Lines, declared, work),
        Format::Parquet if declared.is_some() => Err(TableError::refused(
            "bad_columns",
            "`columns` cannot be given for Parquet, which brings its own types",
        )),
        Format::Parquet => parquet::read(&files, work),
    };
    Ok(Read {
        table: table?,
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    })
}

fn common_format(files: &[SourceFile]) -> Result<Format, TableError> {
    let mut common = None;
    for file in files {
        let format = Format::of_path(&file.shown).ok_or_else(|| unknown_format(&file.shown))?;
        if *common.get_or_insert(format) != format {
            return Err(TableError::refused(
                "unknown_format",
                format!(
                    "{} and {} are of different formats; give a `format` or read them apart",
                    files[0].shown, file.shown
                ),
            ));
        }
    }
    common.ok_or_else(|| unknown_format(""))
}

/// The file at `path` has an ending of compressed files, but no format of
/// which files are compressed.
pub(super) fn compressed_inside(path: &str) -> TableError {
    TableError::refused(
        "bad_compression",
        format!(
            "`{path}`: only CSV, JSON and NDJSON files are compressed as a whole; the others are compressed inside"
        ),
    )
}

/// The format of `path` does not follow from its ending.
pub(super) fn unknown_format(path: &str) -> TableError {
    TableError::refused(
        "unknown_format",
        format!(
            "the format of `{path}` does not follow from its ending (.csv, .json, .ndjson, .jsonl, .parquet); give it as `format`"
        ),
    )
}
