//! The rows of a block, one at a time, with the lines they start on.

use std::{ops::Range, str};

use memchr::{memchr, memchr_iter};
use millstream_shared::flow::step::Encoding;

use super::{
    blocks::{Block, End, behind_quoted, end_of_row},
    dialect::Dialect,
};
use crate::tables::TableError;

/// The rows of one block, one at a time.
pub(super) struct Rows<'b> {
    block: &'b Block,
    dialect: &'b Dialect,
    /// The file, as its flow names it.
    file: &'b str,
    /// All of the block, where it is UTF-8 as a whole.
    text: Option<&'b str>,
    /// Whether there is a quote somewhere in it.
    is_quoted: bool,
    /// Where the next row starts.
    next: usize,
    /// The line on which it starts.
    next_line: u64,
    /// The row at hand as it stands in the file, without its end.
    row: Range<usize>,
    line: u64,
    raw: &'b str,
    fields: Vec<Field>,
    /// The texts of fields that hold quotes, without those.
    unquoted: String,
}

/// A field of the row at hand.
struct Field {
    range: Range<usize>,
    is_quoted: bool,
    /// Its text stands among the unquoted ones and not in the row.
    is_unquoted: bool,
}

/// What comes next in a block.
pub(super) enum Next {
    /// A row, which is at hand now.
    Row,
    /// A row that cannot be taken apart. The next one can.
    Bad(TableError),
    /// Nothing.
    End,
}

impl<'b> Rows<'b> {
    pub(super) fn of(block: &'b Block, dialect: &'b Dialect, file: &'b str) -> Self {
        let is_quoted = dialect
            .quote
            .is_some_and(|quote| memchr(quote, &block.bytes).is_some());
        Self {
            block,
            dialect,
            file,
            text: str::from_utf8(&block.bytes).ok(),
            is_quoted,
            next: 0,
            next_line: block.line,
            row: 0..0,
            line: block.line,
            raw: "",
            fields: Vec::new(),
            unquoted: String::new(),
        }
    }

    /// Goes to the next row that is not empty.
    pub(super) fn advance(&mut self) -> Next {
        let bytes = &*self.block.bytes;
        loop {
            let start = self.next;
            if start >= bytes.len() {
                return Next::End;
            }
            let quote = self.dialect.quote.filter(|_| self.is_quoted);
            let line_end = self.dialect.line_end;
            let end = match quote {
                None => memchr(line_end, &bytes[start..]).map(|end| start + end + 1),
                Some(quote) => match end_of_row(bytes, start, quote, self.dialect) {
                    End::Row(end) => Some(end),
                    End::None | End::Opened(_) => None,
                },
            };
            self.next = end.unwrap_or(bytes.len());
            self.line = self.next_line;
            self.next_line += match quote {
                None => 1,
                Some(_) => memchr_iter(line_end, &bytes[start..self.next]).count() as u64,
            };
            self.row = start..start + without_line_end(&bytes[start..self.next]).len();
            if !self.row.is_empty() {
                break;
            }
        }
        let row = match self.text {
            Some(text) => Some(&text[self.row.clone()]),
            None => str::from_utf8(&bytes[self.row.clone()]).ok(),
        };
        let Some(row) = row else {
            return Next::Bad(self.bad_utf8());
        };
        self.raw = row;
        self.fields.clear();
        let quote = self.dialect.quote.filter(|_| self.is_quoted);
        match quote.filter(|quote| memchr(*quote, row.as_bytes()).is_some()) {
            Some(quote) => self.split_quoted(quote),
            None => {
                let mut start = 0;
                for end in memchr_iter(self.dialect.delimiter, row.as_bytes()) {
                    self.fields.push(Field::plain(start..end));
                    start = end + 1;
                }
                self.fields.push(Field::plain(start..row.len()));
                Next::Row
            }
        }
    }

    /// Cuts the row at hand, in which there is a quote. One within a field that
    /// does not start with it is a character like others.
    fn split_quoted(&mut self, quote: u8) -> Next {
        let bytes = self.raw.as_bytes();
        self.unquoted.clear();
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&quote) {
                let Some(closed) = behind_quoted(bytes, at + 1, quote) else {
                    // A block ends with a whole row, so there is no such field.
                    return Next::Bad(self.bad_row("a quote that opens here is never closed"));
                };
                self.unquote(at + 1..closed - 1, quote);
                at = closed;
            } else {
                let rest = &bytes[at..];
                let end = memchr(self.dialect.delimiter, rest).unwrap_or(rest.len());
                self.fields.push(Field::plain(at..at + end));
                at += end;
            }
            match bytes.get(at) {
                None => return Next::Row,
                Some(byte) if *byte == self.dialect.delimiter => at += 1,
                Some(_) => {
                    let ends = memchr_iter(self.dialect.line_end, &bytes[..at]).count();
                    let reason = "something stands behind a closing quote; a quote within a quoted field is written twice";
                    return Next::Bad(self.bad_line(self.line + ends as u64, reason));
                }
            }
        }
    }

    /// Adds the field whose text stands at `range`, between its quotes.
    fn unquote(&mut self, range: Range<usize>, quote: u8) {
        let text = &self.raw[range.clone()];
        let mut quotes = memchr_iter(quote, text.as_bytes());
        let Some(first) = quotes.next() else {
            self.fields.push(Field {
                range,
                is_quoted: true,
                is_unquoted: false,
            });
            return;
        };
        let start = self.unquoted.len();
        // Of each two quotes the first one stays.
        self.unquoted.push_str(&text[..=first]);
        let mut from = quotes.next().map_or(text.len(), |second| second + 1);
        while let Some(one) = quotes.next() {
            self.unquoted.push_str(&text[from..=one]);
            from = quotes.next().map_or(text.len(), |second| second + 1);
        }
        self.unquoted.push_str(&text[from..]);
        self.fields.push(Field {
            range: start..self.unquoted.len(),
            is_quoted: true,
            is_unquoted: true,
        });
    }

    /// What comes behind the row at hand, as a block of its own.
    pub(super) fn rest(&self) -> Block {
        Block {
            bytes: self.block.bytes[self.next..].to_vec(),
            line: self.next_line,
            offset: self.block.offset + self.next as u64,
            lines: self
                .block
                .lines
                .saturating_sub(self.next_line - self.block.line),
        }
    }

    /// How many fields the row at hand has.
    pub(super) fn width(&self) -> usize {
        self.fields.len()
    }

    /// The text of a field of the row at hand.
    pub(super) fn field(&self, place: usize) -> &str {
        let field = &self.fields[place];
        let text = if field.is_unquoted {
            &self.unquoted
        } else {
            self.raw
        };
        &text[field.range.clone()]
    }

    /// The value of a field of the row at hand, if it is not missing.
    pub(super) fn value(&self, place: usize) -> Option<&str> {
        let text = self.field(place);
        let nulls = &self.dialect.nulls;
        let is_null = !nulls.is_empty()
            && !self.fields[place].is_quoted
            && nulls.iter().any(|null| null == text);
        (!text.is_empty() && !is_null).then_some(text)
    }

    /// The row at hand as it stands in the file.
    pub(super) fn raw(&self) -> &[u8] {
        &self.block.bytes[self.row.clone()]
    }

    /// The row at hand has another number of fields than it must have.
    pub(super) fn check_width(&self, expected: usize) -> Result<(), TableError> {
        if self.width() == expected {
            return Ok(());
        }
        Err(self.bad_row(format!(
            "expected {}, found {}",
            counted_fields(expected),
            self.width()
        )))
    }

    pub(super) fn bad_row(&self, reason: impl Into<String>) -> TableError {
        self.bad_line(self.line, reason)
    }

    fn bad_line(&self, line: u64, reason: impl Into<String>) -> TableError {
        TableError::BadRow {
            file: self.file.to_owned(),
            line,
            reason: reason.into(),
        }
    }

    /// What is wrong with a row at hand that is not UTF-8.
    fn bad_utf8(&self) -> TableError {
        let row = self.raw();
        let valid = match str::from_utf8(row) {
            Ok(_) => row.len(),
            Err(error) => error.valid_up_to(),
        };
        let start = self.block.offset + self.row.start as u64;
        let offset = start + valid as u64;
        let is_utf16 = start == 0 && (row.starts_with(b"\xff\xfe") || row.starts_with(b"\xfe\xff"));
        let hint = match self.dialect.encoding {
            Encoding::Utf8 if is_utf16 => "; it looks like `csv: { encoding: utf-16 }`",
            Encoding::Utf8 => "; is it `csv: { encoding: windows-1252 }` or another one?",
            _ => "",
        };
        self.bad_row(format!("is not UTF-8 at byte offset {offset}{hint}"))
    }
}

impl Field {
    fn plain(range: Range<usize>) -> Self {
        Self {
            range,
            is_quoted: false,
            is_unquoted: false,
        }
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
