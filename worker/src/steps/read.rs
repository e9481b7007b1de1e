//! `read`: files into a table.

use millstream_shared::flow::{expression, step::ReadStep};
use serde_json::json;

use super::{StepContext, StepError, StepOutput};
use crate::tables::{self, Reading, TableError};

/// Reads the files that the step names. Nothing is changed, so it can be
/// repeated.
pub(crate) async fn read(step: &ReadStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let path = rendered(&step.path, context)?;
    let (format, columns) = (step.format, step.columns.clone());
    let services = context.services.clone();
    let reading = context.services.tables.on_files(move |work| {
        let reading = Reading {
            path: &path,
            format,
            columns: columns.as_ref(),
        };
        tables::read(&services.files, &reading, work)
    });
    let read = until_cancelled(context, reading).await?;
    Ok(StepOutput {
        value: json!({ "files": read.files }),
        rows: Some(read.table.rows()),
        rows_in: None,
        bytes: Some(read.bytes),
        table: Some(read.table),
    })
}

/// The text that `template` stands for.
pub(super) fn rendered(template: &str, context: &StepContext) -> Result<String, StepError> {
    expression::render_text(template, &context.scope).map_err(|error| StepError {
        code: "expression",
        message: error.to_string(),
        retriable: false,
    })
}

/// What `work` yields, unless the step is cancelled before: then it is dropped
/// and stops.
pub(super) async fn until_cancelled<T>(
    context: &StepContext,
    work: impl Future<Output = Result<T, TableError>>,
) -> Result<T, StepError> {
    let result = tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Err(TableError::Cancelled),
        result = work => result,
    };
    result.map_err(StepError::from)
}

impl From<TableError> for StepError {
    fn from(error: TableError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            retriable: error.is_retriable(),
        }
    }
}
