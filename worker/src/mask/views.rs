//! A text as those read it who take escapes out of it: JSON, addresses, forms,
//! HTML. A secret can be written in any of these ways, with any of its
//! characters escaped.

use std::ops::Range;

/// The ways in which characters are escaped.
const WAYS: [Escapes; 4] = [
    Escapes::Json,
    Escapes::Percent,
    Escapes::Form,
    Escapes::Html,
];

/// The longest escape: a pair of `\uXXXX`, or a long number of HTML.
const ESCAPE_BYTES_MAX: usize = 12;

/// The names of characters in HTML that matter.
const HTML_NAMES: [(&[u8], u8); 5] = [
    (b"&amp;", b'&'),
    (b"&lt;", b'<'),
    (b"&gt;", b'>'),
    (b"&quot;", b'"'),
    (b"&apos;", b'\''),
];

#[derive(Clone, Copy)]
enum Escapes {
    /// `\"`, `\/`, `\u00e9` and the like, and `\xe9` of other languages.
    Json,
    /// `%2f`.
    Percent,
    /// The same, and `+` for a space.
    Form,
    /// `&amp;`, `&#39;` and `&#x27;`.
    Html,
}

/// A text without some of its escapes.
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// Where in the text each byte comes from.
    starts: Vec<usize>,
    /// How long the text is.
    length: usize,
}

impl View {
    /// The text as it is, and without its escapes, once and twice.
    pub(super) fn all_of(text: &[u8]) -> Vec<Self> {
        let mut views = vec![Self {
            bytes: text.to_vec(),
            starts: Vec::new(),
            length: text.len(),
        }];
        for depth in [0..1, 1..1 + WAYS.len()] {
            let until = depth.end.min(views.len());
            for place in depth.start..until {
                let further: Vec<_> = WAYS
                    .iter()
                    .filter_map(|escapes| views[place].without(*escapes))
                    .collect();
                views.extend(further);
            }
        }
        views
    }

    /// What of the text became this range of the view.
    pub(super) fn origin(&self, range: &Range<usize>) -> Range<usize> {
        if self.starts.is_empty() {
            return range.clone();
        }
        let mut end = range.end;
        // An escape may stand for several bytes, and is one thing.
        while end < self.starts.len() && self.starts[end] == self.starts[end - 1] {
            end += 1;
        }
        let after = self.starts.get(end).copied().unwrap_or(self.length);
        self.starts[range.start]..after
    }

    /// The same without `escapes`; none where it has none of them. An escape
    /// that was cut off at the end is taken away.
    fn without(&self, escapes: Escapes) -> Option<Self> {
        let bytes = &self.bytes[..self.bytes.len() - escapes.begun_at_end(&self.bytes)];
        if !bytes.iter().any(|byte| escapes.starts_with(*byte)) && bytes.len() == self.bytes.len() {
            return None;
        }
        let mut view = Self {
            bytes: Vec::with_capacity(bytes.len()),
            starts: Vec::with_capacity(bytes.len()),
            length: self.length,
        };
        let mut place = 0;
        while place < bytes.len() {
            let start = self.starts.get(place).copied().unwrap_or(place);
            let mut character = [0; 4];
            let (read, meant) = match escapes.first(&bytes[place..]) {
                Some((read, meant)) => (read, meant.encode_utf8(&mut character).as_bytes()),
                None => (1, &bytes[place..=place]),
            };
            // A byte that `%e9` stands for need not be a character by itself.
            let meant = match escapes {
                Escapes::Percent | Escapes::Form if read == 3 => {
                    let byte = hex(&bytes[place + 1..place + 3]).unwrap_or_default();
                    &[byte as u8][..]
                }
                _ => meant,
            };
            view.bytes.extend_from_slice(meant);
            view.starts.extend(std::iter::repeat_n(start, meant.len()));
            place += read;
        }
        (view.bytes.len() < self.bytes.len() || matches!(escapes, Escapes::Form)).then_some(view)
    }
}

impl Escapes {
    fn starts_with(self, byte: u8) -> bool {
        match self {
            Self::Json => byte == b'\\',
            Self::Percent => byte == b'%',
            Self::Form => byte == b'%' || byte == b'+',
            Self::Html => byte == b'&',
        }
    }

    /// The escape that a text begins with: how long it is, and what it means.
    fn first(self, text: &[u8]) -> Option<(usize, char)> {
        match (self, text) {
            (Self::Json, [b'\\', rest @ ..]) => {
                let (read, meant) = json(rest)?;
                Some((read + 1, meant))
            }
            (Self::Form, [b'+', ..]) => Some((1, ' ')),
            (Self::Percent | Self::Form, [b'%', rest @ ..]) => {
                Some((3, char::from(hex(rest.get(..2)?)? as u8)))
            }
            (Self::Html, [b'&', ..]) => html(text),
            _ => None,
        }
    }

    /// How many bytes at the end may be the beginning of an escape.
    fn begun_at_end(self, text: &[u8]) -> usize {
        let tail = &text[text.len().saturating_sub(ESCAPE_BYTES_MAX - 1)..];
        let is_begun = |begun: &&[u8]| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
            let longest = match self {
                Self::Json => 6,
                Self::Percent | Self::Form => 3,
                Self::Html => ESCAPE_BYTES_MAX,
            };
            self.starts_with(begun[0])
                && begun[0] != b'+'
                && begun.len() < longest
                && begun[1..].iter().all(plain)
                && self.first(begun).is_none()
                && !(matches!(self, Self::Json) && begun.get(1).is_some_and(|b| !b"ux".contains(b)))
        };
        let begun = (0..tail.len()).map(|start| &tail[start..]).find(is_begun);
        begun.map_or(0, <[u8]>::len)
    }
}

/// What stands behind a backslash.
fn json(rest: &[u8]) -> Option<(usize, char)> {
    let simple = match rest.first()? {
        b'u' => return unicode(rest),
        b'x' => return Some((3, char::from(hex(rest.get(1..3)?)? as u8))),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        byte @ (b'"' | b'\\' | b'/' | b'\'') => char::from(*byte),
        _ => return None,
    };
    Some((1, simple))
}

/// `uXXXX`, or `uD8XX\uDCXX`.
fn unicode(rest: &[u8]) -> Option<(usize, char)> {
    let first = hex(rest.get(1..5)?)?;
    if let Some(meant) = char::from_u32(first) {
        return Some((5, meant));
    }
    let second = rest.get(5..11)?.strip_prefix(b"\\u")?;
    let pair = [first as u16, hex(second)? as u16];
    let meant = char::decode_utf16(pair).next()?.ok()?;
    Some((11, meant))
}

fn html(text: &[u8]) -> Option<(usize, char)> {
    let named = HTML_NAMES.iter().find(|(name, _)| text.starts_with(name));
    if let Some((name, meant)) = named {
        return Some((name.len(), char::from(*meant)));
    }
    let number = text.strip_prefix(b"&#")?;
    let length = number
        .iter()
        .take(ESCAPE_BYTES_MAX)
        .position(|byte| *byte == b';')?;
    let number = std::str::from_utf8(&number[..length]).ok()?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some((length + 3, char::from_u32(code)?))
}

fn hex(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let views = View::all_of(text.as_bytes());
        let bytes = views
            .iter()
            .map(|view| String::from_utf8_lossy(&view.bytes));
        bytes.map(std::borrow::Cow::into_owned).collect()
    }

    #[test]
    fn escapes_are_taken_out_in_every_way() {
        for (text, expected) in [
            (r#"a\u0062\/\"\n\x41\ud83d\ude00"#, "ab/\"\nA😀"),
            ("%61%2f%2F%C3%b8", "a//ø"),
            ("a+b%2B", "a b+"),
            ("&lt;&#39;&#x27;&quot;&amp;", "<''\"&"),
            (r"a%5Cu0062", "ab"),
            (r"\u0025\u0036\u0031", "a"),
            (r#"\\\"x"#, "\"x"),
        ] {
            assert!(
                shown(text).iter().any(|view| view == expected),
                "{text}: {:?}",
                shown(text)
            );
        }
        assert_eq!(shown("plain text"), ["plain text"]);
    }

    #[test]
    fn a_view_knows_where_it_comes_from() {
        let text = "x\\u00f8y";
        let view = View::all_of(text.as_bytes()).pop().unwrap();
        assert_eq!(view.bytes, "xøy".as_bytes());
        assert_eq!(&text[view.origin(&(1..3))], "\\u00f8");
        assert_eq!(&text[view.origin(&(0..2))], "x\\u00f8");
        assert_eq!(&text[view.origin(&(3..4))], "y");
    }

    #[test]
    fn an_escape_that_was_cut_off_is_no_part_of_a_view() {
        for text in ["ab%", "ab%2", "ab\\", "ab\\u00", "ab&#3", "ab&am"] {
            assert!(
                shown(text).iter().any(|view| view == "ab"),
                "{text}: {:?}",
                shown(text)
            );
        }
    }
}
