//! The objects of a JSON file, one at a time, with the lines they start on.

use std::{borrow::Cow, fmt, io::BufRead, str};

use millstream_shared::flow::step::Encoding;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Layout, Members};
use crate::tables::{
    TableError,
    batches::COLUMNS_MAX,
    files::{Input, SourceFile},
    read::Work,
};

/// The most bytes that one object may have.
const ITEM_BYTES_MAX: usize = 16 << 20;

/// The objects of a file. They are cut here and not by a JSON parser so that
/// one is in memory at a time, and so that its line is known.
pub(super) struct Items<'a> {
    input: Input,
    file: &'a SourceFile,
    work: &'a Work,
    state: State,
    /// The line of the next byte, from 1.
    line: u64,
    /// The line on which the item at hand starts.
    start: u64,
    raw: Vec<u8>,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Lines,
    BeforeArray,
    InArray,
    Ended,
}

impl<'a> Items<'a> {
    pub(super) fn open(
        file: &'a SourceFile,
        layout: Layout,
        work: &'a Work,
    ) -> Result<Self, TableError> {
        Ok(Self {
            input: file.open(Encoding::Utf8)?.0,
            file,
            work,
            state: match layout {
                Layout::Array => State::BeforeArray,
                Layout::Lines => State::Lines,
            },
            line: 1,
            start: 1,
            raw: Vec::new(),
            count: 0,
        })
    }

    /// Goes to the next object; false at the end of the file.
    pub(super) fn advance(&mut self) -> Result<bool, TableError> {
        self.count += 1;
        if self.count.is_multiple_of(4096) {
            self.work.check()?;
        }
        match self.state {
            State::Lines => self.next_line(),
            State::BeforeArray => {
                self.enter_array()?;
                self.next_item(true)
            }
            State::InArray => self.next_item(false),
            State::Ended => Ok(false),
        }
    }

    /// The members of the object at hand.
    pub(super) fn members(&self) -> Result<Members<'_>, TableError> {
        let text = str::from_utf8(&self.raw).map_err(|_| self.bad_item("is not UTF-8"))?;
        let object: Object<'_> = serde_json::from_str(text).map_err(|error| {
            let line = self.start + (error.line() as u64).saturating_sub(1);
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            match error.column() {
                0 => self.bad_line(line, reason),
                column => self.bad_line(line, format!("{reason} (column {column})")),
            }
        })?;
        Ok(object.0)
    }

    /// The object at hand as it stands in the file.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What is wrong with the file from `line` on, so that no object behind
    /// can be told.
    fn broken(&self, line: u64, reason: impl fmt::Display) -> TableError {
        let file = &self.file.shown;
        TableError::refused("bad_row", format!("{file}, line {line}: {reason}"))
    }

    /// The object at hand has one member more than a table may have columns.
    pub(super) fn too_many_columns(&self) -> TableError {
        let reason = format!("more than {COLUMNS_MAX} columns so far");
        self.broken(self.start, reason)
    }

    pub(super) fn bad_item(&self, reason: impl Into<String>) -> TableError {
        self.bad_line(self.start, reason)
    }

    fn bad_line(&self, line: u64, reason: impl Into<String>) -> TableError {
        TableError::BadRow {
            file: self.file.shown.clone(),
            line,
            reason: reason.into(),
        }
    }

    fn next_line(&mut self) -> Result<bool, TableError> {
        loop {
            self.raw.clear();
            self.start = self.line;
            let mut input = std::io::Read::take(&mut self.input, ITEM_BYTES_MAX as u64 + 1);
            let count = input.read_until(b'\n', &mut self.raw);
            if count.map_err(|error| self.file.failed("reading", error))? == 0 {
                return Ok(false);
            }
            self.check_size()?;
            self.line += 1;
            if !self.raw.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn enter_array(&mut self) -> Result<(), TableError> {
        match self.next_visible()? {
            Some(b'[') => {
                self.input.consume(1);
                self.state = State::InArray;
                Ok(())
            }
            _ => Err(self.broken(
                self.line,
                "expected an array of objects; `format: ndjson` reads one object a line",
            )),
        }
    }

    /// Takes everything up to the comma or bracket that ends the next item.
    fn next_item(&mut self, first: bool) -> Result<bool, TableError> {
        self.raw.clear();
        let next = self.next_visible()?;
        self.start = self.line;
        match next {
            None => Err(self.broken(self.line, "the array is not closed")),
            Some(b']') if first => {
                self.input.consume(1);
                self.leave_array()?;
                Ok(false)
            }
            Some(_) => {
                if self.take_item()? == b']' {
                    self.leave_array()?;
                }
                if self.raw.trim_ascii().is_empty() {
                    return Err(self.bad_item("expected an object"));
                }
                Ok(true)
            }
        }
    }

    /// Moves the item at the reader's place into `raw`; the byte that ends it.
    fn take_item(&mut self) -> Result<u8, TableError> {
        let mut depth = 0u32;
        let (mut in_string, mut escaped) = (false, false);
        loop {
            let chunk = self.input.fill_buf();
            let chunk = chunk.map_err(|error| self.file.failed("reading", error))?;
            if chunk.is_empty() {
                return Err(self.broken(self.start, "the array is not closed behind this item"));
            }
            let end = chunk.iter().position(|byte| {
                self.line += u64::from(*byte == b'\n');
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 0 => depth -= 1,
                    b',' | b']' if depth == 0 => return true,
                    _ => {}
                }
                false
            });
            let taken = end.unwrap_or(chunk.len());
            self.raw.extend_from_slice(&chunk[..taken]);
            let ending = end.map(|end| chunk[end]);
            self.input.consume(taken + usize::from(end.is_some()));
            self.check_size()?;
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    fn leave_array(&mut self) -> Result<(), TableError> {
        self.state = State::Ended;
        match self.next_visible()? {
            None => Ok(()),
            Some(_) => Err(self.broken(self.line, "something stands behind the array")),
        }
    }

    /// The next byte that is not white space, which stays to be read.
    fn next_visible(&mut self) -> Result<Option<u8>, TableError> {
        loop {
            let chunk = self.input.fill_buf();
            let chunk = chunk.map_err(|error| self.file.failed("reading", error))?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace());
            let blank = blank
                .inspect(|byte| self.line += u64::from(**byte == b'\n'))
                .count();
            let visible = chunk.get(blank).copied();
            self.input.consume(blank);
            if visible.is_some() {
                return Ok(visible);
            }
        }
    }

    fn check_size(&self) -> Result<(), TableError> {
        if self.raw.len() > ITEM_BYTES_MAX {
            let limit = ITEM_BYTES_MAX >> 20;
            return Err(self.broken(self.start, format!("an object of more than {limit} MiB")));
        }
        Ok(())
    }
}

struct Object<'a>(Members<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Members::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name, value));
        }
        Ok(Object(members))
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
