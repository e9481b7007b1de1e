//! CSV files: UTF-8 with commas and a header line, unless the flow says
//! something else.
//!
//! An empty field is a missing value, quoted or not; empty lines do not count.
//! The rows are cut here and not by a library because an error has to name
//! the line that a row starts on, and a quote that is never closed.
//!
//! A file is cut into blocks of whole rows, on one thread; the blocks are worked
//! on by all cores at once and their rows handed on in order. A block in which
//! nothing is out of the ordinary is filled into the columns one column after the
//! other; any other is gone through row by row, which can say what is wrong with
//! it.

mod blocks;
mod dialect;
mod grid;
mod rows;
#[cfg(test)]
mod tests;

use datafusion::arrow::array::RecordBatch;
use indexmap::IndexMap;
use millstream_shared::flow::step::CsvReading;

use self::{
    blocks::{Block, Blocks},
    dialect::Dialect,
    grid::Grid,
    rows::{Next, Rows},
};
use super::{
    TableError,
    batches::{COLUMNS_MAX, Columns, Header, RowBuilder},
    column::{ColumnKind, Room},
    error::Shown,
    files::SourceFile,
    in_order::in_order,
    inferred::Inferred,
    read::{Source, Work},
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
    for (position, file) in source.files.iter().enumerate() {
        sink.start_file(position);
        let mut opened = Opened::of(file, options, names, source.work)?;
        let reading = Reading {
            places: opened.places(columns.keys())?,
            dialect: opened.dialect.clone(),
            width: opened.header.len(),
            wanted: sink.wanted().to_vec(),
            stops: rejects.rows().is_none(),
            columns,
            declared,
            file,
        };
        in_order(
            || opened.next(),
            |block| reading.read(&block),
            |read| {
                let Parsed { batch, bad } = read?;
                for (error, row) in bad {
                    rejects.add(error, &row)?;
                }
                batch.map_or(Ok(()), |batch| sink.push(&batch))
            },
        )?;
    }
    Ok(())
}

/// How the blocks of one file are read.
struct Reading<'r> {
    file: &'r SourceFile,
    dialect: Dialect,
    columns: &'r Columns,
    /// Where in a row the columns stand.
    places: Vec<usize>,
    /// How many fields a row has.
    width: usize,
    declared: bool,
    wanted: Vec<bool>,
    /// Whether the first bad row is the end of it.
    stops: bool,
}

/// The rows of a block.
struct Parsed {
    batch: Option<RecordBatch>,
    /// Those that do not fit, and why.
    bad: Vec<(TableError, Vec<u8>)>,
}

impl Reading<'_> {
    fn read(&self, block: &Block) -> Result<Parsed, TableError> {
        match self.read_columns(block)? {
            Some(parsed) => Ok(parsed),
            None => self.read_rows(block),
        }
    }

    /// The rows of a block in which nothing is out of the ordinary.
    fn read_columns(&self, block: &Block) -> Result<Option<Parsed>, TableError> {
        let Some(grid) = Grid::of(block, &self.dialect, self.width) else {
            return Ok(None);
        };
        let mut builder = self.builder(block)?;
        for (column, place) in self.places.iter().enumerate() {
            if builder.fill(column, grid.column(*place)).is_err() {
                return Ok(None);
            }
        }
        builder.end_rows(grid.rows());
        let (batch, bad) = (builder.take()?, Vec::new());
        Ok(Some(Parsed { batch, bad }))
    }

    fn read_rows(&self, block: &Block) -> Result<Parsed, TableError> {
        let mut builder = self.builder(block)?;
        let mut bad = Vec::new();
        let mut rows = Rows::of(block, &self.dialect, &self.file.shown);
        loop {
            let filled = match rows.advance() {
                Next::End => break,
                Next::Bad(error) => Err(error),
                Next::Row => self.fill(&mut builder, &rows),
            };
            match filled {
                Ok(()) => builder.end_row(),
                Err(error) => {
                    builder.drop_row();
                    bad.push((error, rows.raw().to_vec()));
                    if self.stops {
                        break;
                    }
                }
            }
        }
        let batch = builder.take()?;
        Ok(Parsed { batch, bad })
    }

    fn builder(&self, block: &Block) -> Result<RowBuilder<'_>, TableError> {
        let room = Room {
            rows: block.rows_max(self.width),
            text: block.bytes.len() / self.width.max(1),
        };
        RowBuilder::new(self.columns, self.declared, &self.wanted, room)
    }

    fn fill(&self, builder: &mut RowBuilder<'_>, rows: &Rows<'_>) -> Result<(), TableError> {
        rows.check_width(self.width)?;
        for (column, place) in self.places.iter().enumerate() {
            let set = builder.set(column, rows.value(*place));
            set.map_err(|reason| rows.bad_row(reason))?;
        }
        Ok(())
    }
}

/// The columns of the files, which must all have the same, typed by their
/// values.
pub(super) fn infer(source: &Source<'_>, rejects: &Rejects) -> Result<Columns, TableError> {
    let by_default = CsvReading::default();
    let options = source.step.csv.as_ref().unwrap_or(&by_default);
    let mut columns: IndexMap<String, Inferred> = IndexMap::new();
    let mut first = None;
    for file in source.files {
        let mut opened = Opened::of(file, options, None, source.work)?;
        if opened.header.is_empty() {
            continue;
        }
        if first.is_none() {
            let names = opened.header.iter().cloned();
            columns = names.map(|name| (name, Inferred::Nothing)).collect();
        }
        let first = first.get_or_insert(&file.shown);
        opened.names().check_known(&columns, first)?;
        let places = opened.places(columns.keys())?;
        let (dialect, width) = (opened.dialect.clone(), opened.header.len());
        in_order(
            || opened.next(),
            |block| match Grid::of(&block, &dialect, width) {
                Some(grid) => (inferred_columns(&grid, &places), Vec::new()),
                None => inferred(&mut Rows::of(&block, &dialect, &file.shown), &places, width),
            },
            |(inferred, bad)| {
                for (known, inferred) in columns.values_mut().zip(inferred) {
                    *known = known.and(inferred);
                }
                bad.into_iter().try_for_each(|error| rejects.pass(error))
            },
        )?;
    }
    let typed =
        |(name, inferred): (String, Inferred)| (name, ColumnKind::Plain(inferred.column_type()));
    Ok(columns.into_iter().map(typed).collect())
}

/// What the fields at these places have in common.
fn inferred_columns(grid: &Grid<'_>, places: &[usize]) -> Vec<Inferred> {
    let inferred = |place: &usize| {
        let mut inferred = Inferred::Nothing;
        for value in grid.column(*place).flatten() {
            inferred.observe(value);
            if inferred == Inferred::Text {
                break;
            }
        }
        inferred
    };
    places.iter().map(inferred).collect()
}

/// What the fields at these places have in common, and what is wrong with rows.
fn inferred(
    rows: &mut Rows<'_>,
    places: &[usize],
    width: usize,
) -> (Vec<Inferred>, Vec<TableError>) {
    let mut columns = vec![Inferred::Nothing; places.len()];
    let mut bad = Vec::new();
    loop {
        let row = match rows.advance() {
            Next::End => return (columns, bad),
            Next::Bad(error) => Err(error),
            Next::Row => rows.check_width(width),
        };
        match row {
            Err(error) => bad.push(error),
            Ok(()) => {
                for (inferred, place) in columns.iter_mut().zip(places) {
                    if let Some(value) = rows.value(*place) {
                        inferred.observe(value);
                    }
                }
            }
        }
    }
}

/// A file of which the columns are named.
struct Opened<'a> {
    file: &'a SourceFile,
    dialect: Dialect,
    /// The names of the columns; none where a file without a header is empty.
    header: Vec<String>,
    /// The rows of the first block, behind the header.
    first: Option<Block>,
    blocks: Blocks<'a>,
}

impl<'a> Opened<'a> {
    /// Opens `file` and reads its header. Where it has none the columns are
    /// called as `names` are, or by their numbers.
    fn of(
        file: &'a SourceFile,
        options: &CsvReading,
        names: Option<&Columns>,
        work: &'a Work,
    ) -> Result<Self, TableError> {
        let opening = blocks::open(file, options)?;
        let dialect = Dialect::of(options, opening.line_end);
        let mut blocks = Blocks::new(opening, file, dialect.clone(), work);
        let mut first = blocks.next()?;
        let mut header: Vec<String> = Vec::new();
        if let Some(block) = &first {
            let mut rows = Rows::of(block, &dialect, &file.shown);
            match (rows.advance(), names) {
                (Next::Bad(error), _) => return Err(error),
                (Next::Row, None) => header = numbered(&rows, options.header)?,
                (Next::Row | Next::End, _) => {}
            }
            if options.header && rows.width() > 0 {
                first = Some(rows.rest());
            }
        }
        if let Some(names) = names {
            header = names.keys().cloned().collect();
        } else if header.is_empty() && options.header {
            let file = &file.shown;
            let message = format!("{file} is empty; a CSV file starts with a header line");
            return Err(TableError::refused("bad_header", message));
        }
        Ok(Self {
            file,
            dialect,
            header,
            first,
            blocks,
        })
    }

    /// The next rows; none at the end of the file.
    fn next(&mut self) -> Result<Option<Block>, TableError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.blocks.next(),
        }
    }

    /// The names of its columns, to compare with those of others.
    fn names(&self) -> Header<'_> {
        Header {
            names: &self.header,
            file: &self.file.shown,
        }
    }

    /// Where in a row the `wanted` columns stand.
    fn places<'n>(
        &self,
        wanted: impl Iterator<Item = &'n String>,
    ) -> Result<Vec<usize>, TableError> {
        if self.header.is_empty() {
            return Ok(Vec::new());
        }
        self.names().places(wanted)
    }
}

/// The names that the row at hand gives to the columns. The third is called
/// `column_3` where it has no name.
fn numbered(rows: &Rows<'_>, is_header: bool) -> Result<Vec<String>, TableError> {
    if rows.width() > COLUMNS_MAX {
        return Err(rows.bad_row(format!("more than {COLUMNS_MAX} columns")));
    }
    let mut names: Vec<String> = Vec::with_capacity(rows.width());
    for place in 0..rows.width() {
        let given = if is_header {
            rows.field(place).trim()
        } else {
            ""
        };
        let name = match given {
            "" => format!("column_{}", place + 1),
            name => name.to_owned(),
        };
        if names.contains(&name) {
            let name = Shown(&name);
            return Err(rows.bad_row(format!("the header names column {name} twice")));
        }
        names.push(name);
    }
    Ok(names)
}
