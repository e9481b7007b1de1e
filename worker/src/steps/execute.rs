//! `execute`: a statement that changes something in a database.

use millstream_shared::flow::step::StatementStep;

use super::{
    StepContext, StepError, StepOutput,
    load::value,
    query::{params, until_cancelled},
};

/// Executes the statement, in one transaction with a marker, so that a repeat
/// after a crash finds it done.
pub(crate) async fn execute(
    step: &StatementStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let params = params(step, context)?;
    let services = &context.services;
    let executing = services.databases.execute(
        context.marker(),
        &step.connection,
        (&step.sql, &params),
        &services.files,
    );
    let change = until_cancelled(context, executing).await?;
    Ok(StepOutput {
        value: value(change),
        rows: Some(change.rows),
        ..StepOutput::default()
    })
}
