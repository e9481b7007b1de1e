//! `write`: a table into a file.

use millstream_shared::flow::step::WriteStep;
use serde_json::json;

use super::{
    StepContext, StepError, StepOutput,
    read::{located, until_cancelled},
};
use crate::tables::{self, Writing};

/// Writes the table into the file that the step names. The file appears whole
/// or not at all, so a repeat after a crash ends in the same file.
pub(crate) async fn write(
    step: &WriteStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let stop = context.cancelled.child_token();
    let _stop_when_dropped = stop.clone().drop_guard();
    let location = located(&step.path, step.connection.as_ref(), context, &stop).await?;
    let feed = context.feed(&step.from)?.clone();
    let step = step.clone();
    let label = context.label();
    let services = context.services.clone();
    let shown = location.shown();
    let writing = context.services.tables.on_files(move |work| {
        let writing = Writing {
            location: &location,
            step: &step,
            label: &label,
        };
        tables::write(&services.files, &writing, &feed, work)
    });
    let written = until_cancelled(context, writing).await?;
    Ok(StepOutput {
        value: json!({ "path": shown, "format": written.format, "bytes": written.bytes }),
        rows: Some(written.rows),
        rows_in: Some(written.rows),
        bytes: Some(written.bytes),
        table: None,
    })
}
