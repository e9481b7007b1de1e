//! `read`: files into a table.

use millstream_shared::{
    flow::{expression, step::ReadStep},
    id::ConnectionName,
};
use serde_json::{Value, json};

use super::{StepContext, StepError, StepOutput};
use crate::{
    stores::Location,
    tables::{self, Read, Reading, TableError},
};

/// The most rejected rows that the value of a step names.
const NAMED_REJECTS_MAX: usize = 100;

/// Reads the files that the step names. Nothing is changed, so it can be
/// repeated.
pub(crate) async fn read(step: &ReadStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let location = located(&step.path, step.connection.as_ref(), context).await?;
    let rejects_location = match &step.rejects {
        Some(rejects) => Some(located(&rejects.path, rejects.connection.as_ref(), context).await?),
        None => None,
    };
    let label = format!("{}-{}", context.run, context.step);
    let step = step.clone();
    let services = context.services.clone();
    let reading = context.services.tables.on_files(move |work| {
        let reading = Reading {
            location: &location,
            step: &step,
            rejects_location: rejects_location.as_ref(),
            label: &label,
        };
        tables::read(&services.files, &reading, work)
    });
    let read = until_cancelled(context, reading).await?;
    Ok(StepOutput {
        value: value(&read),
        rows: Some(read.table.rows()),
        rows_in: None,
        bytes: Some(read.bytes),
        table: Some(read.table),
    })
}

/// What other steps can name of it. Rejected rows are in it only where the
/// step may have some, and not more of them than a person looks at.
fn value(read: &Read) -> Value {
    let mut value = json!({ "files": read.files });
    if let Some(rows) = read.rejects.rows() {
        let named = rows.iter().take(NAMED_REJECTS_MAX);
        let named =
            named.map(|row| json!({ "file": row.file, "line": row.line, "reason": row.reason }));
        value["rejected"] = json!({ "count": rows.len(), "rows": named.collect::<Value>() });
    }
    value
}

/// Where the files lie that a step names.
pub(super) async fn located(
    path: &str,
    connection: Option<&ConnectionName>,
    context: &StepContext,
) -> Result<Location, StepError> {
    let path = rendered(path, context)?;
    let located = context
        .services
        .stores
        .locate(&path, connection, &context.mask);
    tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Err(StepError::cancelled()),
        located = located => Ok(located?),
    }
}

/// The text that `template` stands for.
fn rendered(template: &str, context: &StepContext) -> Result<String, StepError> {
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
