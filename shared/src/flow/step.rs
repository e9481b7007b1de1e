//! One part of a flow: what every step has, and what each kind of step does.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{duration::Span, id::StepId, retry::RetryPolicy};

pub use super::{
    command::{
        CommandLimits, CommandStep, CommandTables, MadeTable, MadeVia, OnCrash, TakenTable,
        TakenVia,
    },
    csv::{CsvReading, CsvWriting, Encoding},
    files::{
        ColumnType, Compression, ExcelReading, Format, OnBadRow, ReadStep, RejectsFile, WriteStep,
    },
    http::{
        ExtractTo, HttpAuth, HttpExtract, HttpMethod, HttpPart, HttpStep, HttpTable, TextFormat,
    },
    pages::{HttpPages, NextLink, OnMax, PageCounter, PageCursor, PageEnd, PageWay},
    pointer::JsonPointer,
    rules::{CheckStep, ColumnRules, OnViolation, RowCount},
    statements::{LoadMode, LoadStep, StatementStep},
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
    Http(Box<HttpStep>),
    /// Runs a program.
    Command(Box<CommandStep>),
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
    /// Looks whether a table keeps rules.
    Check(CheckStep),
}
