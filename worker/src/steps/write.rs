//! `write`: a table into a file.

use millstream_shared::flow::step::WriteStep;
use serde_json::json;

use super::{
    StepContext, StepError, StepOutput,
    read::{rendered, until_cancelled},
};
use crate::tables::{self, Writing};

/// Writes the table into the file that the step names. The file appears whole
/// or not at all, so a repeat after a crash ends in the same file.
pub(crate) async fn write(
    step: &WriteStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let path = rendered(&step.path, context)?;
    let feed = context.feed(&step.from)?.clone();
    let step = step.clone();
    let label = format!("{}-{}", context.run, context.step);
    let services = context.services.clone();
    let shown = path.clone();
    let writing = context.services.tables.on_files(move |work| {
        let writing = Writing {
            path: &path,
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
