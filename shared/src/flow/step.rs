//! One part of a flow: what every step has, and what each kind of step does.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    duration::Span,
    id::{ConnectionName, StepId},
    retry::RetryPolicy,
};

/// One part of a flow.
///
/// In a flow's text a step is one map: the members below and exactly one
/// member that is named after the kind and holds what it needs
/// (`sql: "select …"`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "super::document::StepDocument",
    into = "super::document::StepDocument"
)]
pub struct Step {
    /// Its name within the flow.
    pub id: StepId,
    /// A title for people.
    pub name: Option<String>,
    /// Steps to wait for, besides those that it names in its members.
    pub needs: Vec<StepId>,
    /// It is skipped where this expression is false.
    pub when: Option<String>,
    /// Whether and when a failed attempt is tried again.
    pub retry: Option<RetryPolicy>,
    /// How long one attempt may take.
    pub timeout: Option<Span>,
    /// What its failure means for the run.
    pub on_error: OnError,
    /// Arguments with defaults, which a start may override: `{{ args.name }}`.
    pub args: IndexMap<String, Value>,
    /// What it does.
    pub kind: StepKind,
}

/// What a step's failure means for its run. In a flow's text it is `fail`,
/// `continue` or a list of steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on; what needs the step sees its state `failed`.
    Continue,
    /// These steps run, one after the other, and then the run goes on.
    Steps(Vec<Step>),
}

/// What a step does. A new kind starts here: the compiler names the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// Makes values out of templates.
    Set(IndexMap<String, Value>),
    /// Sends an HTTP request.
    Http(HttpStep),
    /// Runs a program.
    Command(CommandStep),
    /// Reads files into a table.
    Read(ReadStep),
    /// Asks a database for rows.
    Query(StatementStep),
    /// Makes a table out of upstream tables.
    Sql(String),
    /// Brings a table into a table of a database.
    Load(LoadStep),
    /// Changes something in a database.
    Execute(StatementStep),
    /// Writes a table into a file.
    Write(WriteStep),
}

/// An HTTP request. Every text in it is a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpStep {
    /// The method; `GET` unless said.
    #[serde(default)]
    pub method: HttpMethod,
    /// `http://` or `https://`, without user name or password.
    pub url: String,
    /// Further headers.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
    /// Query parameters, added to those of the address.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub query: IndexMap<String, Value>,
    /// The body as JSON. At most one of `json`, `form` and `body` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The body as a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<IndexMap<String, Value>>,
    /// The body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How the request shows who sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
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

/// A program to run. No shell is involved unless the program is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandStep {
    /// Its path, or its name on the search path.
    pub program: String,
    /// Its arguments, each a template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// What it reads on standard input: a text as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Value>,
    /// Its environment, besides `PATH`, `HOME`, `LANG` and `TMPDIR`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, Value>,
    /// What happens when the worker dies while it runs.
    #[serde(default)]
    pub on_crash: OnCrash,
}

/// What happens to a step whose worker died while it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// It runs again, on another worker.
    #[default]
    Repeat,
    /// The run fails, so that a person decides.
    Hold,
}

/// Files to read into a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadStep {
    /// A template; relative to the first folder of `MILLSTREAM_FILES`; `*`,
    /// `?`, `[…]` and `**` match several files, read in the order of their names.
    pub path: String,
    /// What the files hold; it follows from their ending when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The columns of a CSV, JSON or NDJSON file with their types; inferred
    /// from the whole of the data when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<IndexMap<String, ColumnType>>,
    /// What happens to a row that does not fit.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
}

/// A statement for a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementStep {
    /// The connection to the database.
    pub connection: ConnectionName,
    /// One statement in the SQL of the database. It is no template: what
    /// changes from run to run stands in `params`.
    pub sql: String,
    /// The values of its placeholders, each a template: `$1`, `$2`, … in
    /// PostgreSQL, `?` in MySQL and SQLite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Value>,
}

/// A table to bring into a table of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadStep {
    /// The connection to the database.
    pub connection: ConnectionName,
    /// The table there: its name as it is, or `schema.table`.
    pub table: String,
    /// The step whose table is brought there.
    pub from: StepId,
    /// What happens to the rows that are there.
    pub mode: LoadMode,
    /// With `upsert`, the columns by which rows are told apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Whether the table is made from the columns where it is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
}

/// What a load does to the rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoadMode {
    /// They stay, and the new ones come to them.
    Append,
    /// They go, and the new ones take their place.
    Replace,
    /// Those with the same keys get the new values; new keys are added.
    Upsert,
}

/// A table to write into a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteStep {
    /// A template; relative to the first folder of `MILLSTREAM_FILES`.
    pub path: String,
    /// The step whose table is written.
    pub from: StepId,
    /// What the file holds; it follows from its ending when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a path's ending stands for.
    pub fn of_path(path: &str) -> Option<Self> {
        let (_, ending) = path.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A floating-point number of 64 bits.
    Number,
    /// An exact number with 38 digits, 9 of them behind the point.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// A day: `2026-11-24`.
    Date,
    /// A moment: `2026-11-24T10:00:00Z`; without a zone it is UTC.
    Datetime,
}

/// What happens to a row that does not fit its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRow {
    /// The step fails and names file, line and reason.
    #[default]
    Fail,
}
