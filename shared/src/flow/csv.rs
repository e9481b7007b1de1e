//! How rows stand in CSV files, as far as flows may say it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How rows stand in a CSV file that is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvReading {
    /// What stands between two fields; a comma unless said.
    pub delimiter: CsvMark,
    /// What stands around fields with delimiters or line ends in them; `"`
    /// unless said. An empty text means that nothing does.
    pub quote: CsvQuote,
    /// Whether the first line names the columns. Without one they are called
    /// `column_1` and so on, or as `columns` says, in their order.
    pub header: bool,
    /// How characters are bytes.
    pub encoding: Encoding,
    /// Words that stand for a missing value where they are not quoted. An
    /// empty field always does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nulls: Vec<String>,
}

/// How rows stand in a CSV file that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvWriting {
    /// What stands between two fields; a comma unless said.
    pub delimiter: CsvMark,
    /// What stands around fields with delimiters or line ends in them; `"`
    /// unless said.
    pub quote: CsvMark,
    /// Whether the first line names the columns.
    pub header: bool,
}

impl Default for CsvReading {
    fn default() -> Self {
        Self {
            delimiter: CsvMark(b','),
            quote: CsvQuote(Some(CsvMark(b'"'))),
            header: true,
            encoding: Encoding::Utf8,
            nulls: Vec::new(),
        }
    }
}

impl Default for CsvWriting {
    fn default() -> Self {
        Self {
            delimiter: CsvMark(b','),
            quote: CsvMark(b'"'),
            header: true,
        }
    }
}

/// A character that cuts rows into fields: one of ASCII, and no line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CsvMark(u8);

impl CsvMark {
    /// The byte that it is in a file.
    pub fn byte(self) -> u8 {
        self.0
    }
}

impl TryFrom<String> for CsvMark {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\0' | b'\r' | b'\n') => Ok(Self(*byte)),
            _ => Err("must be one ASCII character, and no line end; a tab is \"\\t\" in quotes"),
        }
    }
}

impl From<CsvMark> for String {
    fn from(mark: CsvMark) -> Self {
        char::from(mark.0).to_string()
    }
}

/// What stands around fields, if anything does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CsvQuote(Option<CsvMark>);

impl CsvQuote {
    /// The byte that it is in a file, unless nothing stands around fields.
    pub fn byte(self) -> Option<u8> {
        self.0.map(CsvMark::byte)
    }
}

impl TryFrom<String> for CsvQuote {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.try_into().map(|mark| Self(Some(mark)))
    }
}

impl From<CsvQuote> for String {
    fn from(quote: CsvQuote) -> Self {
        quote.0.map(Self::from).unwrap_or_default()
    }
}

impl JsonSchema for CsvMark {
    fn schema_name() -> Cow<'static, str> {
        "CsvMark".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 1 })
    }
}

impl JsonSchema for CsvQuote {
    fn schema_name() -> Cow<'static, str> {
        "CsvQuote".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 1 })
    }
}

/// How the characters of a text are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// Unicode; what almost everybody writes.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Unicode in pairs of bytes, whose order the byte order mark tells.
    #[serde(rename = "utf-16")]
    Utf16,
    /// Western Europe as Windows programs write it.
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// Western Europe, also called Latin 1.
    #[serde(rename = "iso-8859-1")]
    Iso88591,
}
