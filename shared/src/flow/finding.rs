//! Something wrong with a flow, and where in its document it is.

use std::fmt;

/// One step of the way from a document's root to a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// A member of a map.
    Member(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// Where something stands in a document, shown as `steps[2].read.path`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Path(Vec<Segment>);

impl Path {
    /// The path to the member `name` of what stands here.
    pub(crate) fn member(&self, name: &str) -> Self {
        self.with(Segment::Member(name.to_owned()))
    }

    /// The path to the item `index` of what stands here.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.with(Segment::Item(index))
    }

    /// The path that leads on from here by `segments`.
    pub(crate) fn join(&self, segments: impl IntoIterator<Item = Segment>) -> Self {
        Self(self.0.iter().cloned().chain(segments).collect())
    }

    /// The path to what this stands in; nothing for the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, outer) = self.0.split_last()?;
        Some(Self(outer.to_vec()))
    }

    /// Whether this is `outer` or stands in it.
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0)
    }

    /// The way from the root.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    fn with(&self, segment: Segment) -> Self {
        self.join([segment])
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Item(index) => write!(f, "[{index}]")?,
                Segment::Member(name) if is_plain(name) && position == 0 => write!(f, "{name}")?,
                Segment::Member(name) if is_plain(name) => write!(f, ".{name}")?,
                Segment::Member(name) => write!(f, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Which place of a part of a document is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Its name.
    Name,
    /// Its value.
    Value,
    /// A line and column within its text, both from 1.
    Within {
        /// The line.
        line: u64,
        /// The column.
        column: u64,
    },
}

/// Something wrong with a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is wrong with.
    pub(crate) path: Path,
    /// Which place of that is meant.
    pub(crate) at: At,
    /// What is wrong and what was expected.
    pub(crate) message: String,
}

impl Finding {
    /// Something wrong with the value at `path`.
    pub(crate) fn new(path: Path, message: impl Into<String>) -> Self {
        Self {
            path,
            at: At::Value,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_one_would_write_it() {
        let path = Path::default().member("steps").item(2).member("http");
        let headers = path.member("headers");
        assert_eq!(path.to_string(), "steps[2].http");
        assert_eq!(
            headers.member("X-Id").to_string(),
            "steps[2].http.headers.X-Id"
        );
        assert_eq!(
            headers.member("a.b").to_string(),
            "steps[2].http.headers[\"a.b\"]"
        );
        assert!(headers.is_within(&path) && path.is_within(&path));
        assert!(!path.is_within(&headers) && !path.member("h").is_within(&headers));
        assert_eq!(headers.parent(), Some(path));
        assert_eq!(Path::default().to_string(), "");
    }
}
