//! What is kept of a step that ended, and of why a run failed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Artifact;
use crate::id::StepId;

/// Where a step of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It did what it should.
    Succeeded,
    /// Its last attempt failed.
    Failed,
    /// Its condition did not hold, or what it needs was skipped.
    Skipped,
}

impl StepState {
    /// The result code that InVision's flows know.
    pub fn code(self) -> u32 {
        match self {
            Self::Skipped => 0,
            Self::Succeeded => 100,
            Self::Failed => 200,
        }
    }
}

/// The checkpoint of a step: what it came to. Written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Where it stands.
    pub state: StepState,
    /// How many attempts it took; 0 for one that was skipped.
    pub attempts: u32,
    /// When its last attempt began, milliseconds since the epoch.
    pub started_at: u64,
    /// When it ended, milliseconds since the epoch.
    pub ended_at: u64,
    /// What it hands on besides a table.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Where its value is kept, where that is too large for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_at: Option<Artifact>,
    /// Where its table is kept, for whoever goes on with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_at: Option<Artifact>,
    /// Rows that it made or wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows that it took from upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_in: Option<u64>,
    /// Bytes that it made, wrote or received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

impl StepRecord {
    /// What is stored of it: a value that is kept elsewhere only by reference.
    pub fn stored(&self) -> Self {
        Self {
            value: match self.value_at {
                Some(_) => Value::Null,
                None => self.value.clone(),
            },
            value_at: self.value_at.clone(),
            table_at: self.table_at.clone(),
            error: self.error.clone(),
            ..*self
        }
    }

    /// What expressions see of the step: `steps.<id>.rows` and so on.
    pub fn result(&self) -> Value {
        json!({
            "state": self.state,
            "code": self.state.code(),
            "attempts": self.attempts,
            "value": self.value,
            "rows": self.rows,
            "rows_in": self.rows_in,
            "bytes": self.bytes,
            "error": self.error,
        })
    }
}

/// Why a run or a step failed, for people and for `run.error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// A stable word for the cause.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The step where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
}

/// What a run handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutput {
    /// The JSON itself.
    Json(String),
    /// Where it is kept, where it is too large for the record of the run.
    Kept(Artifact),
}
