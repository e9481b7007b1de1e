//! What flows say of programs: which to run, with which tables, within which
//! limits.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    csv::{CsvReading, CsvWriting},
    files::{ColumnType, Format},
};
use crate::{byte_size::ByteSize, duration::Span, id::StepId};

/// What the paths of a program's tables follow: `{{ tables.orders }}`.
pub const TABLES_ROOT: &str = "tables";

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
    /// Its environment, besides `PATH`, `HOME`, `LANG`, `TMPDIR` and the paths
    /// of its tables.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, Value>,
    /// The tables that it takes and makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<CommandTables>,
    /// What it may use, where that is less than its worker allows.
    #[serde(default, skip_serializing_if = "CommandLimits::is_none")]
    pub limits: CommandLimits,
    /// What happens when the worker dies while it runs.
    #[serde(default)]
    pub on_crash: OnCrash,
}

/// The tables that a program takes and makes. Each is a file in its folder
/// that is called like the step whose table it is, with the ending of its
/// format: `orders.csv`. Its path is in the environment as
/// `MILLSTREAM_TABLE_ORDERS`, and in templates `{{ tables.orders }}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandTables {
    /// The tables that it takes, by the steps that made them.
    #[serde(default, rename = "in", skip_serializing_if = "IndexMap::is_empty")]
    pub taken: IndexMap<StepId, TakenTable>,
    /// The table that it makes, which is then the table of its step.
    #[serde(default, rename = "out", skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeTable>,
}

/// A table that a program takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakenTable {
    /// How its rows stand there.
    pub format: Format,
    /// Where the program finds it.
    #[serde(default)]
    pub via: TakenVia,
    /// How rows stand in CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvWriting>,
}

/// The table that a program makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MadeTable {
    /// How its rows stand there.
    pub format: Format,
    /// Where the program puts it.
    #[serde(default)]
    pub via: MadeVia,
    /// The columns with their types, in formats that do not bring them;
    /// inferred from all rows when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<IndexMap<String, ColumnType>>,
    /// How rows stand in CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvReading>,
}

/// Where a program finds a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TakenVia {
    /// In a file in its folder.
    #[default]
    File,
    /// On its standard input.
    Stdin,
}

/// Where a program puts a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MadeVia {
    /// Into a file in its folder.
    #[default]
    File,
    /// Onto its standard output, which is no value then.
    Stdout,
}

/// What a program and all that it starts may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommandLimits {
    /// Time on processors, of all its processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<Span>,
    /// Memory that its processes have to themselves, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// How much it may print on standard output and standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<ByteSize>,
    /// How many processes there may be at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub processes: Option<u64>,
    /// How many files each process may have open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16))]
    pub open_files: Option<u64>,
    /// How large a file may become that it writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<ByteSize>,
}

impl CommandLimits {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
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

impl CommandTables {
    /// All tables of the step `own`, with the names of their files.
    pub fn files<'a>(&'a self, own: &'a StepId) -> impl Iterator<Item = (&'a StepId, String)> {
        let taken = self.taken.iter().map(|(step, table)| (step, table.format));
        let made = self.made.iter().map(move |table| (own, table.format));
        taken
            .chain(made)
            .map(|(step, format)| (step, file_name(step, format)))
    }
}

/// The file of a step's table in the folder of a program.
pub fn file_name(step: &StepId, format: Format) -> String {
    format!("{step}.{}", format.ending())
}

/// The environment variable that holds the path of a step's table.
pub fn variable(step: &StepId) -> String {
    // Names of steps differ in more than case.
    format!("MILLSTREAM_TABLE_{}", step.as_str().to_ascii_uppercase())
}
