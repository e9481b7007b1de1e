//! A table into folders that are named by the values of some of its columns.

use std::{collections::HashSet, sync::Arc};

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, Schema, SchemaRef},
    error::ArrowError,
};
use indexmap::IndexMap;
use millstream_shared::flow::step::Format;

use super::{NULL, escaped};
use crate::tables::{
    Feed, Table, TableError,
    error::Shown,
    memory::{Collector, bytes_of},
    publish_folder::Kind,
    read::Work,
    write::unwritable,
};

/// The most folders that one table is spread over.
const PARTITIONS_MAX: usize = 10_000;

/// Whether an entry belongs to a table that is spread by `columns`, or was
/// spread by the same first column and others. It lies in so many folders.
pub(in crate::tables) fn is_part_of(
    columns: &[String],
    depth: usize,
    name: &str,
    kind: Kind,
) -> bool {
    match kind {
        Kind::Folder => {
            let first = columns.first().map(|first| escaped(first));
            let named = name.split_once('=').map(|(name, _)| name);
            named.is_some() && (depth > 0 || first.as_deref() == named)
        }
        Kind::File => depth > 0 && name.starts_with(PART) && Format::of_path(name).is_some(),
        Kind::Other => false,
    }
}

/// What the names of the files in such folders start with.
const PART: &str = "part.";

/// The values that a folder stands for.
type Values = Vec<Option<String>>;

/// What was written.
pub(in crate::tables) struct Spread {
    pub(in crate::tables) written: u64,
    pub(in crate::tables) rows: u64,
}

/// Spreads the rows over folders, each with one file of this `ending`. `put`
/// writes a part of them into the file of this name and says how many bytes that
/// has.
///
/// The rows are read once to see which folders there are, and once more for
/// each lot of folders whose rows fit into memory together.
pub(in crate::tables) fn write(
    feed: &Feed,
    columns: &[String],
    ending: &str,
    work: &Work,
    mut put: impl FnMut(&str, &Table) -> Result<u64, TableError>,
) -> Result<Spread, TableError> {
    let places = places(feed.schema(), columns)?;
    let rest: Vec<usize> = (0..feed.schema().fields().len())
        .filter(|place| !places.contains(place))
        .collect();
    if rest.is_empty() {
        let message = "`partition_by` names every column, so that nothing is left for the files";
        return Err(unwritable(message.to_owned()));
    }
    let schema = feed.schema().project(&rest).map_err(fault)?;
    let schema: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let sizes = sizes(feed, &places, work)?;
    let mut spread = Spread {
        written: 0,
        rows: sizes.values().map(|(rows, _)| rows).sum(),
    };
    for lot in lots(&sizes, work.budget.piece().bytes()) {
        let empty = |values: &Values| {
            let part = Collector::new(&work.budget, Arc::clone(&schema));
            (values.clone(), part)
        };
        let mut parts: IndexMap<Values, Collector> = lot.into_iter().map(empty).collect();
        for_each_part(feed, &places, work, |values, rows| {
            let Some(part) = parts.get_mut(values) else {
                return Ok(());
            };
            part.push(rows.project(&rest).map_err(fault)?)
        })?;
        for (values, part) in parts {
            let named = columns.iter().zip(&values).map(|(column, value)| {
                let value = value.as_deref().map_or(NULL.to_owned(), escaped);
                format!("{}={value}", escaped(column))
            });
            let inside: Vec<String> = named.collect();
            let name = format!("{}/part.{ending}", inside.join("/"));
            spread.written += put(&name, &part.finish()?)?;
        }
    }
    Ok(spread)
}

/// How many rows each folder gets, and about how many bytes.
fn sizes(
    feed: &Feed,
    places: &[usize],
    work: &Work,
) -> Result<IndexMap<Values, (u64, u64)>, TableError> {
    let mut sizes: IndexMap<Values, (u64, u64)> = IndexMap::new();
    for_each_part(feed, places, work, |values, rows| {
        let size = match sizes.get_mut(values) {
            Some(size) => size,
            None => sizes.entry(values.clone()).or_default(),
        };
        size.0 += rows.num_rows() as u64;
        size.1 += bytes_of(rows, &mut HashSet::new()) as u64;
        if sizes.len() > PARTITIONS_MAX {
            return Err(unwritable(format!(
                "the columns of `partition_by` have more than {PARTITIONS_MAX} values, for each of which there would be a folder"
            )));
        }
        Ok(())
    })?;
    Ok(sizes)
}

/// Puts folders together as long as their rows take no more than so many bytes.
fn lots(sizes: &IndexMap<Values, (u64, u64)>, bytes_max: u64) -> Vec<Vec<&Values>> {
    let mut lots: Vec<Vec<&Values>> = Vec::new();
    let mut taken = 0;
    for (values, (_, bytes)) in sizes {
        taken += bytes;
        match lots.last_mut() {
            Some(lot) if taken <= bytes_max => lot.push(values),
            _ => {
                taken = *bytes;
                lots.push(vec![values]);
            }
        }
    }
    lots
}

/// Calls `act` with the rows of each batch that belong into one folder, in
/// their order.
fn for_each_part(
    feed: &Feed,
    places: &[usize],
    work: &Work,
    mut act: impl FnMut(&Values, &RecordBatch) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let mut reader = feed.open()?;
    while let Some(batch) = reader.next().transpose()? {
        work.check()?;
        let texts = texts(&batch, places).map_err(fault)?;
        let mut parts: IndexMap<Values, Vec<u32>> = IndexMap::new();
        for row in 0..batch.num_rows() {
            let value = |column: &StringArray| {
                let is_given = column.is_valid(row) && !column.value(row).is_empty();
                is_given.then(|| column.value(row).to_owned())
            };
            let values: Values = texts.iter().map(value).collect();
            parts.entry(values).or_default().push(row as u32);
        }
        for (values, rows) in parts {
            let rows = take_record_batch(&batch, &UInt32Array::from(rows)).map_err(fault)?;
            act(&values, &rows)?;
        }
    }
    Ok(())
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
