//! What an author wrote: the flow, its inputs, its steps and their order.
//!
//! Everything here is pure: no async, no Redis, no clock. A [`Flow`] comes
//! from [`Flow::parse`], so one that exists has been validated.

pub mod command;
mod csv;
mod document;
pub mod expression;
mod files;
mod finding;
pub mod graph;
mod http;
pub mod inputs;
mod pages;
pub mod place;
mod pointer;
mod rules;
pub mod schema;
pub mod secrets;
mod sql;
mod statements;
pub mod step;
pub mod streams;
mod texts;
mod validate;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use document::{InvalidFlow, PROBLEMS_MAX, Problem, TEXT_BYTES_MAX};
pub use inputs::Input;
pub use step::{Step, StepKind};
pub use validate::{INPUTS_MAX, STEPS_MAX};

use crate::{
    duration::Span,
    id::{FlowId, WorkerTag},
};

/// A data flow: named inputs, steps that may depend on one another, and what
/// the run hands back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// What callers start it by.
    pub id: FlowId,
    /// A title for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What a start may or must bring, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub inputs: IndexMap<String, Input>,
    /// How many runs of it may execute at once, and what the others do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How many runs of it may be on their way, waiting or executing: a start
    /// beyond that is refused. 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue_limit: Option<u32>,
    /// How long a run may take, from its first claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Only workers that offer this tag take its runs.
    #[serde(default)]
    pub worker_tag: WorkerTag,
    /// The parts of it. Their order follows from what they need.
    pub steps: Vec<Step>,
    /// Steps that run when the run has failed; `run.error` says why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<Step>,
    /// What a run hands back, a template over `inputs`, `steps` and `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// How many runs of a flow may execute at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// At most so many runs at once: 1 to 10000.
    #[schemars(range(min = 1, max = 10000))]
    pub limit: u32,
    /// A template over `inputs`: the limit holds for each value of it apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What happens to a run that finds no room.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// What happens to a run that finds no room within its flow's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It waits in line.
    #[default]
    Queue,
    /// It ends at once as cancelled, without any step: its reason is `skipped`.
    Skip,
    /// It ends at once as failed, without any step: its reason is `no_room`.
    Fail,
}

impl WhenFull {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}
