//! What steps do with databases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{ConnectionName, StepId};

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
