//! The `http` step: a request, or one for each page, and what came back as a
//! value, a table or a file.
//!
//! It reaches only the public internet and what the operator lists
//! ([`allow::AllowList`]); redirects are followed under the same checks. How long
//! all of it may take is the step's `timeout`.

mod allow;
mod answer;
mod body;
mod client;
mod extract;
mod file;
mod filled;
mod paged;
mod paging;
mod refusal;
mod request;
mod sending;
mod service;
mod single;
mod spool;
#[cfg(test)]
mod tests;
mod tokens;
mod value;

use std::time::Duration;

use millstream_shared::flow::step::HttpStep;

pub(crate) use allow::AllowList;
pub(crate) use client::Client;
pub(crate) use file::{Fetched, WebAddress};

use self::{
    body::Body,
    filled::filled_in,
    request::Request,
    sending::Sender,
    service::{Credentials, Service},
    spool::Spool,
};
use super::{StepContext, StepError, StepOutput};

/// How long one request may take unless its step says it.
const REQUEST_TIME: Duration = Duration::from_secs(3600);

/// Sends the requests of a step and hands on what came back, see [`HttpStep`].
///
/// Every attempt of a step sends the same `Idempotency-Key`, `<run>-<step>`, so
/// that the other side can tell a repetition from a new request; the request for
/// the second page has `<run>-<step>-2`, and so on.
pub(crate) async fn send(step: &HttpStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let step = filled_in(step, &context.scope)
        .map_err(|error| StepError::permanent("expression", error.to_string()))?;
    tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Err(StepError::cancelled()),
        output = exchange(&step, context) => output,
    }
}

async fn exchange(step: &HttpStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let services = &context.services;
    if let Some(path) = step.save.clone() {
        // Before something is sent that may not be undone.
        let services = services.clone();
        let checking = context
            .services
            .tables
            .on_files(move |_| services.files.check_target(&path));
        checking.await?;
    }
    let service = service(step, context).await?;
    let spool = Spool::new(&services.work_folder);
    let body = Body::of(step, context, &spool).await?;
    let key = context.label();
    let mut request = Request::new(step, service.as_ref(), body, &key)?;
    request.mask = context.mask.clone();
    let time = step.request_timeout.map(|time| time.duration());
    let sender = Sender {
        client: &services.http,
        grant: match service.as_ref().map(|service| &service.credentials) {
            Some(Credentials::OAuth(grant)) => Some(grant),
            _ => None,
        },
        mask: &context.mask,
        accept: &step.accept,
        time: time.unwrap_or(REQUEST_TIME),
    };
    match &step.pages {
        Some(pages) => paged::read((step, pages), request, &sender, &spool, context).await,
        None => single::exchange(step, request, &sender, &spool, context).await,
    }
}

/// The service that the connection of a step leads to. Its secrets are hidden
/// from here on.
async fn service(step: &HttpStep, context: &StepContext) -> Result<Option<Service>, StepError> {
    let Some(name) = &step.connection else {
        return Ok(None);
    };
    let connection = context.services.connections.named(name).await;
    let connection = connection.map_err(|error| StepError {
        retriable: error.is_passing,
        ..StepError::permanent(error.code, error.message)
    })?;
    let secrets = connection.secret_values();
    context.mask.add(secrets.iter().map(String::as_str));
    Service::of(connection).map(Some)
}
