//! Files into a table.

use std::sync::Arc;

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use millstream_shared::flow::step::{ColumnType, Format, ReadStep};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Table, TableError, arrow_file, arrow_stream,
    batches::{Columns, schema_of},
    column::ColumnKind,
    csv, excel,
    feed::{About, Opening},
    files::{FILES_MAX, SourceFile},
    json::{self, Layout},
    memory::{Budget, Collector},
    parquet,
    partitions::Partitions,
    rejects::Rejects,
    sink::{Push, Sink},
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

/// Files that are read as one table.
pub(super) struct Source<'a> {
    pub(super) files: &'a [SourceFile],
    pub(super) step: &'a ReadStep,
    pub(super) work: &'a Work,
}

/// Files that are there, with columns that are known.
pub(crate) struct Prepared {
    files: Vec<SourceFile>,
    format: Format,
    step: ReadStep,
    columns: Shape,
    /// The columns that the folders of the files give.
    partitions: Partitions,
    schema: SchemaRef,
    rejects_location: Option<Location>,
    label: String,
}

/// The columns of files.
enum Shape {
    /// Texts that become values: those declared, or those inferred.
    Texts(Columns),
    /// Values with types of their own.
    Typed(SchemaRef),
}

impl Shape {
    fn schema(&self) -> SchemaRef {
        match self {
            Self::Typed(schema) => Arc::clone(schema),
            Self::Texts(columns) => schema_of(columns),
        }
    }
}

/// What one pass over files came to.
pub(crate) struct Passed {
    pub(crate) rows: u64,
    /// The rows that did not fit, where the step goes on behind them.
    pub(crate) rejects: Rejects,
}

/// A table read from files.
pub(crate) struct Read {
    pub(crate) table: Table,
    pub(crate) passed: Passed,
}

/// Finds the files that `reading` names, and their columns. This blocks:
/// [`super::Engine::on_files`] is the place for it.
pub(crate) fn prepare(
    folders: &Files,
    reading: &Reading<'_>,
    work: &Work,
) -> Result<Prepared, TableError> {
    let files = sources(folders, reading.location, work)?;
    if let Some(Location::Local(path)) = reading.rejects_location {
        let target = folders.target(path)?;
        if files.iter().any(|file| file.is_at(&target)) {
            return Err(rejects_refused(path));
        }
    }
    if let Some(Location::Objects(objects)) = reading.rejects_location {
        let shown = objects.shown();
        if files.iter().any(|file| file.shown == shown) {
            return Err(rejects_refused(&shown));
        }
    }
    let format = match reading.step.format {
        Some(format) => format,
        None => common_format(&files)?,
    };
    if let Some(file) = files.iter().find(|file| file.compression().is_some())
        && !format.is_text()
    {
        return Err(compressed_inside(&file.shown));
    }
    prepared(files, format, reading, work)
}

/// The same for files that were found.
pub(super) fn prepared(
    files: Vec<SourceFile>,
    format: Format,
    reading: &Reading<'_>,
    work: &Work,
) -> Result<Prepared, TableError> {
    let mut declared = reading.step.columns.as_ref().map(|columns| {
        let kind = |(name, kind): (&String, &ColumnType)| (name.clone(), ColumnKind::Plain(*kind));
        columns.iter().map(kind).collect::<Columns>()
    });
    let partitions = Partitions::of(&files, declared.as_mut())?;
    let source = Source {
        files: &files,
        step: reading.step,
        work,
    };
    let rejects = Rejects::new(reading.step.rejects_max());
    let columns = match declared {
        Some(_) if !format.has_texts() => {
            return Err(TableError::refused(
                "bad_columns",
                "`columns` cannot be given for Parquet and Arrow, which bring their own types",
            ));
        }
        Some(declared) => Shape::Texts(declared),
        None => match format {
            Format::Csv => Shape::Texts(csv::infer(&source, &rejects)?),
            Format::Json => Shape::Texts(json::infer(&source, Layout::Array, &rejects)?),
            Format::Ndjson => Shape::Texts(json::infer(&source, Layout::Lines, &rejects)?),
            Format::Excel => Shape::Texts(excel::infer(&source, &rejects)?),
            Format::Parquet => Shape::Typed(typed::columns(&source, parquet::NAME, parquet::open)?),
            Format::Arrow => {
                Shape::Typed(typed::columns(&source, arrow_file::NAME, arrow_file::open)?)
            }
            Format::ArrowStream => Shape::Typed(typed::columns(
                &source,
                arrow_stream::NAME,
                arrow_stream::open,
            )?),
        },
    };
    Ok(Prepared {
        schema: partitions.extended(&columns.schema()),
        files,
        format,
        step: reading.step.clone(),
        columns,
        partitions,
        rejects_location: reading.rejects_location.cloned(),
        label: reading.label.to_owned(),
    })
}

/// The place for rejected rows is that of a file which holds others.
fn rejects_refused(path: &str) -> TableError {
    let message =
        format!("`{path}` cannot be used for rejected rows: it is a file that the step reads");
    TableError::refused("file_refused", message)
}

/// The files to read, in the order of their names; at least one.
fn sources(
    folders: &Files,
    location: &Location,
    work: &Work,
) -> Result<Vec<SourceFile>, TableError> {
    let limits = Limits {
        files: FILES_MAX,
        disk: work.budget.disk(),
    };
    let files = match location {
        Location::Local(path) => return folders.matching(path),
        Location::Objects(objects) => objects.matching(limits)?,
        Location::Web(web) => vec![web.file(limits)?],
    };
    Ok(files.into_iter().map(SourceFile::from).collect())
}

impl Prepared {
    /// The columns of the table.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many files it is read from.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// How many bytes they have.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// About how much there is: files rarely say how many rows they have.
    pub(super) fn about(&self) -> Option<About> {
        let bytes = usize::try_from(self.bytes()).ok()?;
        let row = 16 * self.schema.fields().len().max(1);
        Some(About {
            rows: bytes / row,
            bytes,
        })
    }

    /// Makes one pass for a step that takes the rows while they are read, or
    /// for nobody. None where nobody takes them any more. This blocks.
    pub(super) fn stream(
        &self,
        folders: &Files,
        opening: Option<Opening>,
        work: &Work,
    ) -> Result<Option<Passed>, TableError> {
        let Some(Opening { columns, outlet }) = opening else {
            let passed = self.pass(folders, Some(&[]), work, &mut |_| Ok(()))?;
            return Ok(Some(passed));
        };
        let mut is_left = false;
        let mut push = |batch| {
            is_left = !outlet.push(batch);
            match is_left {
                true => Err(TableError::Cancelled),
                false => Ok(()),
            }
        };
        match self.pass(folders, columns.as_deref(), work, &mut push) {
            Err(TableError::Cancelled) if is_left => Ok(None),
            passed => {
                let passed = passed?;
                outlet.end();
                Ok(Some(passed))
            }
        }
    }

    /// Reads all files once, in the order of their names, and hands on the
    /// `columns` at these places; all where not given. This blocks.
    pub(super) fn pass(
        &self,
        folders: &Files,
        columns: Option<&[usize]>,
        work: &Work,
        push: Push<'_>,
    ) -> Result<Passed, TableError> {
        let source = Source {
            files: &self.files,
            step: &self.step,
            work,
        };
        let mut rejects = Rejects::new(self.step.rejects_max());
        let mut rows = 0;
        let mut counted = |batch: RecordBatch| {
            rows += batch.num_rows() as u64;
            push(batch)
        };
        let own = self.columns.schema();
        let mut sink = Sink::new(&own, &self.partitions, columns, &mut counted)?;
        match (&self.columns, self.format) {
            (Shape::Typed(own), Format::Arrow) => {
                typed::read(&source, own, arrow_file::NAME, arrow_file::open, &mut sink)
            }
            (Shape::Typed(own), Format::ArrowStream) => typed::read(
                &source,
                own,
                arrow_stream::NAME,
                arrow_stream::open,
                &mut sink,
            ),
            (Shape::Typed(own), _) => {
                typed::read(&source, own, parquet::NAME, parquet::open, &mut sink)
            }
            (Shape::Texts(columns), Format::Json) => {
                json::read(&source, columns, Layout::Array, &mut rejects, &mut sink)
            }
            (Shape::Texts(columns), Format::Ndjson) => {
                json::read(&source, columns, Layout::Lines, &mut rejects, &mut sink)
            }
            (Shape::Texts(columns), Format::Excel) => {
                excel::read(&source, columns, &mut rejects, &mut sink)
            }
            (Shape::Texts(columns), _) => csv::read(&source, columns, &mut rejects, &mut sink),
        }?;
        if let Some(location) = &self.rejects_location {
            rejects.write(folders, location, &self.label, work)?;
        }
        Ok(Passed { rows, rejects })
    }
}

/// Reads what was prepared into a table. This blocks.
pub(crate) fn read(prepared: &Prepared, files: &Files, work: &Work) -> Result<Read, TableError> {
    let mut table = Collector::new(&work.budget, Arc::clone(&prepared.schema));
    let passed = prepared.pass(files, None, work, &mut |batch| table.push(batch))?;
    Ok(Read {
        table: table.finish()?,
        passed,
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
            "the format of `{path}` does not follow from its ending (.csv, .json, .ndjson, .jsonl, .parquet, .arrow, .arrows, .xlsx, .xls, .ods); give it as `format`"
        ),
    )
}
