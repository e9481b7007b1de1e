//! `sql`: a table out of the tables upstream.

use serde_json::Value;

use super::{StepContext, StepError, StepOutput, read::until_cancelled};

/// Runs the query `text` over the tables upstream. The text is no template.
/// Nothing is changed, so it can be repeated.
pub(crate) async fn sql(text: &str, context: &StepContext) -> Result<StepOutput, StepError> {
    let query = context.services.tables.sql(text, &context.tables);
    let selected = until_cancelled(context, query).await?;
    Ok(StepOutput {
        value: Value::Null,
        rows: Some(selected.table.rows()),
        rows_in: Some(selected.rows_in),
        bytes: Some(selected.table.bytes()),
        table: Some(selected.table),
    })
}
