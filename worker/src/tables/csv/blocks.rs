//! A CSV file in blocks of whole rows, so that several can be worked on at once.

use std::io::Read;

use memchr::{memchr, memchr_iter, memchr2, memchr3, memrchr};
use millstream_shared::flow::step::CsvReading;

use super::dialect::Dialect;
use crate::tables::{
    TableError,
    files::{Input, SourceFile},
    read::Work,
};

/// How large a block is, unless a single row is larger.
const BLOCK_BYTES: usize = 512 << 10;

/// The most bytes that one row may have.
pub(super) const ROW_BYTES_MAX: usize = 64 << 20;

/// Whole rows of a file.
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    /// The line on which it starts, from 1.
    pub(super) line: u64,
    /// Where in the text of the file it starts, in bytes.
    pub(super) offset: u64,
    /// How many lines it has.
    pub(super) lines: u64,
}

impl Block {
    /// How many rows of so many fields there can be at the most. Lines without
    /// anything are none.
    pub(super) fn rows_max(&self, width: usize) -> usize {
        let lines = usize::try_from(self.lines).unwrap_or(usize::MAX);
        // A row has at least what stands between its fields and behind them.
        lines.min(self.bytes.len() / width.max(1) + 1)
    }
}

/// The blocks of one file, one after the other.
pub(super) struct Blocks<'a> {
    input: Input,
    file: &'a SourceFile,
    dialect: Dialect,
    work: &'a Work,
    /// What is read and not handed on.
    rest: Vec<u8>,
    is_at_end: bool,
    /// The error behind the rows that were handed on last.
    error: Option<TableError>,
    line: u64,
    offset: u64,
}

impl<'a> Blocks<'a> {
    /// The blocks of a file that was opened.
    pub(super) fn new(
        opening: Opening,
        file: &'a SourceFile,
        dialect: Dialect,
        work: &'a Work,
    ) -> Self {
        Self {
            input: opening.input,
            file,
            dialect,
            work,
            rest: opening.start,
            is_at_end: false,
            error: None,
            line: 1,
            offset: opening.offset,
        }
    }

    /// The next rows; none at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Block>, TableError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        loop {
            self.work.check()?;
            self.is_at_end = read_on(&mut self.input, self.file, &mut self.rest)?;
            let rows = Cut::of(&self.rest, &self.dialect, self.is_at_end);
            let is_too_long = self.rest.len() - rows.end > ROW_BYTES_MAX;
            if let Some(opened) = rows.opened
                && self.is_at_end
                && !is_too_long
            {
                let line = self.line + opened;
                self.error = Some(self.broken(line, "a quote that opens here is never closed"));
            }
            if rows.end > 0 {
                return Ok(Some(self.cut(rows.end)));
            }
            if is_too_long {
                let limit = ROW_BYTES_MAX >> 20;
                let reason = format!("a row of more than {limit} MiB; is a quote not closed?");
                return Err(self.broken(self.line, &reason));
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
        }
    }

    fn cut(&mut self, end: usize) -> Block {
        let rest = self.rest.split_off(end);
        let bytes = std::mem::replace(&mut self.rest, rest);
        let ends = memchr_iter(self.dialect.line_end, &bytes).count() as u64;
        let is_open = bytes
            .last()
            .is_some_and(|last| *last != self.dialect.line_end);
        let block = Block {
            line: self.line,
            offset: self.offset,
            lines: ends + u64::from(is_open),
            bytes,
        };
        self.line += ends;
        self.offset += end as u64;
        block
    }

    /// What is wrong with the file from `line` on, so that no row behind can
    /// be told.
    fn broken(&self, line: u64, reason: &str) -> TableError {
        let file = &self.file.shown;
        TableError::refused("bad_row", format!("{file}, line {line}: {reason}"))
    }
}

/// Where the whole rows of some text end.
struct Cut {
    end: usize,
    /// How many lines down a quote opens that is not closed in the text.
    opened: Option<u64>,
}

impl Cut {
    fn of(text: &[u8], dialect: &Dialect, is_at_end: bool) -> Self {
        let Some(quote) = dialect.quote.filter(|quote| memchr(*quote, text).is_some()) else {
            let end = match is_at_end {
                true => text.len(),
                false => memrchr(dialect.line_end, text).map_or(0, |last| last + 1),
            };
            return Self { end, opened: None };
        };
        let mut end = 0;
        loop {
            match end_of_row(text, end, quote, dialect) {
                End::Row(next) => end = next,
                End::None if is_at_end => {
                    end = text.len();
                    return Self { end, opened: None };
                }
                End::None => return Self { end, opened: None },
                End::Opened(at) => {
                    let opened = memchr_iter(dialect.line_end, &text[..at]).count() as u64;
                    let opened = Some(opened);
                    return Self { end, opened };
                }
            }
        }
    }
}

/// How a row ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Behind its line end, at this place.
    Row(usize),
    /// It goes on behind the text.
    None,
    /// It goes on behind the text, in the field whose quote opens here.
    Opened(usize),
}

/// The end of the row that starts at `start`. A quote opens only at the start of
/// a field; where something stands behind a closing quote the row is a bad one
/// that ends with its line.
pub(super) fn end_of_row(text: &[u8], start: usize, quote: u8, dialect: &Dialect) -> End {
    let line_end = dialect.line_end;
    let mut at = start;
    loop {
        let Some(found) = memchr2(line_end, quote, &text[at..]).map(|found| at + found) else {
            return End::None;
        };
        if text[found] == line_end {
            return End::Row(found + 1);
        }
        if found != start && text[found - 1] != dialect.delimiter {
            at = found + 1;
            continue;
        }
        let Some(closed) = behind_quoted(text, found + 1, quote) else {
            return End::Opened(found);
        };
        at = closed;
        match &text[at..] {
            [next, ..] if *next == dialect.delimiter => at += 1,
            [] | [b'\r'] | [b'\r', b'\n', ..] => {}
            [next, ..] if *next == line_end => {}
            rest => return memchr(line_end, rest).map_or(End::None, |end| End::Row(at + end + 1)),
        }
    }
}

/// Behind the quote that closes the field whose text starts at `at`. A quote
/// within it is written twice.
pub(super) fn behind_quoted(text: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        at += memchr(quote, text.get(at..)?)? + 1;
        if text.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// A file that is opened, with what had to be read of it to know what ends its
/// lines.
pub(super) struct Opening {
    pub(super) input: Input,
    /// What is read.
    pub(super) start: Vec<u8>,
    pub(super) line_end: u8,
    /// How many bytes before its text are skipped.
    pub(super) offset: u64,
}

/// Opens `file`, whose fields stand as `options` say.
pub(super) fn open(file: &SourceFile, options: &CsvReading) -> Result<Opening, TableError> {
    let (mut input, offset) = file.open(options.encoding)?;
    let (delimiter, quote) = (options.delimiter.byte(), options.quote.byte());
    let mut start = Vec::new();
    loop {
        let is_at_end = read_on(&mut input, file, &mut start)?;
        let is_all = is_at_end || start.len() > ROW_BYTES_MAX;
        match line_end(&start, delimiter, quote) {
            None if !is_all => {}
            found => {
                return Ok(Opening {
                    input,
                    start,
                    line_end: found.unwrap_or(b'\n'),
                    offset,
                });
            }
        }
    }
}

/// Reads on: as much as a block, or as much again as is there where that is more.
/// Says whether the file ends with it.
fn read_on(input: &mut Input, file: &SourceFile, text: &mut Vec<u8>) -> Result<bool, TableError> {
    let more = BLOCK_BYTES.max(text.len());
    text.reserve(more);
    let count = input.take(more as u64).read_to_end(text);
    let count = count.map_err(|error| file.failed("reading", error))?;
    Ok(count < more)
}

/// What ends the lines of a file that starts so: a line feed, with or without
/// a carriage return before it, or a carriage return alone. The first of them
/// outside of quotes tells; nothing where that has not been read.
fn line_end(start: &[u8], delimiter: u8, quote: Option<u8>) -> Option<u8> {
    let mut at = 0;
    loop {
        let rest = start.get(at..)?;
        let found = match quote {
            Some(quote) => memchr3(b'\r', b'\n', quote, rest),
            None => memchr2(b'\r', b'\n', rest),
        };
        let found = at + found?;
        match start[found] {
            b'\n' => return Some(b'\n'),
            b'\r' => {
                return match start.get(found + 1)? {
                    b'\n' => Some(b'\n'),
                    _ => Some(b'\r'),
                };
            }
            // As in `end_of_row`, a quote opens only at the start of a field.
            quote if found == 0 || start[found - 1] == delimiter => {
                at = behind_quoted(start, found + 1, quote)?;
            }
            _ => at = found + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_end_outside_of_quotes_tells() {
        for (start, expected) in [
            ("a,b\n1,2\r", Some(b'\n')),
            ("a,b\r\n1,2", Some(b'\n')),
            ("a,b\r1,2", Some(b'\r')),
            ("\"a\rb\",c\n1,2\n", Some(b'\n')),
            ("x,\"a\nb\"\r1,2\r", Some(b'\r')),
            ("\"a\"\"\rb\",c\n1,2\n", Some(b'\n')),
            ("5\" pipe\r1\r", Some(b'\r')),
            ("a,b\r", None),
            ("a,b", None),
            ("\"a\r\n", None),
            ("", None),
        ] {
            let found = line_end(start.as_bytes(), b',', Some(b'"'));
            assert_eq!(found, expected, "{start:?}");
        }
        assert_eq!(line_end(b"\"a\rb", b',', None), Some(b'\r'));
    }

    #[test]
    fn blank_lines_are_no_rows_to_make_room_for() {
        let block = Block {
            bytes: vec![b'\n'; 1 << 20],
            line: 1,
            offset: 0,
            lines: 1 << 20,
        };
        assert_eq!(block.rows_max(1), 1 << 20);
        assert_eq!(block.rows_max(1 << 10), (1 << 10) + 1);
    }
}
