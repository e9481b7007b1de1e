//! A table into folders that are named by the values of some of its columns.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, Schema, SchemaRef},
    error::ArrowError,
};
use indexmap::IndexMap;

use super::{NULL, escaped};
use crate::tables::{
    Table, TableError, error::Shown, memory::Collector, read::Work, write::unwritable,
};

/// The most folders that one table is spread over.
const PARTITIONS_MAX: usize = 10_000;

/// Whether a folder of this name belongs to a table that is spread by
/// `columns`.
pub(in crate::tables) fn is_partition_by(columns: &[String], name: &str) -> bool {
    let first = columns.first().map(|first| escaped(first));
    let named = name.split_once('=').map(|(name, _)| name);
    first.as_deref() == named
}

/// The values that a folder stands for, and which rows of which batches are in
/// it.
type Parts = IndexMap<Vec<Option<String>>, Vec<(usize, Vec<u32>)>>;

/// Spreads `table` over folders, each with one file of this `ending`. `put`
/// writes a part of it into the file of this name and says how many bytes that
/// has; how many bytes they all have.
pub(in crate::tables) fn write(
    table: &Table,
    columns: &[String],
    ending: &str,
    work: &Work,
    mut put: impl FnMut(&str, &Table) -> Result<u64, TableError>,
) -> Result<u64, TableError> {
    let places = places(table.schema(), columns)?;
    let rest: Vec<usize> = (0..table.schema().fields().len())
        .filter(|place| !places.contains(place))
        .collect();
    if rest.is_empty() {
        let message = "`partition_by` names every column, so that nothing is left for the files";
        return Err(unwritable(message.to_owned()));
    }
    let schema = table.schema().project(&rest).map_err(fault)?;
    let schema: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let mut bytes = 0;
    for (values, rows) in parts(table, &places, work)? {
        let mut part = Collector::new(&work.budget, Arc::clone(&schema));
        for (batch, rows) in rows {
            let batch = table.batches()[batch].project(&rest).map_err(fault)?;
            let batch = take_record_batch(&batch, &UInt32Array::from(rows)).map_err(fault)?;
            part.push(batch)?;
        }
        let named = columns.iter().zip(&values).map(|(column, value)| {
            let value = value.as_deref().map_or(NULL.to_owned(), escaped);
            format!("{}={value}", escaped(column))
        });
        let inside: Vec<String> = named.collect();
        let name = format!("{}/part.{ending}", inside.join("/"));
        bytes += put(&name, &part.finish())?;
    }
    Ok(bytes)
}

/// Where the columns stand by which a table is spread.
fn places(schema: &Schema, columns: &[String]) -> Result<Vec<usize>, TableError> {
    let place = |column: &String| {
        let name = Shown(column);
        let place = schema.index_of(column).map_err(|_| {
            let message = format!("`partition_by` names a column {name}, which the table has not");
            TableError::refused("no_such_column", message)
        })?;
        let kind = schema.field(place).data_type();
        let can_name = kind.is_integer()
            || kind.is_string()
            || matches!(
                kind,
                DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)
            );
        if !can_name && schema.fields().len() > columns.len() {
            return Err(unwritable(format!(
                "column {name} is {kind}, by which no folders are named; make it a text in a `sql` step"
            )));
        }
        Ok(place)
    };
    columns.iter().map(place).collect()
}

fn parts(table: &Table, places: &[usize], work: &Work) -> Result<Parts, TableError> {
    let mut parts = Parts::new();
    for (number, batch) in table.batches().iter().enumerate() {
        work.check()?;
        let texts = texts(batch, places).map_err(fault)?;
        for row in 0..batch.num_rows() {
            let value = |column: &StringArray| {
                let is_given = column.is_valid(row) && !column.value(row).is_empty();
                is_given.then(|| column.value(row).to_owned())
            };
            let values: Vec<Option<String>> = texts.iter().map(value).collect();
            let rows = parts.entry(values).or_default();
            match rows.last_mut() {
                Some((last, rows)) if *last == number => rows.push(row as u32),
                _ => rows.push((number, vec![row as u32])),
            }
            if parts.len() > PARTITIONS_MAX {
                return Err(unwritable(format!(
                    "the columns of `partition_by` have more than {PARTITIONS_MAX} values, for each of which there would be a folder"
                )));
            }
        }
    }
    Ok(parts)
}

fn texts(batch: &RecordBatch, places: &[usize]) -> Result<Vec<StringArray>, ArrowError> {
    let text = |place: &usize| {
        let column = cast(batch.column(*place), &DataType::Utf8)?;
        Ok(column.as_string().clone())
    };
    places.iter().map(text).collect()
}

fn fault(error: ArrowError) -> TableError {
    TableError::Fault {
        message: error.to_string(),
    }
}
