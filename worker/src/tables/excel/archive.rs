//! Which kind of workbook a file is, and whether it fits into memory: the
//! library that reads it looks at neither.

use std::io::{self, BufRead, BufReader, Read};

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use zip::ZipArchive;

use super::{NAME, biff, sheet::too_large};
use crate::tables::{TableError, files::SourceFile, read::Work};

/// The kinds of workbooks that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Xlsx,
    Xls,
    Ods,
}

/// The start of a file of the kind that was before archives.
const XLS_START: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// The part of an archive that tells which kind of workbook it is.
const XLSX_PART: &str = "xl/workbook.xml";
const ODS_PART: &str = "content.xml";

/// So much memory takes a cell of which the library makes a whole table.
const CELL_BYTES: u64 = 64;

/// The kind of workbook that `file` is, which does not take more memory than one
/// may.
pub(super) fn check(file: &SourceFile, work: &Work) -> Result<Kind, TableError> {
    let unreadable = |error: &dyn std::fmt::Display| file.unreadable(NAME, error);
    let limit = work.budget.piece();
    let mut input = BufReader::new(file.open_plain()?);
    let start = input.fill_buf();
    let start = start.map_err(|error| file.failed("reading", error))?;
    if start.starts_with(XLS_START) {
        if file.bytes > limit.bytes() {
            return Err(too_large(file, limit));
        }
        let cells = biff::cells(file.open_plain()?).map_err(|error| unreadable(&error))?;
        return match cells.saturating_mul(CELL_BYTES) > limit.bytes() {
            true => Err(too_large(file, limit)),
            false => Ok(Kind::Xls),
        };
    }
    if !start.starts_with(b"PK") {
        return Err(unreadable(&"it does not start like one"));
    }
    let mut archive = ZipArchive::new(input).map_err(|error| unreadable(&error))?;
    let mut left = limit.bytes();
    for index in 0..archive.len() {
        work.check()?;
        let part = archive.by_index(index);
        let mut part = part.map_err(|error| unreadable(&error))?.take(left + 1);
        let size = io::copy(&mut part, &mut io::sink());
        let size = size.map_err(|error| unreadable(&error))?;
        left = left
            .checked_sub(size)
            .ok_or_else(|| too_large(file, limit))?;
    }
    if archive.index_for_name(XLSX_PART).is_some() {
        return Ok(Kind::Xlsx);
    }
    let content = archive.by_name(ODS_PART);
    let content = content.map_err(|_| unreadable(&"it is an archive of another kind"))?;
    let cells = ods_cells(BufReader::new(content)).map_err(|error| unreadable(&error))?;
    match cells.saturating_mul(CELL_BYTES) > limit.bytes() {
        true => Err(too_large(file, limit)),
        false => Ok(Kind::Ods),
    }
}

/// How many cells the largest sheet has, as the library unrolls it: rows and
/// cells say how often they are repeated.
fn ods_cells(content: impl BufRead) -> Result<u64, quick_xml::Error> {
    let mut reader = Reader::from_reader(content);
    let mut buffer = Vec::new();
    let mut sheet = Extent::default();
    let mut largest = 0;
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer)? {
            Event::Eof => return Ok(largest),
            Event::Start(tag) => sheet.open(&tag),
            Event::Empty(tag) => {
                sheet.open(&tag);
                sheet.close(tag.name().as_ref());
            }
            Event::End(tag) => sheet.close(tag.name().as_ref()),
            _ => {}
        }
        largest = largest.max(sheet.cells());
    }
}

/// How far the values of a sheet reach.
#[derive(Default)]
struct Extent {
    rows: u64,
    /// Rows up to the last one with a value.
    used_rows: u64,
    used_columns: u64,
    row_repeats: u64,
    row_columns: u64,
    row_used_columns: u64,
    /// Cells with a value, and those before them in their rows.
    given: u64,
}

impl Extent {
    const ROWS_MAX: u64 = 1 << 20;
    const COLUMNS_MAX: u64 = 1 << 14;

    fn open(&mut self, tag: &BytesStart<'_>) {
        match tag.name().as_ref() {
            "table:table" => *self = Self::default(),
            "table:table-row" => {
                self.row_repeats = repeats(tag, "table:number-rows-repeated");
                (self.row_columns, self.row_used_columns) = (0, 0);
            }
            "table:table-cell" | "table:covered-table-cell" => {
                let repeats = repeats(tag, "table:number-columns-repeated");
                let columns = self.row_columns.saturating_add(repeats);
                self.row_columns = columns.min(Self::COLUMNS_MAX);
                let is_value = |name: &str| matches!(tag.try_get_attribute(name), Ok(Some(_)));
                if is_value("office:value-type") || is_value("table:formula") {
                    self.row_used_columns = self.row_columns;
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        if name != "table:table-row" {
            return;
        }
        let rows = self.rows.saturating_add(self.row_repeats);
        self.rows = rows.min(Self::ROWS_MAX);
        if self.row_used_columns > 0 {
            self.used_rows = self.rows;
            self.used_columns = self.used_columns.max(self.row_used_columns);
            self.given += self.row_used_columns;
        }
    }

    fn cells(&self) -> u64 {
        self.given + self.used_rows * self.used_columns
    }
}

fn repeats(tag: &BytesStart<'_>, name: &str) -> u64 {
    let given = tag.try_get_attribute(name).ok().flatten();
    given.map_or(1, |given| given.value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;
    use crate::tables::tests::Place;

    fn archive(place: &Place, name: &str, parts: &[(&str, &[u8])]) {
        let mut archive = ZipWriter::new(File::create(place.path(name)).unwrap());
        for (part, content) in parts {
            archive
                .start_file(*part, SimpleFileOptions::default())
                .unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap();
    }

    const SHEET: (&str, &str) = (
        r#"<?xml version="1.0"?><office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet><table:table table:name="S">"#,
        "</table:table></office:spreadsheet></office:body></office:document-content>",
    );

    fn ods(place: &Place, rows: &str) {
        let content = format!("{}{rows}{}", SHEET.0, SHEET.1);
        let kind = b"application/vnd.oasis.opendocument.spreadsheet";
        let manifest = br#"<?xml version="1.0"?><manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>"#;
        archive(
            place,
            "a.ods",
            &[
                ("mimetype", kind),
                ("META-INF/manifest.xml", manifest),
                (ODS_PART, content.as_bytes()),
            ],
        );
    }

    fn cell(kind: &str, value: &str, text: &str) -> String {
        format!(
            r#"<table:table-cell office:value-type="{kind}" {value}><text:p>{text}</text:p></table:table-cell>"#
        )
    }

    #[test]
    fn a_sheet_of_open_document_is_read() {
        let place = Place::new();
        let names = cell("string", "", "n") + &cell("string", "", "day");
        let values = cell("float", r#"office:value="5""#, "5")
            + &cell("date", r#"office:date-value="2026-11-24""#, "24.11.26");
        let empty = r#"<table:table-row table:number-rows-repeated="1048570"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>"#;
        let row = |cells: &str| format!("<table:table-row>{cells}</table:table-row>");
        ods(&place, &format!("{}{}{empty}", row(&names), row(&values)));
        assert_eq!(
            place.shown("a.ods"),
            ["n: Int64, day: Date32", "5 2026-11-24"]
        );
    }

    #[test]
    fn a_sheet_made_to_fill_the_memory_is_refused_and_named() {
        let place = Place::new();
        let value = cell("string", r#"table:number-columns-repeated="16384""#, "x");
        let row = format!(
            r#"<table:table-row table:number-rows-repeated="1048576">{value}</table:table-row>"#
        );
        ods(&place, &row);
        let expected =
            "a.ods: the workbook takes more than 64 MiB, a quarter of what --memory allows";
        assert_eq!(place.refusal("a.ods"), expected);
        let zeros = vec![0; 65 << 20];
        archive(&place, "a.xlsx", &[(XLSX_PART, &zeros[..])]);
        assert_eq!(place.refusal("a.xlsx"), expected.replace("a.ods", "a.xlsx"));
    }

    #[test]
    fn an_archive_of_something_else_is_named() {
        let place = Place::new();
        archive(&place, "a.xlsx", &[("readme.txt", &b"hello"[..])]);
        assert_eq!(
            place.refusal("a.xlsx"),
            "a.xlsx is not a readable workbook file: it is an archive of another kind"
        );
    }
}
