//! How far the sheets of an `.xls` workbook reach. The library that reads it
//! makes whole tables of all of them, so that two cells in opposite corners
//! become millions.

use std::{
    fs::File,
    io::{self, Read},
};

use cfb::CompoundFile;

/// What the stream with all sheets is called, by newer and by older programs.
const STREAMS: [&str; 2] = ["/Workbook", "/Book"];

/// The types of the records that matter.
const START: u16 = 0x0809;
const END: u16 = 0x000a;
const SHEET: u16 = 0x0085;
const DIMENSIONS: u16 = 0x0200;
/// A row of numbers: row, first column, and at the end last column.
const NUMBERS: u16 = 0x00bd;
/// Cells, which begin with row and column: a number, three kinds of text, a
/// truth, a number again, a shared text and a formula.
const CELLS: [u16; 8] = [
    0x0203, 0x0204, 0x00d6, 0x0205, 0x027e, 0x00fd, 0x0006, 0x0207,
];

/// How many cells the sheets of a workbook become.
pub(super) fn cells(file: File) -> io::Result<u64> {
    let mut workbook = CompoundFile::open(file)?;
    let name = STREAMS.into_iter().find(|name| workbook.exists(name));
    let Some(name) = name else {
        return Err(io::Error::other("it has no sheets"));
    };
    let mut stream = Vec::new();
    workbook.open_stream(name)?.read_to_end(&mut stream)?;
    let mut cells: u64 = 0;
    for (kind, data) in Records(&stream).take_while(|(kind, _)| *kind != END) {
        if kind == SHEET
            && let Some(place) = data.first_chunk::<4>()
        {
            let place = u32::from_le_bytes(*place) as usize;
            let sheet = stream.get(place..).unwrap_or_default();
            cells = cells.saturating_add(Extent::of(sheet).cells());
        }
    }
    Ok(cells)
}

/// The records of a stream: the type of each and what it holds.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let length = u16::from_le_bytes([head[2], head[3]]);
        let (data, rest) = rest.split_at_checked(length.into())?;
        self.0 = rest;
        Some((kind, data))
    }
}

/// How far the cells of a sheet reach.
#[derive(Default)]
struct Extent {
    /// Rows and columns of the first and of the last cell.
    reach: Option<[(u64, u64); 2]>,
    /// How many cells the sheet says that it has.
    said: u64,
}

impl Extent {
    fn of(sheet: &[u8]) -> Self {
        let mut extent = Self::default();
        let mut depth = 0;
        for (kind, data) in Records(sheet) {
            match kind {
                START => depth += 1,
                END if depth <= 1 => break,
                END => depth -= 1,
                // Charts within a sheet have records of the same types.
                _ if depth > 1 => {}
                DIMENSIONS => extent.said = said(data),
                NUMBERS => {
                    let last = data.last_chunk::<2>().map(|last| u16::from_le_bytes(*last));
                    extent.reach_to(data, last);
                }
                kind if CELLS.contains(&kind) => extent.reach_to(data, None),
                _ => {}
            }
        }
        extent
    }

    /// There is a cell, or a row of cells up to the column `last`.
    fn reach_to(&mut self, data: &[u8], last: Option<u16>) {
        let Some(&[a, b, c, d]) = data.first_chunk::<4>() else {
            return;
        };
        let row = u64::from(u16::from_le_bytes([a, b]));
        let column = u16::from_le_bytes([c, d]);
        let last = u64::from(last.unwrap_or(column).max(column));
        let column = u64::from(column);
        let [(row_first, column_first), (row_last, column_last)] =
            self.reach.unwrap_or([(row, column), (row, last)]);
        self.reach = Some([
            (row_first.min(row), column_first.min(column)),
            (row_last.max(row), column_last.max(last)),
        ]);
    }

    fn cells(&self) -> u64 {
        let reached = self.reach.map_or(0, |[first, last]| {
            (last.0 - first.0 + 1) * (last.1 - first.1 + 1)
        });
        reached.max(self.said)
    }
}

/// How many cells the sheet says that it has, for which room is made at once.
fn said(data: &[u8]) -> u64 {
    let number = |start: usize, bytes: usize| {
        let number = data.get(start..start + bytes).unwrap_or_default();
        number
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (rows, columns) = match data.len() {
        10 => ((number(0, 2), number(2, 2)), (number(4, 2), number(6, 2))),
        _ => ((number(0, 4), number(4, 4)), (number(8, 2), number(10, 2))),
    };
    // One that ends before it starts is taken to start at the first.
    let length =
        |(first, last): (u64, u64)| last.saturating_sub(if last < first { 0 } else { first });
    length(rows).saturating_mul(length(columns))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::tables::tests::Place;

    fn record(kind: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap();
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), data].concat()
    }

    fn number(row: u16, column: u16, value: f64) -> Vec<u8> {
        let place = [row, column, 0].map(u16::to_le_bytes).concat();
        record(0x0203, &[&place[..], &value.to_le_bytes()].concat())
    }

    fn text(row: u16, column: u16, text: &str) -> Vec<u8> {
        let head = [row, column, 0, text.len() as u16]
            .map(u16::to_le_bytes)
            .concat();
        record(0x0204, &[&head[..], &[0], text.as_bytes()].concat())
    }

    /// A workbook with one sheet that holds these records.
    fn workbook(place: &Place, sheet: &[Vec<u8>]) {
        let start = |kind: u16| {
            record(
                START,
                &[0x0600, kind, 0, 0, 0, 0, 0, 0]
                    .map(u16::to_le_bytes)
                    .concat(),
            )
        };
        let bound = |place: u32| {
            record(
                SHEET,
                &[&place.to_le_bytes()[..], &[0, 0, 2, 0], b"S1"].concat(),
            )
        };
        let globals = |place| {
            [
                start(5),
                record(0x00e0, &[0; 20]),
                bound(place),
                record(END, &[]),
            ]
            .concat()
        };
        let length = globals(0).len() as u32;
        let stream = [
            globals(length),
            start(0x10),
            sheet.concat(),
            record(END, &[]),
        ]
        .concat();
        let mut file = cfb::create(place.path("a.xls")).unwrap();
        file.create_stream("/Workbook")
            .unwrap()
            .write_all(&stream)
            .unwrap();
    }

    #[test]
    fn a_workbook_of_the_old_kind_is_read() {
        let place = Place::new();
        workbook(
            &place,
            &[
                text(0, 0, "id"),
                text(0, 1, "n"),
                number(1, 0, 7.0),
                number(1, 1, 2.5),
            ],
        );
        assert_eq!(place.shown("a.xls"), ["id: Int64, n: Float64", "7 2.5"]);
        assert_eq!(cells(File::open(place.path("a.xls")).unwrap()).unwrap(), 4);
    }

    #[test]
    fn a_sheet_that_would_become_far_larger_than_it_is_is_refused() {
        let place = Place::new();
        let dimensions = |rows: u32, columns: u16| {
            let data = [0, rows].map(u32::to_le_bytes).concat();
            record(
                DIMENSIONS,
                &[&data[..], &[0; 2], &columns.to_le_bytes(), &[0; 2]].concat(),
            )
        };
        for sheet in [
            vec![text(0, 0, "id"), number(65535, 255, 1.0)],
            vec![
                text(0, 0, "id"),
                record(NUMBERS, &[[0, 0xff], [0, 0], [0, 0xff]].concat()),
                number(9999, 0, 1.0),
            ],
            vec![dimensions(u32::MAX, 256), text(0, 0, "id")],
        ] {
            workbook(&place, &sheet);
            let error = place.read("a.xls").unwrap_err();
            assert_eq!(error.code(), "table_too_large", "{error}");
        }
    }
}
