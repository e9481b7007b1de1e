//! Parquet files, which bring their own columns and types.

use std::{fs::File, sync::Arc};

use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
};

use super::{
    Table, TableError,
    batches::COLUMNS_MAX,
    error::Shown,
    files::SourceFile,
    memory::Collector,
    read::{Source, Work},
};

const BATCH_ROWS: usize = 8192;

/// Reads `files`, which must all have the same columns, into one table.
pub(super) fn read(source: &Source<'_>) -> Result<Table, TableError> {
    let (files, work) = (source.files, source.work);
    let mut table: Option<(SchemaRef, Collector)> = None;
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.open_plain()?)
            .map_err(|error| unreadable(file, &error))?;
        let (schema, table) = match &mut table {
            Some((schema, table)) => (schema, table),
            None => {
                let schema = columns(file, reader.schema())?;
                let collector = Collector::new(&work.budget, Arc::clone(&schema));
                let (schema, collector) = table.insert((schema, collector));
                (schema, collector)
            }
        };
        let places = places(schema, reader.schema(), file, &files[0])?;
        read_into(table, schema, &places, reader, file, work)?;
    }
    let table = table.ok_or_else(|| TableError::Fault {
        message: "there was no file to read".to_owned(),
    })?;
    Ok(table.1.finish())
}

fn read_into(
    table: &mut Collector,
    schema: &SchemaRef,
    places: &[usize],
    reader: ParquetRecordBatchReaderBuilder<File>,
    file: &SourceFile,
    work: &Work,
) -> Result<(), TableError> {
    let rows = reader.with_batch_size(BATCH_ROWS).build();
    for batch in rows.map_err(|error| unreadable(file, &error))? {
        work.check()?;
        let batch = batch.map_err(|error| unreadable(file, &error))?;
        let columns = places.iter().map(|place| Arc::clone(batch.column(*place)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options);
        table.push(batch.map_err(|error| unreadable(file, &error))?)?;
    }
    Ok(())
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

fn unreadable(file: &SourceFile, error: &dyn std::fmt::Display) -> TableError {
    TableError::refused(
        "bad_file",
        format!("{} is not a readable Parquet file: {error}", file.shown),
    )
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::ColumnType;

    use crate::tables::tests::Place;

    #[test]
    fn several_files_are_one_table_where_their_columns_are_the_same() {
        let place = Place::new();
        for (name, text) in [
            ("1", "a,b\n1,x\n"),
            ("2", "b,a\ny,2\n"),
            ("type", "a,b\n1.5,x\n"),
            ("less", "a\n1\n"),
            ("more", "a,b,c\n1,x,2\n"),
        ] {
            place.put("in.csv", text);
            let table = place.read("in.csv").unwrap();
            place.write(&table, &format!("{name}.parquet")).unwrap();
        }
        assert_eq!(
            place.shown("[12].parquet"),
            ["a: Int64, b: Utf8", "1 x", "2 y"]
        );
        for (pattern, expected) in [
            (
                "[1t]*.parquet",
                "type.parquet: column `a` is Float64, but Int64 in 1.parquet, which is read with it",
            ),
            (
                "[1l]*.parquet",
                "less.parquet: there is no column `b`, which 1.parquet has",
            ),
            (
                "[1m]*.parquet",
                "more.parquet: column `c` is not in 1.parquet, which is read with it",
            ),
        ] {
            assert_eq!(place.refusal(pattern), expected);
        }
    }

    #[test]
    fn a_file_that_is_not_parquet_is_named() {
        let place = Place::new();
        for text in ["", "a,b\n", "PAR1 and so on PAR1"] {
            place.put("a.parquet", text);
            let error = place.refusal("a.parquet");
            assert!(
                error.starts_with("a.parquet is not a readable Parquet file"),
                "{error}"
            );
        }
        let error = place.refusal_as("a.parquet", &[("a", ColumnType::Integer)]);
        assert!(
            error.contains("`columns` cannot be given for Parquet"),
            "{error}"
        );
    }
}
