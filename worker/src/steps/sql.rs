//! `sql`: a table out of the tables upstream.

use super::{StepContext, StepError, StepOutput, read::until_cancelled};

/// Runs the query `text` over the tables upstream. The text is no template.
/// Nothing is changed, so it can be repeated.
pub(crate) async fn sql(text: &str, context: &StepContext) -> Result<StepOutput, StepError> {
    let engine = &context.services.tables;
    if let Some(offer) = &context.offer {
        let streaming = engine.stream_sql(text, &context.feeds, |flow| offer.make(flow));
        let streamed = until_cancelled(context, streaming).await?;
        return Ok(StepOutput {
            rows: Some(streamed.rows),
            rows_in: Some(streamed.rows_in),
            bytes: Some(streamed.bytes),
            ..StepOutput::default()
        });
    }
    let selected = until_cancelled(context, engine.sql(text, &context.feeds)).await?;
    Ok(StepOutput {
        rows: Some(selected.table.rows()),
        rows_in: Some(selected.rows_in),
        bytes: Some(selected.table.bytes()),
        table: Some(selected.table),
        ..StepOutput::default()
    })
}
