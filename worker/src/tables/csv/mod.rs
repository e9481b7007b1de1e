//! CSV files: UTF-8 with commas and a header line, unless the flow says
//! something else.
//!
//! An empty field is a missing value, quoted or not; empty lines do not count.
//! The rows are cut here and not by a library because an error has to name
//! the line that a row starts on, and a quote that is never closed.

mod rows;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;
use millstream_shared::flow::step::CsvReading;

use self::rows::{Next, Rows};
use super::{
    TableError,
    batches::{Batches, Columns},
    column::ColumnKind,
    inferred::Inferred,
    read::Source,
    rejects::Rejects,
    sink::Sink,
};

/// Reads these columns of the files.
pub(super) fn read(
    source: &Source<'_>,
    columns: &Columns,
    rejects: &mut Rejects,
    sink: &mut Sink<'_>,
) -> Result<(), TableError> {
    let by_default = CsvReading::default();
    let options = source.step.csv.as_ref().unwrap_or(&by_default);
    let declared = source.step.columns.is_some();
    // A file without a header has the declared columns in their order.
    let names = Some(columns).filter(|_| declared && !options.header);
    let mut table = Batches::new(columns, declared, sink)?;
    for (position, file) in source.files.iter().enumerate() {
        table.start_file(position)?;
        let mut rows = Rows::open(file, options, names, source.work)?;
        let places = rows.places(columns.keys())?;
        loop {
            let filled = match rows.advance()? {
                Next::End => break,
                Next::Bad(error) => Err(error),
                Next::Row => fill(&mut table, &rows, &places),
            };
            match filled {
                Ok(()) => table.end_row()?,
                Err(error) => {
                    rejects.add(error, rows.raw())?;
                    table.drop_row()?;
                }
            }
        }
    }
    table.finish()
}

fn fill(table: &mut Batches<'_, '_>, rows: &Rows<'_>, places: &[usize]) -> Result<(), TableError> {
    for (column, place) in places.iter().enumerate() {
        let set = table.set(column, rows.value(*place));
        set.map_err(|reason| rows.bad_row(reason))?;
    }
    Ok(())
}

/// The columns of the files, which must all have the same, typed by their
/// values.
pub(super) fn infer(source: &Source<'_>, rejects: &Rejects) -> Result<Columns, TableError> {
    let by_default = CsvReading::default();
    let options = source.step.csv.as_ref().unwrap_or(&by_default);
    let mut columns: IndexMap<String, Inferred> = IndexMap::new();
    let mut first = None;
    for file in source.files {
        let mut rows = Rows::open(file, options, None, source.work)?;
        if rows.header.is_empty() {
            continue;
        }
        if first.is_none() {
            let names = rows.header.iter().cloned();
            columns = names.map(|name| (name, Inferred::Nothing)).collect();
        }
        let first = first.get_or_insert(&file.shown);
        rows.names_of_file().check_known(&columns, first)?;
        let places = rows.places(columns.keys())?;
        loop {
            match rows.advance()? {
                Next::End => break,
                Next::Bad(error) => rejects.pass(error)?,
                Next::Row => {
                    for (inferred, place) in columns.values_mut().zip(&places) {
                        if let Some(value) = rows.value(*place) {
                            inferred.observe(value);
                        }
                    }
                }
            }
        }
    }
    let typed =
        |(name, inferred): (String, Inferred)| (name, ColumnKind::Plain(inferred.column_type()));
    Ok(columns.into_iter().map(typed).collect())
}
