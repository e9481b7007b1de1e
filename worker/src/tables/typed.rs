//! Files that bring their own columns and types: Parquet and Arrow.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use datafusion::arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

use super::{
    Table, TableError,
    batches::COLUMNS_MAX,
    error::Shown,
    files::SourceFile,
    memory::Collector,
    read::{Source, Work},
};

/// The most rows that are taken out of a file at once, where that can be said.
pub(super) const BATCH_ROWS: usize = 8192;

/// A file of which the columns are known.
pub(super) struct Opened {
    pub(super) schema: SchemaRef,
    pub(super) batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

/// Reads the files, which must all have the same columns, into one table.
/// `open` opens one of the format that is called `name`.
pub(super) fn read(
    source: &Source<'_>,
    name: &str,
    open: fn(&SourceFile, &Work) -> Result<Opened, TableError>,
) -> Result<Table, TableError> {
    let mut table: Option<(SchemaRef, Collector)> = None;
    for (position, file) in source.files.iter().enumerate() {
        let mut opened = guarded(file, name, || open(file, source.work))?;
        let (schema, table) = match &mut table {
            Some((schema, table)) => (schema, table),
            None => {
                let schema = columns(file, &opened.schema)?;
                let collector =
                    Collector::of_files(&source.work.budget, &schema, &source.partitions);
                let (schema, collector) = table.insert((schema, collector));
                (schema, collector)
            }
        };
        table.start_file(position);
        let places = places(schema, &opened.schema, file, &source.files[0])?;
        while let Some(batch) = guarded(file, name, || Ok(opened.batches.next()))? {
            source.work.check()?;
            let batch = batch.map_err(|error| file.unreadable(name, &error))?;
            let columns = places.iter().map(|place| Arc::clone(batch.column(*place)));
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch =
                RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options);
            table.push(batch.map_err(|error| file.unreadable(name, &error))?)?;
        }
    }
    let table = table.ok_or_else(|| TableError::Fault {
        message: "there was no file to read".to_owned(),
    })?;
    Ok(table.1.finish())
}

/// Does `work` with a library that may panic where a file is damaged.
pub(super) fn guarded<T>(
    file: &SourceFile,
    name: &str,
    work: impl FnOnce() -> Result<T, TableError>,
) -> Result<T, TableError> {
    // Nothing of what the library has at hand is used after a panic.
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(file.unreadable(name, &"it is damaged")))
}

/// The columns of a table: those of its first file, each of which may have
/// missing values, since they may be missing in another file.
fn columns(file: &SourceFile, schema: &Schema) -> Result<SchemaRef, TableError> {
    if schema.fields().len() > COLUMNS_MAX {
        return Err(TableError::refused(
            "bad_file",
            format!("{} has more than {COLUMNS_MAX} columns", file.shown),
        ));
    }
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    let fields: Vec<Field> = schema.fields().iter().map(field).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Where in `found` the columns of `wanted` stand.
fn places(
    wanted: &Schema,
    found: &Schema,
    file: &SourceFile,
    first: &SourceFile,
) -> Result<Vec<usize>, TableError> {
    let differs = |reason: String| {
        let file = &file.shown;
        TableError::refused("columns_differ", format!("{file}: {reason}"))
    };
    let known = |field: &Arc<Field>| wanted.index_of(field.name()).is_ok();
    if let Some(extra) = found.fields().iter().find(|field| !known(field)) {
        let (name, first) = (Shown(extra.name()), &first.shown);
        return Err(differs(format!(
            "column {name} is not in {first}, which is read with it"
        )));
    }
    let place = |field: &Arc<Field>| {
        let (name, first) = (Shown(field.name()), &first.shown);
        let place = found.index_of(field.name());
        let place =
            place.map_err(|_| differs(format!("there is no column {name}, which {first} has")))?;
        let (expected, given): (&DataType, &DataType) =
            (field.data_type(), found.field(place).data_type());
        if expected != given {
            return Err(differs(format!(
                "column {name} is {given}, but {expected} in {first}, which is read with it"
            )));
        }
        Ok(place)
    };
    wanted.fields().iter().map(place).collect()
}
