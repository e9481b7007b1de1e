//! `load`: a table into a table of a database.

use millstream_shared::flow::step::LoadStep;
use serde_json::{Map, Value};

use super::{StepContext, StepError, StepOutput, query::until_cancelled};
use crate::databases::{Change, Marker};

/// Brings the table there, in one transaction with a marker, so that a repeat
/// after a crash finds it done.
pub(crate) async fn load(step: &LoadStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let feed = context.feed(&step.from)?;
    let services = &context.services;
    let loading = services
        .databases
        .load(context.marker(), step, feed, &services.files);
    let (change, bytes) = until_cancelled(context, loading).await?;
    Ok(StepOutput {
        value: value(change),
        rows: Some(change.rows),
        rows_in: Some(change.rows),
        bytes: Some(bytes),
        table: None,
    })
}

/// A change as a step hands it on.
pub(super) fn value(change: Change) -> Value {
    let mut value = Map::new();
    value.insert("rows".to_owned(), change.rows.into());
    for (name, rows) in [("inserted", change.inserted), ("updated", change.updated)] {
        if let Some(rows) = rows {
            value.insert(name.to_owned(), rows.into());
        }
    }
    Value::Object(value)
}

impl StepContext {
    /// What tells, in a database, that the step is done.
    pub(super) fn marker(&self) -> Marker {
        Marker {
            run: self.run,
            step: self.step.clone(),
        }
    }
}
