//! How a step stands in a document: its common members, and one member named
//! after its kind.

use std::{borrow::Cow, fmt};

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::{Value, json};

use crate::{
    duration::Span,
    flow::step::{
        CheckStep, CommandStep, HttpStep, LoadStep, OnError, ReadStep, StatementStep, Step,
        StepKind, WriteStep,
    },
    id::StepId,
    retry::RetryPolicy,
};

/// The members that name a kind.
const KINDS: [&str; 10] = [
    "set", "http", "command", "read", "query", "sql", "load", "execute", "write", "check",
];

/// One part of a flow: its common members, and exactly one member that is named
/// after its kind.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepDocument {
    /// Its name within the flow.
    id: Option<StepId>,
    /// A title for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Steps to wait for, besides those that it names in its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    needs: Vec<StepId>,
    /// An expression, without `{{ }}`. The step is skipped where it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    /// Whether and when a failed attempt is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryPolicy>,
    /// How long one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    /// What its failure means for the run: `fail`, `continue`, or steps that
    /// run then, one after the other, before the run goes on.
    #[serde(default, skip_serializing_if = "OnError::is_default")]
    on_error: OnError,
    /// Arguments with defaults, which a start may override: `{{ args.name }}`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    args: IndexMap<String, Value>,
    /// Makes values out of templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set: Option<IndexMap<String, Value>>,
    /// Sends an HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpStep>,
    /// Runs a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<CommandStep>,
    /// Reads files into a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<ReadStep>,
    /// Asks a database for rows. It cannot change anything there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<StatementStep>,
    /// Makes a table out of upstream tables by a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sql: Option<String>,
    /// Brings a table into a table of a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    load: Option<LoadStep>,
    /// Changes something in a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    execute: Option<StatementStep>,
    /// Writes a table into a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<WriteStep>,
    /// Looks whether a table keeps rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<CheckStep>,
}

impl TryFrom<StepDocument> for Step {
    type Error = String;

    fn try_from(document: StepDocument) -> Result<Self, String> {
        let id = document.id.ok_or("the member `id` is missing")?;
        let kinds = [
            document.set.map(StepKind::Set),
            document.http.map(|http| StepKind::Http(Box::new(http))),
            document
                .command
                .map(|command| StepKind::Command(Box::new(command))),
            document.read.map(StepKind::Read),
            document.query.map(StepKind::Query),
            document.sql.map(StepKind::Sql),
            document.load.map(StepKind::Load),
            document.execute.map(StepKind::Execute),
            document.write.map(StepKind::Write),
            document.check.map(StepKind::Check),
        ];
        let named: Vec<&str> = KINDS
            .into_iter()
            .zip(&kinds)
            .filter_map(|(name, kind)| kind.is_some().then_some(name))
            .collect();
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err(not_one_kind(&named));
        };
        Ok(Self {
            id,
            name: document.name,
            needs: document.needs,
            when: document.when,
            retry: document.retry,
            timeout: document.timeout,
            on_error: document.on_error,
            args: document.args,
            kind,
        })
    }
}

fn not_one_kind(named: &[&str]) -> String {
    let found = match named {
        [] => "none".to_owned(),
        named => format!("`{}`", named.join("` and `")),
    };
    let kinds = KINDS.join("`, `");
    format!("a step has exactly one of `{kinds}`, and this one has {found}")
}

impl From<Step> for StepDocument {
    fn from(step: Step) -> Self {
        let mut document = Self {
            id: Some(step.id),
            name: step.name,
            needs: step.needs,
            when: step.when,
            retry: step.retry,
            timeout: step.timeout,
            on_error: step.on_error,
            args: step.args,
            ..Self::default()
        };
        match step.kind {
            StepKind::Set(values) => document.set = Some(values),
            StepKind::Http(http) => document.http = Some(*http),
            StepKind::Command(command) => document.command = Some(*command),
            StepKind::Read(read) => document.read = Some(read),
            StepKind::Query(query) => document.query = Some(query),
            StepKind::Sql(sql) => document.sql = Some(sql),
            StepKind::Load(load) => document.load = Some(load),
            StepKind::Execute(execute) => document.execute = Some(execute),
            StepKind::Write(write) => document.write = Some(write),
            StepKind::Check(check) => document.check = Some(check),
        }
        document
    }
}

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = StepDocument::json_schema(generator);
        let one_kind = KINDS.map(|kind| json!({ "required": [kind] }));
        schema.insert("required".to_owned(), json!(["id"]));
        schema.insert("oneOf".to_owned(), json!(one_kind));
        schema
    }
}

impl OnError {
    fn is_default(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

impl Serialize for OnError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fail => serializer.serialize_str("fail"),
            Self::Continue => serializer.serialize_str("continue"),
            Self::Steps(steps) => steps.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OnError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnErrorVisitor)
    }
}

struct OnErrorVisitor;

impl<'de> Visitor<'de> for OnErrorVisitor {
    type Value = OnError;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`fail`, `continue` or a list of steps")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OnError, E> {
        match text {
            "fail" => Ok(OnError::Fail),
            "continue" => Ok(OnError::Continue),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<OnError, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(OnError::Steps)
    }
}

impl JsonSchema for OnError {
    fn schema_name() -> Cow<'static, str> {
        "OnError".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let steps = generator.subschema_for::<Vec<Step>>();
        json_schema!({
            "description": "What a step's failure means for its run.",
            "oneOf": [
                { "const": "fail", "description": "The run fails." },
                { "const": "continue", "description": "The run goes on; what needs the step sees its state `failed`." },
                steps,
            ]
        })
    }
}
