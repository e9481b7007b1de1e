//! One sheet of a workbook, with the cells that are not empty.

use std::{collections::BTreeSet, fs::File, io::BufReader};

use calamine::{Data, Ods, Reader, Sheets, Xls, Xlsx};
use millstream_shared::flow::step::ColumnType;

use super::{NAME, archive, archive::Kind, cell::Cell};
use crate::tables::{
    ByteSize, TableError, error::Shown, files::SourceFile, read::Work, typed::guarded,
};

/// The rows of one sheet that are not empty, in their order.
pub(super) struct Sheet {
    pub(super) rows: Vec<Row>,
    /// How many bytes of memory the cells take.
    bytes: u64,
}

/// One row of a sheet.
pub(super) struct Row {
    /// From 1, as programs for workbooks show it.
    pub(super) number: u32,
    /// The cells that are not empty, by their columns, which count from 0.
    cells: Vec<(u32, Cell)>,
}

impl Row {
    pub(super) fn cell(&self, column: u32) -> Option<&Cell> {
        let found = self
            .cells
            .binary_search_by_key(&column, |(column, _)| *column);
        found.ok().map(|found| &self.cells[found].1)
    }

    /// Its cells with tabs between them.
    pub(super) fn as_text(&self) -> String {
        let cells = self.cells.iter();
        let cells = cells.map(|(_, cell)| cell.text(ColumnType::String));
        cells.collect::<Vec<_>>().join("\t")
    }
}

impl Sheet {
    /// The sheet called `wanted`, or the first one.
    pub(super) fn open(
        file: &SourceFile,
        wanted: Option<&str>,
        work: &Work,
    ) -> Result<Self, TableError> {
        let kind = archive::check(file, work)?;
        guarded(file, NAME, || {
            let mut workbook = workbook(file, kind)?;
            let names = workbook.sheet_names();
            let Some(name) = names
                .iter()
                .find(|name| wanted.is_none_or(|wanted| wanted == *name))
            else {
                let (file, wanted) = (&file.shown, Shown(wanted.unwrap_or_default()));
                let there = names.join(", ");
                let message = format!("{file}: there is no sheet {wanted}, only {there}");
                return Err(TableError::refused("no_such_sheet", message));
            };
            let mut sheet = Self {
                rows: Vec::new(),
                bytes: 0,
            };
            sheet.take_all(&mut workbook, name, file, work)?;
            Ok(sheet)
        })
    }

    fn take_all(
        &mut self,
        workbook: &mut Sheets<BufReader<File>>,
        name: &str,
        file: &SourceFile,
        work: &Work,
    ) -> Result<(), TableError> {
        let unreadable = |error: &dyn std::fmt::Display| file.unreadable(NAME, error);
        let Sheets::Xlsx(workbook) = workbook else {
            let range = workbook.worksheet_range(name);
            let range = range.map_err(|error| unreadable(&error))?;
            let (first_row, first_column) = range.start().unwrap_or_default();
            for (row, column, data) in range.used_cells() {
                let place = (first_row + row as u32, first_column + column as u32);
                self.take(place, data.clone(), file, work)?;
            }
            return Ok(());
        };
        let cells = workbook.worksheet_cells_reader(name);
        let mut cells = cells.map_err(|error| unreadable(&error))?;
        while let Some(cell) = cells.next_cell().map_err(|error| unreadable(&error))? {
            self.take(
                cell.get_position(),
                cell.get_value().clone().into(),
                file,
                work,
            )?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        (row, column): (u32, u32),
        data: Data,
        file: &SourceFile,
        work: &Work,
    ) -> Result<(), TableError> {
        let Some(cell) = Cell::of(data) else {
            return Ok(());
        };
        let text = match &cell {
            Cell::Text(text) | Cell::Error(text) => text.capacity(),
            _ => 0,
        };
        self.bytes += (size_of::<(u32, Cell)>() + text) as u64;
        if self.bytes > work.budget.piece().bytes() {
            return Err(too_large(file, work.budget.piece()));
        }
        let number = row.saturating_add(1);
        let last = self.rows.last_mut().filter(|last| last.number >= number);
        let row = match last {
            Some(last) => last,
            None => {
                work.check()?;
                self.rows.push(Row {
                    number,
                    cells: Vec::new(),
                });
                self.rows.last_mut().expect("a row was just added")
            }
        };
        let is_behind = row.cells.last().is_none_or(|(last, _)| *last < column);
        if row.number != number || !is_behind {
            return Err(file.unreadable(NAME, &"its cells are not in order"));
        }
        row.cells.push((column, cell));
        Ok(())
    }

    /// The columns with something in them, from the row at `first` on.
    pub(super) fn columns(&self, first: usize) -> Vec<u32> {
        let cells = self.rows[first..].iter().flat_map(|row| &row.cells);
        let columns: BTreeSet<u32> = cells.map(|(column, _)| *column).collect();
        columns.into_iter().collect()
    }
}

fn workbook(file: &SourceFile, kind: Kind) -> Result<Sheets<BufReader<File>>, TableError> {
    let input = BufReader::new(file.open_plain()?);
    let opened = match kind {
        Kind::Xlsx => Xlsx::new(input)
            .map(Sheets::Xlsx)
            .map_err(|error| error.to_string()),
        Kind::Xls => Xls::new(input)
            .map(Sheets::Xls)
            .map_err(|error| error.to_string()),
        Kind::Ods => Ods::new(input)
            .map(Sheets::Ods)
            .map_err(|error| error.to_string()),
    };
    opened.map_err(|error| file.unreadable(NAME, &error))
}

/// A workbook takes more memory than one may.
pub(super) fn too_large(file: &SourceFile, limit: ByteSize) -> TableError {
    let file = &file.shown;
    let message =
        format!("{file}: the workbook takes more than {limit}, a quarter of what --memory allows");
    TableError::refused("table_too_large", message)
}
