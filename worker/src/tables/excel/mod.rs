//! Workbooks: sheets whose first row names the columns.
//!
//! A cell has a type of its own, so texts stay texts. A column gets the type
//! that fits all its cells; days and moments are told by the format that a
//! cell is shown in, as programs for workbooks do.

mod archive;
mod biff;
mod cell;
mod sheet;
mod write;

use indexmap::IndexMap;
use millstream_shared::flow::step::ColumnType;

use self::{
    cell::Cell,
    sheet::{Row, Sheet},
};
use super::{
    TableError,
    batches::{Batches, COLUMNS_MAX, Columns, Header},
    column::ColumnKind,
    error::Shown,
    files::SourceFile,
    inferred::Inferred,
    read::Source,
    rejects::Rejects,
    sink::Sink,
};

pub(super) use write::write;

/// How errors call such files.
const NAME: &str = "workbook";

/// Reads these columns of one sheet of each file.
pub(super) fn read(
    source: &Source<'_>,
    columns: &Columns,
    rejects: &mut Rejects,
    sink: &mut Sink<'_>,
) -> Result<(), TableError> {
    let declared = source.step.columns.is_some();
    let mut table = Batches::new(columns, declared, sink)?;
    for (position, file) in source.files.iter().enumerate() {
        table.start_file(position)?;
        let named = Named::open(file, source)?;
        let places = named.header().places(columns.keys())?;
        for row in named.rows() {
            match fill(&mut table, columns, &named, row, &places) {
                Ok(()) => table.end_row()?,
                Err(error) => {
                    rejects.add(error, row.as_text().as_bytes())?;
                    table.drop_row()?;
                }
            }
        }
    }
    table.finish()
}

fn fill(
    table: &mut Batches<'_, '_, '_>,
    columns: &Columns,
    named: &Named<'_>,
    row: &Row,
    places: &[usize],
) -> Result<(), TableError> {
    for (column, (place, (name, kind))) in places.iter().zip(columns).enumerate() {
        let Some(cell) = row.cell(named.places[*place]) else {
            continue;
        };
        let column_type = match kind {
            ColumnKind::Plain(column_type) => *column_type,
            ColumnKind::Nested(_) => ColumnType::String,
        };
        if let Cell::Error(error) = cell {
            let reason = format!(
                "column {name}: {} is an error of the workbook",
                Shown(error)
            );
            return Err(named.bad_row(row, reason));
        }
        let text = cell.text(column_type);
        let value = (!text.is_empty()).then_some(&*text);
        let set = table.set(column, value);
        set.map_err(|reason| named.bad_row(row, reason))?;
    }
    Ok(())
}

/// The columns of the files, which must all have the same, typed by their
/// cells.
pub(super) fn infer(source: &Source<'_>, rejects: &Rejects) -> Result<Columns, TableError> {
    let mut columns: IndexMap<String, Inferred> = IndexMap::new();
    for (position, file) in source.files.iter().enumerate() {
        let named = Named::open(file, source)?;
        if position == 0 {
            let names = named.names.iter().cloned();
            columns = names.map(|name| (name, Inferred::Nothing)).collect();
        }
        let header = named.header();
        header.check_known(&columns, &source.files[0].shown)?;
        let places = header.places(columns.keys())?;
        for row in named.rows() {
            let cells = places.iter().map(|place| row.cell(named.places[*place]));
            let cells: Vec<Option<&Cell>> = cells.collect();
            let error = cells
                .iter()
                .position(|cell| matches!(cell, Some(Cell::Error(_))));
            if let Some(error) = error {
                let name = columns
                    .get_index(error)
                    .map_or("", |(name, _)| name.as_str());
                let reason = format!("column {name}: an error of the workbook");
                rejects.pass(named.bad_row(row, reason))?;
                continue;
            }
            for (inferred, cell) in columns.values_mut().zip(cells) {
                *inferred = cell::and(*inferred, cell.map_or(Inferred::Nothing, Cell::kind));
            }
        }
    }
    let typed =
        |(name, inferred): (String, Inferred)| (name, ColumnKind::Plain(inferred.column_type()));
    Ok(columns.into_iter().map(typed).collect())
}

/// A sheet of which the columns are named.
struct Named<'a> {
    file: &'a SourceFile,
    sheet: Sheet,
    /// Where the row of names is among the rows.
    header: usize,
    names: Vec<String>,
    /// In which columns of the sheet they stand, from 0.
    places: Vec<u32>,
}

impl<'a> Named<'a> {
    fn open(file: &'a SourceFile, source: &Source<'_>) -> Result<Self, TableError> {
        let options = source.step.excel.as_ref();
        let wanted = options.and_then(|options| options.sheet.as_deref());
        let sheet = Sheet::open(file, wanted, source.work)?;
        let bad_header = |message: String| TableError::refused("bad_header", message);
        let header = match options.and_then(|options| options.header_row) {
            None if sheet.rows.is_empty() => None,
            None => Some(0),
            Some(number) => sheet.rows.iter().position(|row| row.number == number),
        };
        let Some(header) = header else {
            let message = format!(
                "{}: the sheet has no row that names the columns",
                file.shown
            );
            return Err(bad_header(message));
        };
        let places = sheet.columns(header);
        if places.len() > COLUMNS_MAX {
            let message = format!("{} has more than {COLUMNS_MAX} columns", file.shown);
            return Err(bad_header(message));
        }
        let mut names: Vec<String> = Vec::with_capacity(places.len());
        for place in &places {
            let cell = sheet.rows[header].cell(*place);
            let given = cell.map(|cell| cell.text(ColumnType::String));
            let name = match given.as_deref().map(str::trim) {
                None | Some("") => format!("column_{}", place + 1),
                Some(name) => name.to_owned(),
            };
            if names.contains(&name) {
                let (file, name) = (&file.shown, Shown(&name));
                let message = format!("{file}: the header names column {name} twice");
                return Err(bad_header(message));
            }
            names.push(name);
        }
        Ok(Self {
            file,
            sheet,
            header,
            names,
            places,
        })
    }

    fn header(&self) -> Header<'_> {
        Header {
            names: &self.names,
            file: &self.file.shown,
        }
    }

    fn rows(&self) -> &[Row] {
        &self.sheet.rows[self.header + 1..]
    }

    fn bad_row(&self, row: &Row, reason: String) -> TableError {
        TableError::BadRow {
            file: self.file.shown.clone(),
            line: u64::from(row.number),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rust_xlsxwriter::{Format, Workbook};
    use serde_json::{Value, json};

    use crate::tables::tests::{Place, shown};

    fn read(place: &Place, further: Value) -> Result<Vec<String>, String> {
        let mut step = json!({ "path": "a.xlsx" });
        let members = step.as_object_mut().unwrap();
        members.extend(further.as_object().unwrap().clone());
        let read = place.read_step(step);
        read.map(|read| shown(&read.table))
            .map_err(|error| error.to_string())
    }

    /// A workbook with two sheets, of which the first has a title and a gap.
    fn workbook(place: &Place) {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet().set_name("Orders").unwrap();
        sheet.write(0, 1, "Orders of 2026").unwrap();
        let rows: [[&str; 3]; 2] = [["id", "", "zip"], ["1", "x", "0150"]];
        for (column, name) in rows[0].iter().enumerate() {
            sheet.write(2, 1 + column as u16, *name).unwrap();
        }
        let day = Format::new().set_num_format("yyyy-mm-dd");
        let moment = Format::new().set_num_format("yyyy-mm-dd hh:mm:ss");
        sheet.write(2, 5, "day").unwrap();
        sheet.write(2, 6, "at").unwrap();
        sheet.write(2, 7, "paid").unwrap();
        for (row, serial) in [(3, 46350.0), (5, 46351.0)] {
            sheet.write(row, 1, f64::from(row)).unwrap();
            sheet.write(row, 3, rows[1][2]).unwrap();
            sheet.write_with_format(row, 5, serial, &day).unwrap();
            sheet
                .write_with_format(row, 6, serial + 0.25 * f64::from(row - 3), &moment)
                .unwrap();
            sheet.write(row, 7, row == 3).unwrap();
        }
        sheet.write(5, 2, 2.5).unwrap();
        let other = workbook.add_worksheet().set_name("Other").unwrap();
        other.write(0, 0, "n").unwrap();
        other.write(1, 0, 1).unwrap();
        other.write(2, 0, "x").unwrap();
        workbook.save(place.path("a.xlsx")).unwrap();
    }

    #[test]
    fn cells_become_columns_with_their_types() {
        let place = Place::new();
        workbook(&place);
        assert_eq!(
            read(&place, json!({ "excel": { "header_row": 3 } })).unwrap(),
            [
                "id: Int64, column_3: Float64, zip: Utf8, day: Date32, at: Timestamp(µs, \"UTC\"), paid: Boolean",
                "3 ∅ 0150 2026-11-24 2026-11-24T00:00:00Z true",
                "5 2.5 0150 2026-11-25 2026-11-25T12:00:00Z false",
            ]
        );
        let excel = json!({ "sheet": "Other" });
        assert_eq!(
            read(&place, json!({ "excel": excel })).unwrap(),
            ["n: Utf8", "1", "x"]
        );
        let declared = json!({ "excel": excel, "columns": { "n": "integer" } });
        assert_eq!(
            read(&place, declared).unwrap_err(),
            "a.xlsx, line 3: column n: `x` is not a whole number"
        );
        let rejecting =
            json!({ "excel": excel, "columns": { "n": "integer" }, "on_bad_row": "reject" });
        assert_eq!(read(&place, rejecting).unwrap(), ["n: Int64", "1"]);
    }

    #[test]
    fn what_a_workbook_lacks_is_named() {
        let place = Place::new();
        workbook(&place);
        for (step, expected) in [
            (
                json!({ "excel": { "sheet": "Sales" } }),
                "a.xlsx: there is no sheet `Sales`, only Orders, Other",
            ),
            (
                json!({ "excel": { "header_row": 2 } }),
                "a.xlsx: the sheet has no row that names the columns",
            ),
            (
                json!({ "excel": { "sheet": "Other" }, "columns": { "m": "string" } }),
                "a.xlsx: there is no column `m`, only n",
            ),
        ] {
            assert_eq!(read(&place, step).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_or_something_else_is_named() {
        let place = Place::new();
        workbook(&place);
        let whole = fs::read(place.path("a.xlsx")).unwrap();
        for bytes in [
            &b""[..],
            b"id;name\n1;x\n",
            b"<html><table></table></html>",
            b"PK\x03\x04",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and so on",
            &whole[..whole.len() / 2],
            &whole[..whole.len() - 1],
        ] {
            fs::write(place.path("a.xlsx"), bytes).unwrap();
            let error = place.read("a.xlsx").unwrap_err();
            assert_eq!(error.code(), "bad_file");
            let expected = "a.xlsx is not a readable workbook file";
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
