//! `millstream schema`: the JSON Schema of flows.

use anyhow::Context;
use millstream_shared::flow::schema::json_schema;

use crate::{
    failure::{Failure, Outcome},
    output,
};

/// Print the JSON Schema of flows, for editors
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: Arguments) -> Result<Outcome, Failure> {
    let text = serde_json::to_string_pretty(&json_schema()).context("cannot print the schema")?;
    output::line(&text);
    Ok(Outcome::Done)
}
