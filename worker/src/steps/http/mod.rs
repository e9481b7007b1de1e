//! The `http` step: one request, and what came back as a value.
//!
//! It reaches only the public internet and what the operator lists
//! ([`allow::AllowList`]); redirects are followed under the same checks. How long it
//! may take is the step's `timeout`.

mod allow;
mod answer;
mod client;
mod file;
mod request;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;
use millstream_shared::flow::{
    expression::{ExpressionError, Scope, render, render_text},
    step::{HttpAuth, HttpStep},
};

pub(crate) use allow::AllowList;
pub(crate) use client::Client;
pub(crate) use file::{Fetched, WebAddress};

use self::request::Request;
use super::{StepContext, StepError, StepOutput};

/// Sends the request of a step and hands on what came back:
/// `{status, headers, body, encoding}`, see [`HttpStep`].
///
/// Every attempt of a step sends the same `Idempotency-Key`,
/// `<run>-<step>`, so that the other side can tell a repetition from a new
/// request.
pub(crate) async fn send(step: &HttpStep, context: &StepContext) -> Result<StepOutput, StepError> {
    let step = filled_in(step, &context.scope)
        .map_err(|error| StepError::permanent("expression", error.to_string()))?;
    let key = format!("{}-{}", context.run, context.step);
    let mut request = Request::new(&step, &key)?;
    request.mask = context.mask.clone();
    tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Err(StepError::cancelled()),
        answer = context.services.http.exchange(request) => Ok(answer?.output()),
    }
}

/// The step with every text of it rendered.
fn filled_in(step: &HttpStep, scope: &Scope) -> Result<HttpStep, ExpressionError> {
    let mut headers = IndexMap::new();
    for (name, text) in &step.headers {
        headers.insert(name.clone(), render_text(text, scope)?);
    }
    let values = |members: &IndexMap<String, serde_json::Value>| {
        let rendered = members
            .iter()
            .map(|(name, value)| Ok((name.clone(), render(value, scope)?)));
        rendered.collect::<Result<IndexMap<_, _>, ExpressionError>>()
    };
    Ok(HttpStep {
        method: step.method,
        url: render_text(&step.url, scope)?,
        headers,
        query: values(&step.query)?,
        json: step.json.as_ref().map(|v| render(v, scope)).transpose()?,
        form: step.form.as_ref().map(values).transpose()?,
        body: step
            .body
            .as_ref()
            .map(|text| render_text(text, scope))
            .transpose()?,
        auth: step
            .auth
            .as_ref()
            .map(|auth| filled_in_auth(auth, scope))
            .transpose()?,
    })
}

fn filled_in_auth(auth: &HttpAuth, scope: &Scope) -> Result<HttpAuth, ExpressionError> {
    Ok(match auth {
        HttpAuth::Basic { username, password } => HttpAuth::Basic {
            username: render_text(username, scope)?,
            password: render_text(password, scope)?,
        },
        HttpAuth::Bearer { token } => HttpAuth::Bearer {
            token: render_text(token, scope)?,
        },
    })
}
