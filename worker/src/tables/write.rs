//! A table into a file.

use std::{io::Write, path::Path};

use datafusion::arrow::{
    array::RecordBatch,
    csv,
    datatypes::SchemaRef,
    json,
    json::writer::{JsonArray, JsonFormat, LineDelimited},
};
use millstream_shared::flow::step::{Compression, CsvWriting, Format, TextFormat, WriteStep};

use super::{
    Feed, FeedReader, Files, Table, TableError, arrow_file, arrow_stream,
    compression::compressed,
    error::Shown,
    excel, parquet, partitions,
    partitions::Spread,
    partitions::is_part_of,
    publish::Draft,
    publish_elsewhere::{not_written, publish_at, publish_objects},
    publish_folder::{self, publish_folder},
    read::{Work, compressed_inside, unknown_format},
};
use crate::stores::Location;

/// Where a table goes, and how.
pub(crate) struct Writing<'a> {
    pub(crate) location: &'a Location,
    /// What its flow says besides.
    pub(crate) step: &'a WriteStep,
    /// Names the run and the step.
    pub(crate) label: &'a str,
}

/// A file that was written.
pub(crate) struct Written {
    pub(crate) format: Format,
    pub(crate) bytes: u64,
    /// How many rows went into it.
    pub(crate) rows: u64,
}

/// The rows of a feed on their way into one file.
pub(super) struct Rows<'r> {
    schema: &'r SchemaRef,
    reader: FeedReader,
}

impl<'r> Rows<'r> {
    pub(super) fn of(feed: &'r Feed) -> Result<Self, TableError> {
        Ok(Self {
            schema: feed.schema(),
            reader: feed.open()?,
        })
    }

    pub(super) fn schema(&self) -> &'r SchemaRef {
        self.schema
    }

    /// The next ones; none at the end. Fails when nobody wants the file any
    /// more.
    pub(super) fn next(&mut self, work: &Work) -> Result<Option<RecordBatch>, TableError> {
        work.check()?;
        self.reader.next().transpose()
    }
}

/// Writes rows into a file, which appears whole or not at all. This blocks:
/// [`super::Engine::on_files`] is the place for it.
pub(crate) fn write(
    files: &Files,
    writing: &Writing<'_>,
    feed: &Feed,
    work: &Work,
) -> Result<Written, TableError> {
    let path = &*writing.location.shown();
    let format = writing.step.format.or_else(|| Format::of_path(path));
    let format = format.ok_or_else(|| unknown_format(path))?;
    let compression = Compression::of_path(path);
    if compression.is_some() && !format.is_text() {
        return Err(compressed_inside(path));
    }
    let partition_by = &writing.step.partition_by;
    if !partition_by.is_empty() {
        let spread = write_partitions(files, writing, format, feed, work)?;
        return Ok(Written {
            format,
            bytes: spread.written,
            rows: spread.rows,
        });
    }
    if format == Format::Excel && !path.to_ascii_lowercase().ends_with(".xlsx") {
        let message = format!("`{path}`: a workbook is written as `.xlsx` and nothing else");
        return Err(TableError::refused("unwritable", message));
    }
    let folder = match writing.location {
        Location::Local(path) => files.target(path)?.folder,
        Location::Objects(objects) => objects.folder().to_owned(),
        Location::Web(_) => return Err(not_written(path)),
    };
    let mut rows = Rows::of(feed)?;
    let bytes = publish_at(files, writing.location, writing.label, work, |draft| {
        compressed(draft, compression, |output| {
            write_as(format, writing.step, &mut rows, &folder, output, work)
        })
    })?;
    Ok(Written {
        format,
        bytes,
        rows: rows.reader.rows(),
    })
}

/// Spreads the rows over folders, or over objects whose names have the like.
fn write_partitions(
    files: &Files,
    writing: &Writing<'_>,
    format: Format,
    feed: &Feed,
    work: &Work,
) -> Result<Spread, TableError> {
    let (step, columns) = (writing.step, &writing.step.partition_by);
    let ending = format.ending();
    let fill = |part: &Table, folder: &Path, draft: &mut Draft<'_>| {
        let part = Feed::Table(part.clone());
        let mut rows = Rows::of(&part)?;
        write_as(format, step, &mut rows, folder, draft, work)
    };
    match writing.location {
        Location::Local(path) => {
            let target = files.target_folder(path)?;
            let is_ours = |depth, name: &str, kind| is_part_of(columns, depth, name, kind);
            publish_folder(&target, writing.label, work, is_ours, |folder| {
                partitions::write(feed, columns, ending, work, |name, part| {
                    publish_folder::put(folder, name, |draft| fill(part, folder, draft))
                })
            })
        }
        Location::Objects(objects) => {
            let folder = objects.folder();
            let is_ours = |depth, name: &str, kind| is_part_of(columns, depth, name, kind);
            let (spread, written) = publish_objects(objects, work, is_ours, |drafts| {
                partitions::write(feed, columns, ending, work, |name, part| {
                    drafts.put(name, |draft| fill(part, folder, draft))
                })
            })?;
            Ok(Spread { written, ..spread })
        }
        Location::Web(web) => Err(not_written(&web.shown())),
    }
}

/// Writes the rows as one file. `folder` is on the disk that it goes to.
fn write_as(
    format: Format,
    step: &WriteStep,
    rows: &mut Rows<'_>,
    folder: &Path,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    match format {
        Format::Csv => write_csv(rows, &step.csv.clone().unwrap_or_default(), output, work),
        Format::Json => write_json::<JsonArray>(rows, output, work),
        Format::Ndjson => write_json::<LineDelimited>(rows, output, work),
        Format::Parquet => parquet::write(rows, output, work),
        Format::Arrow => arrow_file::write(rows, output, work),
        Format::ArrowStream => arrow_stream::write(rows, output, work),
        Format::Excel => excel::write(rows, folder, output, work),
    }
}

/// Writes the rows as a text.
pub(super) fn write_text_as(
    format: TextFormat,
    rows: &mut Rows<'_>,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    match format {
        TextFormat::Csv => write_csv(rows, &CsvWriting::default(), output, work),
        TextFormat::Json => write_json::<JsonArray>(rows, output, work),
        TextFormat::Ndjson => write_json::<LineDelimited>(rows, output, work),
    }
}

/// Where the bytes of a file go.
pub(super) type Output<'a> = &'a mut (dyn Write + Send);

/// Missing values are empty fields. Lists and structs have no place in CSV.
fn write_csv(
    rows: &mut Rows<'_>,
    options: &CsvWriting,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    let fields = rows.schema().fields();
    if let Some(nested) = fields.iter().find(|field| field.data_type().is_nested()) {
        let name = Shown(nested.name());
        return Err(unwritable(format!(
            "column {name} holds lists or structs, for which CSV has no place; take its parts apart in a `sql` step, or write JSON or Parquet"
        )));
    }
    if fields.is_empty() {
        return Err(unwritable(
            "a table without columns cannot be CSV".to_owned(),
        ));
    }
    let mut writer = csv::WriterBuilder::new()
        .with_header(options.header)
        .with_delimiter(options.delimiter.byte())
        .with_quote(options.quote.byte())
        .build(output);
    // The header goes out with the first rows, which an empty table lacks.
    let mut next = Some(RecordBatch::new_empty(rows.schema().clone()));
    while let Some(batch) = next {
        let written = writer.write(&batch);
        written.map_err(|error| unwritable(error.to_string()))?;
        next = rows.next(work)?;
    }
    Ok(())
}

/// Missing values are `null`, so that every row names every column.
fn write_json<F: JsonFormat>(
    rows: &mut Rows<'_>,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    let builder = json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, F>(output);
    while let Some(batch) = rows.next(work)? {
        let written = writer.write(&batch);
        written.map_err(|error| unwritable(error.to_string()))?;
    }
    let finished = writer.finish();
    finished.map_err(|error| unwritable(error.to_string()))
}

pub(super) fn unwritable(message: String) -> TableError {
    TableError::refused("unwritable", message)
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::ColumnType;

    use super::*;
    use crate::tables::tests::{Place, shown};

    const COLUMNS: [(&str, ColumnType); 7] = [
        ("text", ColumnType::String),
        ("whole", ColumnType::Integer),
        ("number", ColumnType::Number),
        ("exact", ColumnType::Decimal),
        ("flag", ColumnType::Boolean),
        ("day", ColumnType::Date),
        ("at", ColumnType::Datetime),
    ];

    fn typed(place: &Place) -> Table {
        place.put(
            "typed.csv",
            "text,whole,number,exact,flag,day,at\n\
             \"a, \"\"b\"\"\nø\",-9223372036854775808,0.1,12345678901234567890.123456789,true,2026-11-24,2026-11-24T10:00:00.25Z\n\
             ,,,,,,\n\
             0150,7,1e300,-0.000000001,false,0001-01-01,9999-12-31T23:59:59Z\n",
        );
        place.read_as("typed.csv", Some(&COLUMNS)).unwrap()
    }

    #[test]
    fn every_type_outlives_every_format() {
        let place = Place::new();
        let table = typed(&place);
        let expected = shown(&table);
        assert_eq!(expected.len(), 4);
        for file in ["out.csv", "out.json", "out.ndjson"] {
            place.write(&table, file).unwrap();
            assert_eq!(place.shown_as(file, &COLUMNS), expected, "{file}");
        }
        place.write(&table, "out.parquet").unwrap();
        assert_eq!(place.shown("out.parquet"), expected);
    }

    #[test]
    fn files_read_as_people_expect() {
        let place = Place::new();
        let table = typed(&place);
        place.write(&table, "out.csv").unwrap();
        let text = place.text("out.csv");
        assert!(
            text.starts_with("text,whole,number,exact,flag,day,at\n\"a, "),
            "{text}"
        );
        assert!(
            text.contains(",true,2026-11-24,2026-11-24T10:00:00.250Z\n,,,,,,\n"),
            "{text}"
        );

        place.write(&table, "out.ndjson").unwrap();
        let text = place.text("out.ndjson");
        let second = text.lines().nth(1).unwrap();
        assert_eq!(
            second,
            r#"{"text":null,"whole":null,"number":null,"exact":null,"flag":null,"day":null,"at":null}"#
        );
    }

    #[test]
    fn a_table_without_rows_is_a_file_with_its_columns() {
        let place = Place::new();
        place.put("empty.csv", "a,b\n");
        let table = place.read("empty.csv").unwrap();
        for (file, expected) in [("out.csv", "a,b\n"), ("out.json", "[]"), ("out.ndjson", "")] {
            place.write(&table, file).unwrap();
            assert_eq!(place.text(file), expected);
        }
        place.write(&table, "out.parquet").unwrap();
        assert_eq!(place.shown("out.parquet"), ["a: Utf8, b: Utf8"]);
    }

    #[test]
    fn nested_columns_outlive_json_and_parquet_and_are_refused_for_csv() {
        let place = Place::new();
        place.put(
            "in.ndjson",
            "{\"id\":1,\"tags\":[\"x\"],\"at\":{\"lat\":1.5}}\n{\"id\":2}\n",
        );
        let table = place.read("in.ndjson").unwrap();
        for file in ["out.json", "out.ndjson", "out.parquet"] {
            place.write(&table, file).unwrap();
            assert_eq!(place.shown(file), shown(&table), "{file}");
        }
        place.put("out.csv", "old");
        let error = place.write(&table, "out.csv").unwrap_err().to_string();
        assert!(
            error.starts_with("column `tags` holds lists or structs"),
            "{error}"
        );
        assert_eq!(place.text("out.csv"), "old");
    }

    #[test]
    fn an_ending_that_says_nothing_needs_a_format() {
        let place = Place::new();
        let table = typed(&place);
        let error = place.write(&table, "out.txt").unwrap_err().to_string();
        assert!(error.contains("`out.txt`"), "{error}");
        place.put("in.txt", "a\n");
        assert!(place.refusal("in.txt").contains("give it as `format`"));
        assert_eq!(place.write(&table, "out.CSV").unwrap(), Format::Csv);
    }
}
