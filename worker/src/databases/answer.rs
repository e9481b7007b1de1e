//! The rows of an answer on their way into a table.

use std::sync::Arc;

use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
};

use super::{
    cell::Cell,
    column::Column,
    error::{DatabaseError, Place},
    kind::Kind,
};
use crate::tables::{Collector, Engine, Table};

/// The most columns that an answer may have.
const COLUMNS_MAX: usize = 2_000;

/// A table that is filled row by row with what a database answers, within the
/// memory for tables.
pub(super) struct Answer<'e> {
    engine: &'e Engine,
    names: Vec<String>,
    columns: Vec<Column>,
    /// There with the first batch: by then every column knows its type.
    table: Option<Collector>,
    rows: u64,
    waiting: usize,
    bytes: usize,
}

impl<'e> Answer<'e> {
    const ROWS_MAX: usize = 8192;
    const BYTES_MAX: usize = 8 << 20;

    /// An empty table with these columns.
    pub(super) fn new(
        engine: &'e Engine,
        columns: Vec<(String, Kind)>,
    ) -> Result<Self, DatabaseError> {
        if columns.len() > COLUMNS_MAX {
            let message = format!("an answer has at most {COLUMNS_MAX} columns");
            return Err(DatabaseError::refused("too_many_columns", message));
        }
        if columns.is_empty() {
            let message = "the statement answers no rows: `execute` is for what changes something";
            return Err(DatabaseError::refused("no_columns", message));
        }
        for (index, (name, _)) in columns.iter().enumerate() {
            let is_same = |(other, _): &(String, Kind)| other == name;
            if columns[..index].iter().any(is_same) {
                let message =
                    format!("two columns have the name `{name}`: give one another, with `as`");
                return Err(DatabaseError::refused("duplicate_column", message));
            }
        }
        let (names, kinds): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        Ok(Self {
            engine,
            names,
            columns: kinds.into_iter().map(Column::new).collect(),
            table: None,
            rows: 0,
            waiting: 0,
            bytes: 0,
        })
    }

    /// Takes a row, a value for each of `kinds`: what the database answers, or why
    /// it cannot be carried.
    pub(super) fn take_row<'v>(
        &mut self,
        kinds: &[Kind],
        value: impl Fn(usize, &Kind) -> Result<Result<Cell<'v>, String>, DatabaseError>,
    ) -> Result<(), DatabaseError> {
        for (index, kind) in kinds.iter().enumerate() {
            let cell = value(index, kind)?.map_err(|reason| {
                DatabaseError::value("value_cannot_be_carried", self.place(index), reason)
            })?;
            self.push(index, cell)?;
        }
        self.end_row()
    }

    /// Where the value that comes next for this column stands.
    fn place(&self, column: usize) -> Place<'_> {
        Place {
            column: &self.names[column],
            row: self.rows + 1,
        }
    }

    /// Puts a value into a column of the row under construction.
    fn push(&mut self, column: usize, cell: Cell<'_>) -> Result<(), DatabaseError> {
        self.bytes += match &cell {
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            Cell::List(items) => items.len() * 16,
            _ => 8,
        };
        let pushed = self.columns[column].push(cell);
        pushed.map_err(|reason| {
            DatabaseError::value("value_cannot_be_carried", self.place(column), reason)
        })
    }

    /// Ends the row under construction: every column has got its value.
    fn end_row(&mut self) -> Result<(), DatabaseError> {
        self.rows += 1;
        self.waiting += 1;
        if self.waiting == Self::ROWS_MAX || self.bytes >= Self::BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// The table.
    pub(super) fn finish(mut self) -> Result<Table, DatabaseError> {
        self.flush()?;
        let table = self.table.take();
        let table = table.expect("flushing has made it");
        Ok(table.finish()?)
    }

    fn flush(&mut self) -> Result<(), DatabaseError> {
        (self.waiting, self.bytes) = (0, 0);
        let arrays = self.columns.iter_mut().map(Column::finish);
        let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(fault)?;
        let fields = self.names.iter().zip(&self.columns);
        let fields = fields.map(|(name, column)| Field::new(name, column.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays);
        let batch = batch.map_err(|error| fault(error.to_string()))?;
        let engine = self.engine;
        let table = self.table.get_or_insert_with(|| engine.collector(schema));
        Ok(table.push(batch)?)
    }
}

fn fault(message: String) -> DatabaseError {
    DatabaseError::passing("engine_failed", message)
}
