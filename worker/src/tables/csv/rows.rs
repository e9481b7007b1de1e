//! The rows of a CSV file, one at a time, with the lines they start on.

use std::{
    io::{BufRead, Read},
    ops::Range,
    str,
};

use millstream_shared::flow::step::{CsvReading, Encoding};

use crate::tables::{
    TableError,
    batches::{COLUMNS_MAX, Columns, Header},
    error::Shown,
    files::{Input, SourceFile},
    read::Work,
};

/// The most bytes that one row may have.
pub(super) const ROW_BYTES_MAX: usize = 64 << 20;

/// The rows of one file, one at a time.
pub(super) struct Rows<'a> {
    input: Input,
    file: &'a SourceFile,
    options: &'a CsvReading,
    work: &'a Work,
    /// The names of the columns; none where a file without a header is empty.
    pub(super) header: Vec<String>,
    /// Whether the row at hand is still to be handed on.
    is_waiting: bool,
    /// The byte that ends a line.
    line_end: u8,
    /// How many lines of the file are read.
    lines: u64,
    /// How many bytes of the text are read.
    offset: u64,
    /// The line on which the row at hand starts.
    start: u64,
    /// The row at hand as it stands in the file.
    raw: Vec<u8>,
    /// Its fields without their quotes, one behind the other.
    text: String,
    fields: Vec<Range<usize>>,
    /// Which fields were quoted; empty where none was.
    quoted: Vec<bool>,
}

/// What comes next in a file.
pub(super) enum Next {
    /// A row, which is at hand now.
    Row,
    /// A row that cannot be taken apart. The next one can.
    Bad(TableError),
    /// Nothing.
    End,
}

impl<'a> Rows<'a> {
    /// Opens `file` and reads its header. Where it has none the columns are
    /// called as `names` are, or by their numbers.
    pub(super) fn open(
        file: &'a SourceFile,
        options: &'a CsvReading,
        names: Option<&Columns>,
        work: &'a Work,
    ) -> Result<Self, TableError> {
        let (mut input, offset) = file.open(options.encoding)?;
        let start = input.fill_buf();
        let start = start.map_err(|error| file.failed("reading", error))?;
        let line_end = line_end(start);
        let mut rows = Self {
            input,
            file,
            options,
            work,
            header: Vec::new(),
            is_waiting: false,
            line_end,
            lines: 0,
            offset,
            start: 0,
            raw: Vec::new(),
            text: String::new(),
            fields: Vec::new(),
            quoted: Vec::new(),
        };
        match (rows.next_row()?, names) {
            (Next::Bad(error), _) => return Err(error),
            (Next::Row, None) => rows.header = rows.names()?,
            (_, Some(names)) => rows.header = names.keys().cloned().collect(),
            (Next::End, None) if options.header => {
                let file = &file.shown;
                let message = format!("{file} is empty; a CSV file starts with a header line");
                return Err(TableError::refused("bad_header", message));
            }
            (Next::End, None) => {}
        }
        rows.is_waiting = !options.header && rows.start > 0;
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
            let given = if self.options.header {
                self.field(place).trim()
            } else {
                ""
            };
            let name = match given {
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
    pub(super) fn places<'n>(
        &self,
        wanted: impl Iterator<Item = &'n String>,
    ) -> Result<Vec<usize>, TableError> {
        if self.header.is_empty() {
            return Ok(Vec::new());
        }
        self.names_of_file().places(wanted)
    }

    /// The names of its columns, to compare with those of others.
    pub(super) fn names_of_file(&self) -> Header<'_> {
        Header {
            names: &self.header,
            file: &self.file.shown,
        }
    }

    /// Goes to the next row.
    pub(super) fn advance(&mut self) -> Result<Next, TableError> {
        if !std::mem::take(&mut self.is_waiting) {
            match self.next_row()? {
                Next::Row => {}
                other => return Ok(other),
            }
        }
        if self.fields.len() != self.header.len() {
            return Ok(Next::Bad(self.bad_row(format!(
                "expected {}, found {}",
                counted_fields(self.header.len()),
                self.fields.len()
            ))));
        }
        Ok(Next::Row)
    }

    fn field(&self, place: usize) -> &str {
        &self.text[self.fields[place].clone()]
    }

    /// The value of a field of the row at hand, if it is not missing.
    pub(super) fn value(&self, place: usize) -> Option<&str> {
        let field = self.field(place);
        let nulls = &self.options.nulls;
        let is_null = !nulls.is_empty()
            && !self.quoted.get(place).copied().unwrap_or(false)
            && nulls.iter().any(|null| null == field);
        (!field.is_empty() && !is_null).then_some(field)
    }

    /// The row at hand as it stands in the file.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(super) fn bad_row(&self, reason: impl Into<String>) -> TableError {
        self.bad_line(self.start, reason)
    }

    fn bad_line(&self, line: u64, reason: impl Into<String>) -> TableError {
        TableError::BadRow {
            file: self.file.shown.clone(),
            line,
            reason: reason.into(),
        }
    }

    /// What is wrong with the file from `line` on, so that no row behind can
    /// be told.
    fn broken(&self, line: u64, reason: impl std::fmt::Display) -> TableError {
        let file = &self.file.shown;
        TableError::refused("bad_row", format!("{file}, line {line}: {reason}"))
    }

    fn next_row(&mut self) -> Result<Next, TableError> {
        loop {
            self.raw.clear();
            if !self.read_line()? {
                return Ok(Next::End);
            }
            if !without_line_end(&self.raw).is_empty() {
                break;
            }
        }
        self.start = self.lines;
        self.quoted.clear();
        if let Some(quote) = self.options.quote.byte()
            && self.raw.contains(&quote)
        {
            let unquoted = match self.unquote(quote)? {
                Ok(unquoted) => unquoted,
                Err(bad) => return Ok(Next::Bad(bad)),
            };
            // Quotes are whole characters, so what is left without them is
            // as good as it was before.
            return Ok(
                match (str::from_utf8(&self.raw), String::from_utf8(unquoted)) {
                    (Ok(_), Ok(text)) => {
                        self.text = text;
                        Next::Row
                    }
                    _ => Next::Bad(self.bad_utf8()),
                },
            );
        }
        let Ok(line) = str::from_utf8(without_line_end(&self.raw)) else {
            return Ok(Next::Bad(self.bad_utf8()));
        };
        self.text.clear();
        self.text.push_str(line);
        self.fields.clear();
        let delimiter = self.options.delimiter.byte();
        let mut start = 0;
        for field in line.as_bytes().split(|byte| *byte == delimiter) {
            self.fields.push(start..start + field.len());
            start += field.len() + 1;
        }
        Ok(Next::Row)
    }

    /// Cuts the row at hand, of which at least one field is quoted. A quote
    /// within a field that does not start with one is a character like others.
    /// The inner error is that of a row behind which another one starts.
    fn unquote(&mut self, quote: u8) -> Result<Result<Vec<u8>, TableError>, TableError> {
        let delimiter = self.options.delimiter.byte();
        let mut text = Vec::with_capacity(self.raw.len());
        let mut at = 0;
        self.fields.clear();
        loop {
            let start = text.len();
            let is_quoted = self.raw.get(at) == Some(&quote);
            if is_quoted {
                at = self.unquote_field(at + 1, quote, &mut text)?;
            } else {
                let rest = without_line_end(&self.raw).get(at..).unwrap_or_default();
                let field = rest.split(|byte| *byte == delimiter).next();
                let field = field.unwrap_or_default();
                text.extend_from_slice(field);
                at += field.len();
            }
            self.fields.push(start..text.len());
            self.quoted.push(is_quoted);
            match without_line_end(&self.raw).get(at) {
                None => return Ok(Ok(text)),
                Some(byte) if *byte == delimiter => at += 1,
                Some(_) => {
                    let reason = "something stands behind a closing quote; a quote within a quoted field is written twice";
                    return Ok(Err(self.bad_line(self.lines, reason)));
                }
            }
        }
    }

    /// Appends the quoted field that starts at `at` to `text`, reading further
    /// lines where it goes on; where in the row it ends.
    fn unquote_field(
        &mut self,
        mut at: usize,
        quote: u8,
        text: &mut Vec<u8>,
    ) -> Result<usize, TableError> {
        let opened = self.lines;
        loop {
            let rest = &self.raw[at..];
            let Some(end) = rest.iter().position(|byte| *byte == quote) else {
                text.extend_from_slice(rest);
                at = self.raw.len();
                if !self.read_line()? {
                    let reason = "a quote that opens here is never closed";
                    return Err(self.broken(opened, reason));
                }
                continue;
            };
            text.extend_from_slice(&rest[..end]);
            at += end + 1;
            if self.raw.get(at) != Some(&quote) {
                return Ok(at);
            }
            text.push(quote);
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
        let count = input.read_until(self.line_end, &mut self.raw);
        let count = count.map_err(|error| self.file.failed("reading", error))?;
        if self.raw.len() > ROW_BYTES_MAX {
            let limit = ROW_BYTES_MAX >> 20;
            let reason = format!("a row of more than {limit} MiB; is a quote not closed?");
            return Err(self.broken(self.start.max(1), reason));
        }
        self.lines += u64::from(count > 0);
        self.offset += count as u64;
        Ok(count > 0)
    }

    /// What is wrong with a row at hand that is not UTF-8.
    fn bad_utf8(&self) -> TableError {
        let valid = match str::from_utf8(&self.raw) {
            Ok(_) => self.raw.len(),
            Err(error) => error.valid_up_to(),
        };
        let start = self.offset - self.raw.len() as u64;
        let offset = start + valid as u64;
        let is_utf16 =
            start == 0 && (self.raw.starts_with(b"\xff\xfe") || self.raw.starts_with(b"\xfe\xff"));
        let hint = match self.options.encoding {
            Encoding::Utf8 if is_utf16 => "; it looks like `csv: { encoding: utf-16 }`",
            Encoding::Utf8 => "; is it `csv: { encoding: windows-1252 }` or another one?",
            _ => "",
        };
        self.bad_row(format!("is not UTF-8 at byte offset {offset}{hint}"))
    }
}

/// What ends the lines of a file that starts so: a line feed, with or without
/// a carriage return before it, or a carriage return alone.
fn line_end(start: &[u8]) -> u8 {
    let first = start.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    match first.and_then(|first| start.get(first..first + 2)) {
        Some([b'\r', next]) if *next != b'\n' => b'\r',
        _ => b'\n',
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
