//! One request and its answer: as a value, as a part of it, as a table, or as a
//! file.

use millstream_shared::flow::step::{ExtractTo, Format, HttpExtract, HttpStep};
use serde_json::Value;

use super::{
    answer::Incoming,
    extract::{self, JSON_BYTES_MAX},
    request::Request,
    sending::Sender,
    spool::{self, Spool},
    value::{self, ContentType},
};
use crate::{
    steps::{StepContext, StepError, StepOutput},
    tables::{self, Spooled},
};

/// How large an answer may be that is handed on as a value, once unpacked: that
/// is kept in Redis.
pub(super) const BODY_BYTES_MAX: usize = 768 * 1024;

/// What errors call it.
const ANSWER: &str = "the answer";

/// Sends the request, and makes of the answer what the step says.
pub(super) async fn exchange(
    step: &HttpStep,
    request: Request,
    sender: &Sender<'_>,
    spool: &Spool<'_>,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let incoming = sender.send(request).await?;
    // A refusal that the step accepts is no more than what it says.
    if incoming.is_refusal() {
        return whole(incoming).await;
    }
    match (&step.save, &step.extract) {
        (Some(path), _) => save(path, incoming, sender, spool, context).await,
        (None, None) => whole(incoming).await,
        (None, Some(extract)) => {
            incoming.check_readable()?;
            match extract.to {
                ExtractTo::Value => part(extract, incoming).await,
                ExtractTo::Table => table(extract, incoming, sender, spool, context).await,
            }
        }
    }
}

/// The answer as the value `{status, headers, body, encoding}`.
pub(super) async fn whole(mut incoming: Incoming) -> Result<StepOutput, StepError> {
    let bytes = incoming.in_memory(BODY_BYTES_MAX).await?;
    // Before it is read as JSON, which writes numbers in its own way.
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => incoming.request.mask.text(&text).into_bytes(),
        Err(other) => other.into_bytes(),
    };
    let mut value = value::of_head(incoming.status(), incoming.headers());
    let (body, encoding) = value::of_body(incoming.headers(), &bytes);
    value["body"] = body;
    value["encoding"] = encoding.into();
    Ok(output(value, &incoming))
}

async fn part(extract: &HttpExtract, mut incoming: Incoming) -> Result<StepOutput, StepError> {
    let bytes = incoming.in_memory(JSON_BYTES_MAX).await?;
    let part = extract::part(&extract.at, extract::text(&bytes, ANSWER)?, ANSWER)?;
    let mut value = value::of_head(incoming.status(), incoming.headers());
    // A number that is secret leaves no JSON.
    let masked = incoming.request.mask.text(part.get());
    value["body"] = serde_json::from_str(&masked).unwrap_or(Value::String(masked));
    Ok(output(value, &incoming))
}

async fn table(
    extract: &HttpExtract,
    mut incoming: Incoming,
    sender: &Sender<'_>,
    spool: &Spool<'_>,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let format = extract::format(extract, &ContentType::of(incoming.headers()));
    let path = spool.path("answer").await?;
    let bytes = if format == Format::Json && !extract.at.is_whole() {
        let body = incoming.in_memory(JSON_BYTES_MAX).await?;
        let part = extract::part(&extract.at, extract::text(&body, ANSWER)?, ANSWER)?;
        let text = part.get();
        let written = tokio::fs::write(&path, text).await;
        written.map_err(spool::failed)?;
        text.len() as u64
    } else {
        incoming.write_to(&path, sender.client.answer_size).await?;
        incoming.bytes
    };
    let value = value::of_head(incoming.status(), incoming.headers());
    let output = output(value, &incoming);
    let shown = ANSWER.to_owned();
    let answer = Spooled { path, shown, bytes };
    // The connection is not needed for what may take long.
    drop(incoming);
    let table = extract::table(vec![answer], format, extract, context).await?;
    Ok(StepOutput {
        rows: Some(table.rows()),
        table: Some(table),
        ..output
    })
}

/// The answer as a file, which appears whole or not at all.
async fn save(
    path: &str,
    mut incoming: Incoming,
    sender: &Sender<'_>,
    spool: &Spool<'_>,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let from = spool.path("answer").await?;
    incoming.write_to(&from, sender.client.answer_size).await?;
    let mut value = value::of_head(incoming.status(), incoming.headers());
    value["path"] = path.into();
    value["bytes"] = incoming.bytes.into();
    let output = output(value, &incoming);
    drop(incoming);
    let label = context.label();
    let (services, path) = (context.services.clone(), path.to_owned());
    let tables = &context.services.tables;
    let copying =
        tables.on_files(move |work| tables::copy_into(&services.files, &path, &label, &from, work));
    copying.await?;
    Ok(output)
}

fn output(value: Value, incoming: &Incoming) -> StepOutput {
    StepOutput {
        value,
        bytes: Some(incoming.bytes),
        ..StepOutput::default()
    }
}
