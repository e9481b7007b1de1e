//! Where the parts of a document stand in its text.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser};
use serde_json::Value;

use crate::flow::finding::{At, Path, Segment};

/// A place in a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// The places of all names and values of a document.
pub(super) struct Places<'a> {
    text: &'a str,
    names: HashMap<Path, Place>,
    values: HashMap<Path, Place>,
}

/// A list or map whose end has not been read yet.
enum Open {
    List { path: Path, next: usize },
    Map { path: Path, name: Option<String> },
}

impl<'a> Places<'a> {
    /// The places in a YAML or JSON text; none from where it is malformed.
    pub(super) fn of(text: &'a str) -> Self {
        let mut places = Self {
            text,
            names: HashMap::new(),
            values: HashMap::new(),
        };
        let mut open = Vec::new();
        for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
            places.note(&event, Place::from(span.start), &mut open);
        }
        places
    }

    /// The place of what stands at `path` in `document`. What an alias has
    /// brought in stands where the alias does.
    pub(super) fn find(&self, path: &Path, at: At, document: &Value) -> Place {
        let value = self.values.get(path);
        match at {
            At::Name => self.names.get(path).or(value).copied(),
            At::Value => value.copied(),
            At::Within { line, column } => value.map(|start| {
                let content = text_at(document, path).unwrap_or_default();
                self.within(*start, content, Place { line, column })
                    .unwrap_or(*start)
            }),
        }
        .unwrap_or_else(|| match path.parent() {
            Some(parent) => self.find(&parent, At::Value, document),
            None => Place { line: 1, column: 1 },
        })
    }

    fn note(&mut self, event: &Event<'_>, place: Place, open: &mut Vec<Open>) {
        match event {
            Event::Scalar(text, ..) => {
                if let Some(Open::Map { path, name }) = open.last_mut()
                    && name.is_none()
                {
                    self.names.insert(path.member(text), place);
                    *name = Some(text.to_string());
                } else {
                    self.enter(place, open);
                }
            }
            Event::Alias(_) => {
                self.enter(place, open);
            }
            Event::SequenceStart(..) => {
                let path = self.enter(place, open);
                open.push(Open::List { path, next: 0 });
            }
            Event::MappingStart(..) => {
                let path = self.enter(place, open);
                open.push(Open::Map { path, name: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
            }
            _ => {}
        }
    }

    /// Notes that the next value starts at `place`, and returns its path.
    fn enter(&mut self, place: Place, open: &mut [Open]) -> Path {
        let path = match open.last_mut() {
            None => Path::default(),
            Some(Open::List { path, next }) => {
                *next += 1;
                path.item(*next - 1)
            }
            Some(Open::Map { path, name }) => path.member(&name.take().unwrap_or_default()),
        };
        self.values.insert(path.clone(), place);
        path
    }

    /// The place in the whole text of a place in the text `content`, whose
    /// value starts at `start`. Nothing where the two differ in their lines, as
    /// with escapes and with lines that YAML has joined.
    fn within(&self, start: Place, content: &str, inner: Place) -> Option<Place> {
        let wanted = content.lines().nth(index(inner.line)?)?;
        // The lines of a block text stand as they are, but for their indentation.
        // It is said to start where its first line that is not empty does.
        let empty = content.lines().take_while(|line| line.is_empty()).count() as u64;
        let number = (start.line + inner.line).checked_sub(1 + empty)?;
        let in_block = self.text.lines().nth(index(number)?)?;
        if let Some(indentation) = in_block.strip_suffix(wanted)
            && indentation.trim().is_empty()
        {
            return Some(Place {
                line: number,
                column: indentation.chars().count() as u64 + inner.column,
            });
        }
        let line = self.text.lines().nth(index(start.line)?)?;
        let (before, _) = line.char_indices().nth(index(start.column)?)?;
        let rest = line.get(before..)?;
        let quote = rest.starts_with(['"', '\'']);
        let matches = rest.get(usize::from(quote)..)?.starts_with(wanted);
        (inner.line == 1 && matches).then_some(Place {
            line: start.line,
            column: start.column + u64::from(quote) + inner.column - 1,
        })
    }
}

/// The position in a list of something that is counted from 1.
fn index(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

fn text_at<'v>(document: &'v Value, path: &Path) -> Option<&'v str> {
    path.segments()
        .iter()
        .try_fold(document, |value, segment| match segment {
            Segment::Member(name) => value.get(name),
            Segment::Item(index) => value.get(index),
        })?
        .as_str()
}

impl From<Marker> for Place {
    fn from(marker: Marker) -> Self {
        Self {
            line: marker.line() as u64,
            column: marker.col() as u64 + 1,
        }
    }
}
