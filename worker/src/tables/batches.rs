//! Rows of texts on their way into a table.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::filter_record_batch,
    datatypes::{Field, Schema, SchemaRef},
};
use indexmap::IndexMap;

use super::{
    TableError,
    column::{Checked, Column, ColumnKind, Room},
    error::Shown,
    inferred::Inferred,
    sink::Sink,
    value::Reason,
};

/// The columns of a table, by name and in order.
pub(super) type Columns = IndexMap<String, ColumnKind>;

/// The most columns that a file may have.
pub(super) const COLUMNS_MAX: usize = 2_000;

/// The names of the columns of one file, in their order.
pub(super) struct Header<'a> {
    pub(super) names: &'a [String],
    /// The file, as its flow names it.
    pub(super) file: &'a str,
}

impl Header<'_> {
    /// Where in a row the `wanted` columns stand.
    pub(super) fn places<'n>(
        &self,
        wanted: impl Iterator<Item = &'n String>,
    ) -> Result<Vec<usize>, TableError> {
        let place = |name: &String| {
            let place = self.names.iter().position(|header| header == name);
            place.ok_or_else(|| {
                let there = self.names.join(", ");
                let (file, name) = (self.file, Shown(name));
                let message = format!("{file}: there is no column {name}, only {there}");
                TableError::refused("no_such_column", message)
            })
        };
        wanted.map(place).collect()
    }

    /// Checks that there are no other columns than in the `first` file.
    pub(super) fn check_known(
        &self,
        columns: &IndexMap<String, Inferred>,
        first: &str,
    ) -> Result<(), TableError> {
        let mut names = self.names.iter();
        let Some(name) = names.find(|name| !columns.contains_key(*name)) else {
            return Ok(());
        };
        let (file, name) = (self.file, Shown(name));
        let message = format!("{file}: column {name} is not in {first}, which is read with it");
        Err(TableError::refused("columns_differ", message))
    }
}

/// What becomes of the values of a column.
enum Slot {
    /// They are handed on.
    Wanted(Column),
    /// They must fit, and nothing else.
    Checked(Checked),
    /// Nothing: they are known to fit.
    Skipped,
}

impl Slot {
    fn push(&mut self, text: &str) -> Result<(), Reason> {
        match self {
            Self::Wanted(column) => column.push(text),
            Self::Checked(checked) => checked.check(text),
            Self::Skipped => Ok(()),
        }
    }

    fn push_null(&mut self) {
        if let Self::Wanted(column) = self {
            column.push_null();
        }
    }

    fn finish(&mut self) -> Option<Result<ArrayRef, String>> {
        match self {
            Self::Wanted(column) => Some(column.finish()),
            Self::Checked(_) | Self::Skipped => None,
        }
    }
}

/// Rows that are put together out of texts, one after the other.
pub(super) struct RowBuilder<'c> {
    names: &'c Columns,
    schema: SchemaRef,
    columns: Vec<Slot>,
    /// Which columns have a value in the row under construction.
    filled: Vec<bool>,
    /// Which rows stay; empty as long as all do.
    kept: Vec<bool>,
    rows: usize,
    bytes: usize,
}

impl<'c> RowBuilder<'c> {
    /// Rows of these columns, of which the `wanted` ones are kept. Where they are
    /// `declared`, the values of the others must fit as well.
    pub(super) fn new(
        columns: &'c Columns,
        declared: bool,
        wanted: &[bool],
        room: Room,
    ) -> Result<Self, TableError> {
        let chosen = columns.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        let schema = schema(chosen.map(|(column, _)| column));
        let builders = columns
            .values()
            .zip(wanted)
            .map(|(kind, wanted)| match kind {
                kind if *wanted => Column::new(kind, room).map(Slot::Wanted),
                ColumnKind::Plain(kind) if declared => Ok(Slot::Checked(Checked(*kind))),
                _ => Ok(Slot::Skipped),
            });
        Ok(Self {
            names: columns,
            columns: builders.collect::<Result<_, _>>().map_err(fault)?,
            filled: vec![false; columns.len()],
            kept: Vec::new(),
            rows: 0,
            bytes: 0,
            schema,
        })
    }

    /// Puts a value into a column of the row under construction, or says what
    /// is wrong with it.
    pub(super) fn set(&mut self, column: usize, text: Option<&str>) -> Result<(), String> {
        if self.filled[column] {
            return Err(format!("column {} is there twice", self.name(column)));
        }
        self.filled[column] = true;
        let Some(text) = text else {
            self.columns[column].push_null();
            return Ok(());
        };
        self.bytes += text.len();
        let pushed = self.columns[column].push(text);
        pushed.map_err(|reason| {
            self.columns[column].push_null();
            format!("column {}: {} {reason}", self.name(column), Shown(text))
        })
    }

    /// Puts a value of each row into a column, as long as they fit. The rows are
    /// there when every column is filled and [`Self::end_rows`] says so.
    pub(super) fn fill<'v>(
        &mut self,
        column: usize,
        values: impl Iterator<Item = Option<&'v str>>,
    ) -> Result<(), Reason> {
        let column = &mut self.columns[column];
        if matches!(column, Slot::Skipped) {
            return Ok(());
        }
        for value in values {
            match value {
                Some(text) => column.push(text)?,
                None => column.push_null(),
            }
        }
        Ok(())
    }

    /// Ends so many rows at once.
    pub(super) fn end_rows(&mut self, count: usize) {
        self.rows += count;
    }

    fn name(&self, column: usize) -> &str {
        let column = self.names.get_index(column);
        column.map_or("", |(name, _)| name.as_str())
    }

    /// Ends the row under construction. Columns without a value have none.
    pub(super) fn end_row(&mut self) {
        if !self.kept.is_empty() {
            self.kept.push(true);
        }
        self.close_row();
    }

    /// Takes the row under construction out again.
    pub(super) fn drop_row(&mut self) {
        self.kept.resize(self.rows, true);
        self.kept.push(false);
        self.close_row();
    }

    fn close_row(&mut self) {
        for (column, filled) in self.columns.iter_mut().zip(&mut self.filled) {
            if !std::mem::replace(filled, false) {
                column.push_null();
            }
        }
        self.rows += 1;
    }

    /// The rows so far, if there are some; they are gone from here.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, TableError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let arrays = self.columns.iter_mut().filter_map(Slot::finish);
        let arrays = arrays.collect::<Result<_, _>>().map_err(fault)?;
        // A table may have rows and no columns: JSON objects without members.
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| fault(error.to_string()))?;
        (self.rows, self.bytes) = (0, 0);
        let kept = std::mem::take(&mut self.kept);
        if kept.is_empty() {
            return Ok(Some(batch));
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(kept));
        batch.map(Some).map_err(|error| fault(error.to_string()))
    }
}

/// Rows of texts that are handed on a batch at a time.
pub(super) struct Batches<'s, 'a, 'c> {
    rows: RowBuilder<'c>,
    sink: &'s mut Sink<'a>,
}

impl<'s, 'a, 'c> Batches<'s, 'a, 'c> {
    const ROWS_MAX: usize = 8192;
    const BYTES_MAX: usize = 2 << 20;

    /// Takes rows with these columns. Where they are `declared`, the values of
    /// those that nobody wants must fit as well.
    pub(super) fn new(
        columns: &'c Columns,
        declared: bool,
        sink: &'s mut Sink<'a>,
    ) -> Result<Self, TableError> {
        let room = Room {
            rows: Self::ROWS_MAX,
            text: 0,
        };
        let rows = RowBuilder::new(columns, declared, sink.wanted(), room)?;
        Ok(Self { rows, sink })
    }

    /// From here on rows come from the file at this position.
    pub(super) fn start_file(&mut self, file: usize) -> Result<(), TableError> {
        self.flush()?;
        self.sink.start_file(file);
        Ok(())
    }

    /// Puts a value into a column of the row under construction, or says what
    /// is wrong with it.
    pub(super) fn set(&mut self, column: usize, text: Option<&str>) -> Result<(), String> {
        self.rows.set(column, text)
    }

    /// Ends the row under construction. Columns without a value have none.
    pub(super) fn end_row(&mut self) -> Result<(), TableError> {
        self.rows.end_row();
        self.flush_full()
    }

    /// Takes the row under construction out again.
    pub(super) fn drop_row(&mut self) -> Result<(), TableError> {
        self.rows.drop_row();
        self.flush_full()
    }

    fn flush_full(&mut self) -> Result<(), TableError> {
        if self.rows.rows == Self::ROWS_MAX || self.rows.bytes >= Self::BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands on the rows that are left.
    pub(super) fn finish(mut self) -> Result<(), TableError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), TableError> {
        match self.rows.take()? {
            None => Ok(()),
            Some(batch) => self.sink.push(&batch),
        }
    }
}

/// The columns as tables have them.
pub(super) fn schema_of(columns: &Columns) -> SchemaRef {
    schema(columns.iter())
}

fn schema<'c>(columns: impl Iterator<Item = (&'c String, &'c ColumnKind)>) -> SchemaRef {
    let field = |(name, kind): (&String, &ColumnKind)| Field::new(name, kind.data_type(), true);
    Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>()))
}

fn fault(message: String) -> TableError {
    TableError::Fault { message }
}
