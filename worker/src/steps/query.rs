//! `query`: rows out of a database.

use millstream_shared::flow::{expression, step::StatementStep};
use serde_json::Value;

use super::{StepContext, StepError, StepOutput};
use crate::databases::DatabaseError;

/// Asks for the rows. Nothing can be changed, so it can be repeated.
pub(crate) async fn query(
    step: &StatementStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let params = params(step, context)?;
    let services = &context.services;
    let answer = services.databases.query(
        &step.connection,
        (&step.sql, &params),
        &services.tables,
        &services.files,
    );
    let table = until_cancelled(context, answer).await?;
    Ok(StepOutput {
        value: Value::Null,
        rows: Some(table.rows()),
        rows_in: None,
        bytes: Some(table.bytes()),
        table: Some(table),
    })
}

/// The values of the placeholders, with their types.
pub(super) fn params(step: &StatementStep, context: &StepContext) -> Result<Vec<Value>, StepError> {
    let params = step.params.iter().enumerate().map(|(index, template)| {
        expression::render(template, &context.scope).map_err(|error| {
            let message = format!("`params[{index}]` has no value: {error}");
            StepError::permanent("expression", message)
        })
    });
    params.collect()
}

/// What the database says, unless the step is cancelled before: then the
/// connection is closed.
pub(super) async fn until_cancelled<T>(
    context: &StepContext,
    work: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Err(StepError::cancelled()),
        result = work => result.map_err(StepError::from),
    }
}

impl From<DatabaseError> for StepError {
    fn from(error: DatabaseError) -> Self {
        Self {
            retriable: error.is_passing,
            ..Self::permanent(error.code, error.message)
        }
    }
}
