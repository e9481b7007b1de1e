//! Where the rows of files go: the wanted columns of them, with those that the
//! folders of the files add.

use std::sync::Arc;

use datafusion::arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
    error::ArrowError,
};

use super::{TableError, partitions::Partitions};

/// Takes the rows of one file after the other.
pub(super) struct Sink<'a> {
    partitions: &'a Partitions,
    /// The wanted columns, as they are handed on.
    schema: SchemaRef,
    /// Where each of them comes from.
    from: Vec<From>,
    /// For each column of the files, whether it is wanted.
    wanted: Vec<bool>,
    /// Which file the rows come from.
    file: usize,
    push: Push<'a>,
}

/// Hands rows on.
pub(super) type Push<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<(), TableError>;

/// Where a column comes from.
enum From {
    /// From the rows: its place among those that are wanted.
    Rows(usize),
    /// From the name of a folder.
    Folder(usize),
}

impl<'a> Sink<'a> {
    /// Takes rows of files with the columns `own`, and hands on the `columns` at
    /// these places of all that there are; each where not given.
    pub(super) fn new(
        own: &SchemaRef,
        partitions: &'a Partitions,
        columns: Option<&[usize]>,
        push: Push<'a>,
    ) -> Result<Self, TableError> {
        let whole = partitions.extended(own);
        let all: Vec<usize> = (0..whole.fields().len()).collect();
        let columns = columns.unwrap_or(&all);
        let count = own.fields().len();
        let folders: Vec<usize> = partitions.given(own).map(|(place, _)| place).collect();
        let mut wanted = vec![false; count];
        for column in columns.iter().filter(|column| **column < count) {
            wanted[*column] = true;
        }
        let rank = |column: usize| wanted[..column].iter().filter(|wanted| **wanted).count();
        let from = columns
            .iter()
            .map(|column| match column.checked_sub(count) {
                None => From::Rows(rank(*column)),
                Some(folder) => From::Folder(folders[folder]),
            });
        Ok(Self {
            from: from.collect(),
            schema: Arc::new(whole.project(columns).map_err(fault)?),
            partitions,
            wanted,
            file: 0,
            push,
        })
    }

    /// For each column of the files, whether it is wanted.
    pub(super) fn wanted(&self) -> &[bool] {
        &self.wanted
    }

    /// From here on rows come from the file at this position.
    pub(super) fn start_file(&mut self, file: usize) {
        self.file = file;
    }

    /// Hands on rows with the wanted columns of the files.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let rows = batch.num_rows();
        let column = |from: &From| match from {
            From::Rows(place) => Ok(Arc::clone(batch.column(*place))),
            From::Folder(place) => self.partitions.column(self.file, *place, rows),
        };
        let columns: Result<Vec<_>, _> = self.from.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = columns.and_then(|columns| {
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
        });
        (self.push)(batch.map_err(fault)?)
    }
}

fn fault(error: ArrowError) -> TableError {
    TableError::Fault {
        message: error.to_string(),
    }
}
