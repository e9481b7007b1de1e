//! `read`: files into a table.

use std::sync::Arc;

use millstream_shared::{
    flow::{expression, step::ReadStep},
    id::ConnectionName,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{StepContext, StepError, StepOutput};
use crate::{
    stores::Location,
    tables::{self, Passed, Prepared, Reading, TableError},
};

/// The most rejected rows that the value of a step names.
const NAMED_REJECTS_MAX: usize = 100;

/// Reads the files that the step names. Nothing is changed, so it can be
/// repeated.
pub(crate) async fn read(step: &ReadStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let stop = context.cancelled.child_token();
    let _stop_when_dropped = stop.clone().drop_guard();
    let location = located(&step.path, step.connection.as_ref(), context, &stop).await?;
    let rejects_location = match &step.rejects {
        Some(rejects) => {
            let connection = rejects.connection.as_ref();
            Some(located(&rejects.path, connection, context, &stop).await?)
        }
        None => None,
    };
    let label = context.label();
    let step = step.clone();
    let engine = &context.services.tables;
    let files = &context.services.files;
    let folders = Arc::clone(files);
    let preparing = engine.on_files(move |work| {
        let reading = Reading {
            location: &location,
            step: &step,
            rejects_location: rejects_location.as_ref(),
            label: &label,
        };
        tables::prepare(&folders, &reading, work)
    });
    let prepared = Arc::new(until_cancelled(context, preparing).await?);
    let (passed, table) = match &context.offer {
        Some(offer) => {
            let streaming = engine.stream_files(&prepared, files, |flow| offer.make(flow));
            (until_cancelled(context, streaming).await?, None)
        }
        None => {
            let (folders, whole) = (Arc::clone(files), Arc::clone(&prepared));
            let reading = engine.on_files(move |work| tables::read(&whole, &folders, work));
            let read = until_cancelled(context, reading).await?;
            (read.passed, Some(read.table))
        }
    };
    Ok(StepOutput {
        value: value(&prepared, &passed),
        rows: Some(passed.rows),
        rows_in: None,
        bytes: Some(prepared.bytes()),
        table,
    })
}

/// What other steps can name of it. Rejected rows are in it only where the
/// step may have some, and not more of them than a person looks at.
fn value(prepared: &Prepared, passed: &Passed) -> Value {
    let mut value = json!({ "files": prepared.files() });
    if let Some(rows) = passed.rejects.rows() {
        let named = rows.iter().take(NAMED_REJECTS_MAX);
        let named =
            named.map(|row| json!({ "file": row.file, "line": row.line, "reason": row.reason }));
        value["rejected"] = json!({ "count": rows.len(), "rows": named.collect::<Value>() });
    }
    value
}

/// Where the files lie that a step names. What is done there ends when `stop` is
/// cancelled.
pub(super) async fn located(
    path: &str,
    connection: Option<&ConnectionName>,
    context: &StepContext,
    stop: &CancellationToken,
) -> Result<Location, StepError> {
    let path = rendered(path, context)?;
    let hidden = (&context.mask, stop);
    let located = context.services.stores.locate(&path, connection, hidden);
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(StepError::cancelled()),
        located = located => Ok(located?),
    }
}

/// The text that `template` stands for.
pub(super) fn rendered(template: &str, context: &StepContext) -> Result<String, StepError> {
    expression::render_text(template, &context.scope)
        .map_err(|error| StepError::permanent("expression", error.to_string()))
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
            retriable: error.is_retriable(),
            ..Self::permanent(error.code(), error.to_string())
        }
    }
}
