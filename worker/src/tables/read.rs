//! Files into a table.

use std::sync::Arc;

use millstream_shared::flow::step::{ColumnType, Format, ReadStep};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Table, TableError, arrow_file,
    batches::Columns,
    column::ColumnKind,
    compression::unpacked_max,
    csv, excel,
    files::{FILES_MAX, SourceFile},
    json::{self, Layout},
    memory::Budget,
    parquet,
    partitions::Partitions,
    rejects::Rejects,
    typed,
};
use crate::stores::{Limits, Location};

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
    pub(crate) location: &'a Location,
    /// What its flow says besides.
    pub(crate) step: &'a ReadStep,
    /// Where rows that do not fit are written.
    pub(crate) rejects_location: Option<&'a Location>,
    /// Names the run and the step.
    pub(crate) label: &'a str,
}

/// Files that become one table.
pub(super) struct Source<'a> {
    pub(super) files: &'a [SourceFile],
    /// The columns to take; all columns, with inferred types, when not given.
    pub(super) declared: Option<Columns>,
    /// The columns that the folders of the files give.
    pub(super) partitions: Arc<Partitions>,
    pub(super) step: &'a ReadStep,
    pub(super) work: &'a Work,
}

/// A table read from files.
pub(crate) struct Read {
    pub(crate) table: Table,
    /// How many files it was read from.
    pub(crate) files: usize,
    /// How many bytes they have.
    pub(crate) bytes: u64,
    /// The rows that did not fit, where the step goes on behind them.
    pub(crate) rejects: Rejects,
}

/// Reads all files that `reading` names, in the order of their names. This
/// blocks: [`super::Engine::on_files`] is the place for it.
pub(crate) fn read(
    folders: &Files,
    reading: &Reading<'_>,
    work: &Work,
) -> Result<Read, TableError> {
    let files = sources(folders, reading.location, work)?;
    let format = match reading.step.format {
        Some(format) => format,
        None => common_format(&files)?,
    };
    if let Some(file) = files.iter().find(|file| file.compression().is_some())
        && !format.is_text()
    {
        return Err(compressed_inside(&file.shown));
    }
    let mut declared = reading.step.columns.as_ref().map(|columns| {
        let kind = |(name, kind): (&String, &ColumnType)| (name.clone(), ColumnKind::Plain(*kind));
        columns.iter().map(kind).collect::<Columns>()
    });
    let partitions = Arc::new(Partitions::of(&files, declared.as_mut())?);
    let source = Source {
        files: &files,
        declared,
        partitions,
        step: reading.step,
        work,
    };
    let mut rejects = Rejects::new(reading.step.rejects_max());
    let table = read_as(format, &source, &mut rejects)?;
    if let Some(location) = reading.rejects_location {
        rejects.write(folders, location, reading.label, work)?;
    }
    Ok(Read {
        table,
        rejects,
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    })
}

/// The files to read, in the order of their names; at least one.
fn sources(
    folders: &Files,
    location: &Location,
    work: &Work,
) -> Result<Vec<SourceFile>, TableError> {
    let limits = Limits {
        files: FILES_MAX,
        bytes: unpacked_max(work.budget.table_size()),
    };
    let files = match location {
        Location::Local(path) => return folders.matching(path),
        Location::Objects(objects) => objects.matching(limits, &work.cancelled)?,
        Location::Web(web) => vec![web.file(limits, &work.cancelled)?],
    };
    Ok(files.into_iter().map(SourceFile::from).collect())
}

fn read_as(
    format: Format,
    source: &Source<'_>,
    rejects: &mut Rejects,
) -> Result<Table, TableError> {
    match format {
        Format::Csv => csv::read(source, rejects),
        Format::Json => json::read(source, Layout::Array, rejects),
        Format::Ndjson => json::read(source, Layout::Lines, rejects),
        Format::Parquet | Format::Arrow if source.declared.is_some() => Err(TableError::refused(
            "bad_columns",
            "`columns` cannot be given for Parquet and Arrow, which bring their own types",
        )),
        Format::Parquet => typed::read(source, parquet::NAME, parquet::open),
        Format::Arrow => typed::read(source, arrow_file::NAME, arrow_file::open),
        Format::Excel => excel::read(source, rejects),
    }
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
            "the format of `{path}` does not follow from its ending (.csv, .json, .ndjson, .jsonl, .parquet, .arrow, .xlsx, .xls, .ods); give it as `format`"
        ),
    )
}
