//! Files that bring their own columns and types: Parquet and Arrow.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

use super::{
    TableError,
    batches::COLUMNS_MAX,
    error::Shown,
    files::SourceFile,
    read::{Source, Work},
    sink::Sink,
};

/// The most rows that are taken out of a file at once, where that can be said.
pub(super) const BATCH_ROWS: usize = 8192;

/// A file of which the columns are known.
pub(super) struct Opened {
    pub(super) schema: SchemaRef,
    /// Its rows, with those of its columns that were asked for, in any order.
    pub(super) batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

/// Opens a file, of which the columns of these names are wanted.
pub(super) type Open = fn(&SourceFile, &[&str], &Work) -> Result<Opened, TableError>;

/// Where in a file the columns called `wanted` stand. One that is not there is
/// named by who compares the columns.
pub(super) fn places(schema: &Schema, wanted: &[&str]) -> Vec<usize> {
    let places = wanted.iter();
    places
        .filter_map(|name| schema.index_of(name).ok())
        .collect()
}

/// The columns of the files, which must all have the same: those of the first.
pub(super) fn columns(
    source: &Source<'_>,
    name: &str,
    open: Open,
) -> Result<SchemaRef, TableError> {
    let first = source.files.first().ok_or_else(|| TableError::Fault {
        message: "there was no file to read".to_owned(),
    })?;
    let opened = guarded(first, name, || open(first, &[], source.work))?;
    if opened.schema.fields().len() > COLUMNS_MAX {
        return Err(TableError::refused(
            "bad_file",
            format!("{} has more than {COLUMNS_MAX} columns", first.shown),
        ));
    }
    // Each may have missing values, since there may be some in another file.
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    let fields: Vec<Field> = opened.schema.fields().iter().map(field).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Reads the files, which must all have the columns `own`. `open` opens one of
/// the format that is called `name`.
pub(super) fn read(
    source: &Source<'_>,
    own: &SchemaRef,
    name: &str,
    open: Open,
    sink: &mut Sink<'_>,
) -> Result<(), TableError> {
    let wanted = own.fields().iter().zip(sink.wanted());
    let wanted: Vec<&str> = wanted
        .filter_map(|(field, wanted)| wanted.then_some(field.name().as_str()))
        .collect();
    for (position, file) in source.files.iter().enumerate() {
        let mut opened = guarded(file, name, || open(file, &wanted, source.work))?;
        check_columns(own, &opened.schema, file, &source.files[0])?;
        sink.start_file(position);
        while let Some(batch) = guarded(file, name, || Ok(opened.batches.next()))? {
            source.work.check()?;
            let batch = batch.and_then(|batch| {
                let schema = batch.schema();
                let places = wanted.iter().map(|name| schema.index_of(name));
                batch.project(&places.collect::<Result<Vec<_>, _>>()?)
            });
            sink.push(&batch.map_err(|error| file.unreadable(name, &error))?)?;
        }
    }
    Ok(())
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

/// Checks that a file has the `wanted` columns and no others.
fn check_columns(
    wanted: &Schema,
    found: &Schema,
    file: &SourceFile,
    first: &SourceFile,
) -> Result<(), TableError> {
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
    for field in wanted.fields() {
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
    }
    Ok(())
}
