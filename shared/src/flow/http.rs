//! What flows say of requests over HTTP, and of what comes back.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{csv::CsvReading, files::ColumnType, files::Format, pages::HttpPages};
use crate::{
    duration::Span,
    flow::pointer::JsonPointer,
    id::{ConnectionName, StepId},
};

/// An HTTP request. Every text in it that is no place in JSON is a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpStep {
    /// The method; `GET` unless said.
    #[serde(default)]
    pub method: HttpMethod,
    /// A connection of the kind `http`, which brings the start of the address,
    /// headers, and how the request shows who sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// `http://` or `https://`, without user name or password. With
    /// `connection` it may be what follows on the address of that.
    pub url: String,
    /// Further headers.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
    /// Query parameters, added to those of the address.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub query: IndexMap<String, Value>,
    /// The body as JSON. At most one of `json`, `form`, `body`, `file`,
    /// `table` and `multipart` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The body as a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<IndexMap<String, Value>>,
    /// The body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file as the body; relative to the first folder of `MILLSTREAM_FILES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A table as the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<HttpTable>,
    /// The body as a form with files (`multipart/form-data`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipart: Option<IndexMap<String, HttpPart>>,
    /// How the request shows who sends it, where no connection does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
    /// Statuses from 400 to 599 that are answers as well, and no failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<u32>,
    /// How long one request may take, to the last byte of its answer; 1h
    /// unless said. The `timeout` of the step is for all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
    /// How the answer goes on in further ones, whose lists are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<HttpPages>,
    /// What of the answer is handed on; all of it unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<HttpExtract>,
    /// A file that the answer is written into as it is, of any size; relative
    /// to the first folder of `MILLSTREAM_FILES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<String>,
}

impl HttpStep {
    /// Whether it makes a table.
    pub fn makes_table(&self) -> bool {
        let extract = self.extract.as_ref();
        extract.is_some_and(|extract| extract.to == ExtractTo::Table)
    }

    /// The bodies that it names; at most one may stand.
    pub fn bodies(&self) -> Vec<&'static str> {
        let bodies = [
            ("json", self.json.is_some()),
            ("form", self.form.is_some()),
            ("body", self.body.is_some()),
            ("file", self.file.is_some()),
            ("table", self.table.is_some()),
            ("multipart", self.multipart.is_some()),
        ];
        let given = bodies.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }
}

/// A request method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum HttpMethod {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// Whether it changes nothing where it goes, by what HTTP says of it.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// How a request shows who sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum HttpAuth {
    /// User name and password.
    #[serde(rename = "basic")]
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// A bearer token.
    #[serde(rename = "bearer")]
    Bearer {
        /// The token.
        token: String,
    },
}

/// A table as the body of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTable {
    /// The step whose table is sent.
    pub from: StepId,
    /// How its rows stand there: `json` unless said, `ndjson` or `csv`.
    #[serde(default)]
    pub format: TextFormat,
}

/// How rows stand in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextFormat {
    /// One JSON array of objects.
    #[default]
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values with a header line.
    Csv,
}

/// A field of a form with files: either a value or a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpPart {
    /// What the field holds: a text as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The file that it holds; relative to the first folder of
    /// `MILLSTREAM_FILES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What the receiver calls the file; its own name unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// What it is, such as `text/csv`; for a file it follows from the ending
    /// when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// What of an answer is handed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpExtract {
    /// Where it stands in an answer of JSON, as a JSON Pointer such as
    /// `/data/items`; all of the answer unless said.
    #[serde(skip_serializing_if = "JsonPointer::is_whole")]
    pub at: JsonPointer,
    /// What it becomes.
    pub to: ExtractTo,
    /// How the rows of a table stand in the answer; it follows from its
    /// `Content-Type` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The columns of the table with their types; inferred from all of the
    /// rows when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<IndexMap<String, ColumnType>>,
    /// How rows stand in an answer of CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvReading>,
}

/// What a part of an answer becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExtractTo {
    /// The `body` in the value of the step.
    #[default]
    Value,
    /// The table of the step: a list of objects, or rows of another format.
    Table,
}
