//! CSV files: comma-separated, UTF-8, with a header line.
//!
//! An empty field is a missing value, quoted or not; empty lines do not count.
//! The rows are cut here and not by a library because an error has to name
//! the line that a row starts on, and a quote that is never closed.

use std::{
    io::{BufRead, Read},
    ops::Range,
    str,
};

use indexmap::IndexMap;

use super::{
    Table, TableError,
    batches::{Batches, COLUMNS_MAX, Columns},
    column::ColumnKind,
    error::Shown,
    files::{Input, SourceFile},
    inferred::Inferred,
    read::Work,
};

/// The most bytes that one row may have.
const ROW_BYTES_MAX: usize = 16 << 20;

/// Reads `files` into one table: the `declared` columns, or all columns with
/// types that fit every value of all files.
pub(super) fn read(
    files: &[SourceFile],
    declared: Option<&Columns>,
    work: &Work,
) -> Result<Table, TableError> {
    let columns = match declared {
        Some(declared) => declared.clone(),
        None => infer(files, work)?,
    };
    let mut table = Batches::new(&work.budget, &columns)?;
    for file in files {
        let mut rows = Rows::open(file, work)?;
        let places = rows.places(columns.keys())?;
        while rows.advance()? {
            for (column, place) in places.iter().enumerate() {
                let field = rows.field(*place);
                let value = (!field.is_empty()).then_some(field);
                let set = table.set(column, value);
                set.map_err(|reason| rows.bad_row(reason))?;
            }
            table.end_row()?;
        }
    }
    table.finish()
}

/// The columns of `files`, which must all have the same, typed by their values.
fn infer(files: &[SourceFile], work: &Work) -> Result<Columns, TableError> {
    let mut columns: IndexMap<String, Inferred> = IndexMap::new();
    for (position, file) in files.iter().enumerate() {
        let mut rows = Rows::open(file, work)?;
        if position == 0 {
            let names = rows.header.iter().cloned();
            columns = names.map(|name| (name, Inferred::Nothing)).collect();
        }
        let unknown = rows.header.iter().find(|name| !columns.contains_key(*name));
        if let Some(name) = unknown {
            return Err(TableError::refused(
                "columns_differ",
                format!(
                    "{}: column {} is not in {}, which is read with it",
                    file.shown,
                    Shown(name),
                    files[0].shown
                ),
            ));
        }
        let places = rows.places(columns.keys())?;
        while rows.advance()? {
            for (inferred, place) in columns.values_mut().zip(&places) {
                let field = rows.field(*place);
                if !field.is_empty() {
                    inferred.observe(field);
                }
            }
        }
    }
    let typed =
        |(name, inferred): (String, Inferred)| (name, ColumnKind::Plain(inferred.column_type()));
    Ok(columns.into_iter().map(typed).collect())
}

/// The rows of one file, one at a time.
struct Rows<'a> {
    input: Input,
    file: &'a SourceFile,
    work: &'a Work,
    header: Vec<String>,
    /// How many lines of the file are read.
    lines: u64,
    /// The line on which the row at hand starts.
    start: u64,
    /// The row at hand as it stands in the file.
    raw: Vec<u8>,
    /// Its fields without their quotes, one behind the other.
    text: String,
    fields: Vec<Range<usize>>,
}

impl<'a> Rows<'a> {
    /// Opens `file` and reads its header.
    fn open(file: &'a SourceFile, work: &'a Work) -> Result<Self, TableError> {
        let mut rows = Self {
            input: file.open(work)?,
            file,
            work,
            header: Vec::new(),
            lines: 0,
            start: 0,
            raw: Vec::new(),
            text: String::new(),
            fields: Vec::new(),
        };
        if !rows.next_row()? {
            return Err(TableError::refused(
                "bad_header",
                format!(
                    "{} is empty; a CSV file starts with a header line",
                    file.shown
                ),
            ));
        }
        rows.header = rows.names()?;
        Ok(rows)
    }

    /// The names that the row at hand gives to the columns. The third is
    /// called `column_3` where it has no name.
    fn names(&self) -> Result<Vec<String>, TableError> {
        if self.fields.len() > COLUMNS_MAX {
            return Err(self.bad_row(format!("more than {COLUMNS_MAX} columns")));
        }
        let mut names: Vec<String> = Vec::with_capacity(self.fields.len());
        for place in 0..self.fields.len() {
            let name = match self.field(place).trim() {
                "" => format!("column_{}", place + 1),
                name => name.to_owned(),
            };
            if names.contains(&name) {
                let name = Shown(&name);
                return Err(self.bad_row(format!("the header names column {name} twice")));
            }
            names.push(name);
        }
        Ok(names)
    }

    /// Where in a row the `wanted` columns stand.
    fn places<'n>(
        &self,
        wanted: impl Iterator<Item = &'n String>,
    ) -> Result<Vec<usize>, TableError> {
        let place = |name: &String| {
            let place = self.header.iter().position(|header| header == name);
            place.ok_or_else(|| {
                let (file, name) = (&self.file.shown, Shown(name));
                let there = self.header.join(", ");
                TableError::refused(
                    "no_such_column",
                    format!("{file}: there is no column {name}, only {there}"),
                )
            })
        };
        wanted.map(place).collect()
    }

    /// Goes to the next row; false at the end of the file.
    fn advance(&mut self) -> Result<bool, TableError> {
        if !self.next_row()? {
            return Ok(false);
        }
        if self.fields.len() != self.header.len() {
            return Err(self.bad_row(format!(
                "expected {}, found {}",
                counted_fields(self.header.len()),
                self.fields.len()
            )));
        }
        Ok(true)
    }

    fn field(&self, place: usize) -> &str {
        &self.text[self.fields[place].clone()]
    }

    fn bad_row(&self, reason: impl Into<String>) -> TableError {
        self.bad_line(self.start, reason)
    }

    fn bad_line(&self, line: u64, reason: impl Into<String>) -> TableError {
        TableError::BadRow {
            file: self.file.shown.clone(),
            line,
            reason: reason.into(),
        }
    }

    fn next_row(&mut self) -> Result<bool, TableError> {
        loop {
            self.raw.clear();
            if !self.read_line()? {
                return Ok(false);
            }
            if !without_line_end(&self.raw).is_empty() {
                break;
            }
        }
        self.start = self.lines;
        if self.raw.contains(&b'"') {
            let unquoted = self.unquote()?;
            self.text = String::from_utf8(unquoted).map_err(|_| self.bad_utf8())?;
            return Ok(true);
        }
        let line = str::from_utf8(without_line_end(&self.raw)).map_err(|_| self.bad_utf8())?;
        self.text.clear();
        self.text.push_str(line);
        self.fields.clear();
        let mut start = 0;
        for field in line.as_bytes().split(|byte| *byte == b',') {
            self.fields.push(start..start + field.len());
            start += field.len() + 1;
        }
        Ok(true)
    }

    /// Cuts the row at hand, of which at least one field is quoted. A quote
    /// within a field that does not start with one is a character like others.
    fn unquote(&mut self) -> Result<Vec<u8>, TableError> {
        let mut text = Vec::with_capacity(self.raw.len());
        let mut at = 0;
        self.fields.clear();
        loop {
            let start = text.len();
            if self.raw.get(at) == Some(&b'"') {
                at = self.unquote_field(at + 1, &mut text)?;
            } else {
                let rest = without_line_end(&self.raw).get(at..).unwrap_or_default();
                let field = rest.split(|byte| *byte == b',').next().unwrap_or_default();
                text.extend_from_slice(field);
                at += field.len();
            }
            self.fields.push(start..text.len());
            match without_line_end(&self.raw).get(at) {
                None => return Ok(text),
                Some(b',') => at += 1,
                Some(_) => {
                    let reason = "something stands behind a closing quote; a quote within a quoted field is written twice";
                    return Err(self.bad_line(self.lines, reason));
                }
            }
        }
    }

    /// Appends the quoted field that starts at `at` to `text`, reading further
    /// lines where it goes on; where in the row it ends.
    fn unquote_field(&mut self, mut at: usize, text: &mut Vec<u8>) -> Result<usize, TableError> {
        let opened = self.lines;
        loop {
            let rest = &self.raw[at..];
            let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                text.extend_from_slice(rest);
                at = self.raw.len();
                if !self.read_line()? {
                    return Err(self.bad_line(opened, "a quote that opens here is never closed"));
                }
                continue;
            };
            text.extend_from_slice(&rest[..quote]);
            at += quote + 1;
            if self.raw.get(at) != Some(&b'"') {
                return Ok(at);
            }
            text.push(b'"');
            at += 1;
        }
    }

    /// Appends one more line to the row at hand; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, TableError> {
        if self.lines.is_multiple_of(4096) {
            self.work.check()?;
        }
        let room = (ROW_BYTES_MAX + 1).saturating_sub(self.raw.len());
        let mut input = (&mut self.input).take(room as u64);
        let count = input.read_until(b'\n', &mut self.raw);
        let count = count.map_err(|error| self.file.failed("reading", error))?;
        if self.raw.len() > ROW_BYTES_MAX {
            return Err(self.bad_line(
                self.start.max(1),
                format!(
                    "a row of more than {} MiB; is a quote not closed?",
                    ROW_BYTES_MAX >> 20
                ),
            ));
        }
        self.lines += u64::from(count > 0);
        Ok(count > 0)
    }

    fn bad_utf8(&self) -> TableError {
        self.bad_row("is not UTF-8")
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn counted_fields(count: usize) -> String {
    if count == 1 {
        "1 field".to_owned()
    } else {
        format!("{count} fields")
    }
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::step::ColumnType;

    use super::ROW_BYTES_MAX;
    use crate::tables::tests::Place;

    #[test]
    fn types_fit_every_value() {
        let place = Place::new();
        place.put(
            "a.csv",
            "id,zip,amount,open,day,at,note,none\n\
             1,0150,1,true,2026-11-24,2026-11-24T10:00:00Z,\"a, b\",\n\
             2,5003,2.5,FALSE,,2026-11-24 11:00:00,,\n",
        );
        assert_eq!(
            place.shown("a.csv"),
            [
                "id: Int64, zip: Utf8, amount: Float64, open: Boolean, day: Date32, \
                 at: Timestamp(µs, \"UTC\"), note: Utf8, none: Utf8",
                "1 0150 1.0 true 2026-11-24 2026-11-24T10:00:00Z a, b ∅",
                "2 5003 2.5 false ∅ 2026-11-24T11:00:00Z ∅ ∅",
            ]
        );
    }

    #[test]
    fn a_value_far_down_decides_the_type() {
        let place = Place::new();
        let mut text = "n\n".to_owned();
        (0..20_000).for_each(|n| text.push_str(&format!("{n}\n")));
        text.push_str("late\n");
        place.put("a.csv", &text);
        let table = place.read("a.csv").unwrap();
        assert_eq!(table.rows(), 20_001);
        assert_eq!(table.batches().len(), 3);
        assert_eq!(place.shown("a.csv")[0], "n: Utf8");
    }

    #[test]
    fn line_ends_blank_lines_and_quotes_are_understood() {
        let place = Place::new();
        place.put(
            "a.csv",
            "\u{feff}a,b\r\n\r\n\"x \"\"y\"\"\",\"two\r\nlines\"\r\n5\" pipe,\"\"\r\n\"last\",",
        );
        assert_eq!(
            place.shown("a.csv"),
            [
                "a: Utf8, b: Utf8",
                "x \"y\" two\r\nlines",
                "5\" pipe ∅",
                "last ∅"
            ]
        );
    }

    #[test]
    fn declared_columns_are_taken_and_the_others_left_out() {
        let place = Place::new();
        place.put("a.csv", "x,amount,id\n1,10.10,007\n");
        let columns = [("id", ColumnType::Integer), ("amount", ColumnType::Decimal)];
        assert_eq!(
            place.shown_as("a.csv", &columns),
            ["id: Int64, amount: Decimal128(38, 9)", "7 10.100000000"]
        );
        let error = place.refusal_as("a.csv", &[("total", ColumnType::Number)]);
        assert_eq!(
            error,
            "a.csv: there is no column `total`, only x, amount, id"
        );
    }

    #[test]
    fn a_bad_row_is_named_with_its_line_and_reason() {
        let place = Place::new();
        for (text, expected) in [
            ("a,b\n1,2\n\n3\n", "line 4: expected 2 fields, found 1"),
            ("a\n1\n2,3\n", "line 3: expected 1 field, found 2"),
            (
                "a,b\r\n\"x\r\ny\",1\r\n1,2,3\r\n",
                "line 4: expected 2 fields, found 3",
            ),
            (
                "a,b\n1,\"2\n3,4\n",
                "line 2: a quote that opens here is never closed",
            ),
            (
                "a,b\n1,2\n\"x\ny\",\"z\n",
                "line 4: a quote that opens here is never closed",
            ),
            (
                "a,b\n\"1\"x,2\n",
                "line 2: something stands behind a closing quote; a quote within a quoted field is written twice",
            ),
            ("a,a\n1,2\n", "line 1: the header names column `a` twice"),
        ] {
            place.put("bad.csv", text);
            assert_eq!(place.refusal("bad.csv"), format!("bad.csv, {expected}"));
        }
        std::fs::write(place.path("bad.csv"), b"a,b\n1,2\n3,\xff\n").unwrap();
        assert_eq!(place.refusal("bad.csv"), "bad.csv, line 3: is not UTF-8");
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_line_and_column() {
        let place = Place::new();
        let mut text = "id,amount\n".to_owned();
        (2..17).for_each(|n| text.push_str(&format!("{n},{n}\n")));
        place.put("orders.csv", &(text + "17,12x\n"));
        for (column_type, reason) in [
            (ColumnType::Number, "is not a number"),
            (ColumnType::Integer, "is not a whole number"),
            (ColumnType::Decimal, "is not a decimal number"),
        ] {
            let error = place.refusal_as("orders.csv", &[("amount", column_type)]);
            assert_eq!(
                error,
                format!("orders.csv, line 17: column amount: `12x` {reason}")
            );
        }
    }

    #[test]
    fn a_row_without_end_is_cut_off() {
        let place = Place::new();
        let text = format!("a\n\"{}", "x\n".repeat(ROW_BYTES_MAX / 2));
        place.put("a.csv", &text);
        let error = place.refusal("a.csv");
        assert!(
            error.starts_with("a.csv, line 2: a row of more than 16 MiB"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_file_is_refused_and_a_header_alone_is_not() {
        let place = Place::new();
        place.put("a.csv", "\n");
        assert_eq!(
            place.refusal("a.csv"),
            "a.csv is empty; a CSV file starts with a header line"
        );
        place.put("b.csv", "a,,c\n");
        assert_eq!(place.shown("b.csv"), ["a: Utf8, column_2: Utf8, c: Utf8"]);
    }

    #[test]
    fn several_files_are_one_table_where_their_columns_are_the_same() {
        let place = Place::new();
        place.put("2.csv", "b,a\nx,2.5\n");
        place.put("1.csv", "a,b\n1,2026-11-24\n");
        assert_eq!(
            place.shown("*.csv"),
            ["a: Float64, b: Utf8", "1.0 2026-11-24", "2.5 x"]
        );
        place.put("3.csv", "a,b,c\n1,2,3\n");
        let error = place.refusal("*.csv");
        assert_eq!(
            error,
            "3.csv: column `c` is not in 1.csv, which is read with it"
        );
        place.put("3.csv", "a\n1\n");
        assert_eq!(
            place.refusal("*.csv"),
            "3.csv: there is no column `b`, only a"
        );
    }
}
