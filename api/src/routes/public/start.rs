//! `POST …/dataflows/{id}/start`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};
use millstream_shared::{
    access::{Right, sha256_hex},
    flow::{
        Flow,
        expression::{Scope, render_text},
    },
    id::{FlowId, KeyId},
    run::StartRequest,
    store::{Durability, Durable, Enqueue, Enqueued, GroupLimit, Idempotency, StoreError},
};
use serde_json::json;

use super::{followed::Followed, start_body, start_options::StartOptions};
use crate::{
    app::{App, PublishedFlow},
    auth::Caller,
    body::WholeBody,
    clock,
    error::{ApiError, MemberProblem},
    measure,
    query::Query,
    routes::Path,
};

/// A value of a concurrency key that is longer than this counts by its digest.
const GROUP_MAX: usize = 128;

/// Starts a run of a flow, and tells how it is, at once or when it has ended.
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(flow): Path<FlowId>,
    query: Query,
    headers: HeaderMap,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    caller.require(Right::Start, &flow)?;
    let published = app.flow(&flow).await?;
    let options = StartOptions::read(&query, &headers, clock::now_ms())?;
    let request = start_body::read(&body, &published.flow)?;
    let idempotency = options.idempotency(caller.key_id(), &flow, &body);
    let started = begin(&app, &published, &options, &caller, request, idempotency).await;
    count(&started);
    Ok(started?.reply(&app, &flow, options.wait).await)
}

impl StartOptions {
    /// What the store recognises a repeated start by. Only digests get there:
    /// callers put all sorts of things into such a key.
    fn idempotency(&self, caller: &KeyId, flow: &FlowId, body: &[u8]) -> Option<Idempotency> {
        let key = self.idempotency_key.as_ref()?;
        let parts = [caller.as_str(), flow.as_str(), key];
        Some(Idempotency {
            key: sha256_hex(&parts.map(str::as_bytes)),
            fingerprint: sha256_hex(&[body]),
        })
    }
}

async fn begin(
    app: &Arc<App>,
    published: &PublishedFlow,
    options: &StartOptions,
    caller: &Caller,
    request: StartRequest,
    idempotency: Option<Idempotency>,
) -> Result<Followed, ApiError> {
    let flow = &published.flow;
    let limit = group_limit(flow, &request)?;
    // Runs that count against one limit, and repetitions, meet in one partition.
    let together = limit.is_some() || idempotency.is_some() || flow.queue_limit.is_some();
    let run = app.store.new_run(&flow.id, together);
    // The wait begins before the run exists, so that its end cannot be missed.
    let wait = options
        .wait
        .asked
        .then(|| app.waiting.begin(run, caller.key_id()))
        .transpose()?;
    let enqueue = Enqueue {
        run,
        flow: flow.id.clone(),
        version: published.version,
        tag: flow.worker_tag.clone(),
        priority: options.priority,
        limit,
        request,
        when: options.when,
        waiter: wait.is_some().then_some(app.instance),
        idempotency,
        open_max: app.limits.open_max(together, app.store.partitions()),
        open_of_flow_max: app
            .limits
            .open_of_flow_max(flow, together, app.store.partitions()),
        retention: app.retention,
    };
    let Durable { enqueued, reached } = enqueue_as_asked(app, &enqueue, options.durability).await?;
    match enqueued {
        Enqueued::Accepted { state } => {
            if let Some(wait) = &wait {
                wait.accepted(state);
            }
            Ok(Followed {
                run,
                state,
                wait,
                replayed: false,
                durability: Some(reached),
            })
        }
        Enqueued::Replayed { run } => {
            // It would count as a second wait of this caller.
            drop(wait);
            let found = Followed::find(app, &flow.id, run, caller.key_id(), options.wait).await?;
            Ok(Followed {
                replayed: true,
                durability: Some(reached),
                ..found
            })
        }
        Enqueued::OtherBody => Err(ApiError::OtherBody),
        Enqueued::Full(too_many) => Err(ApiError::QueueFull(too_many)),
    }
}

/// Puts the run on its queue. That a server cannot make it as durable as asked
/// is something that the caller has to know before it is accepted.
async fn enqueue_as_asked(
    app: &App,
    enqueue: &Enqueue,
    asked: Durability,
) -> Result<Durable, ApiError> {
    match app.store.enqueue_durably(enqueue, asked).await {
        Err(StoreError::Unsuitable(why)) => Err(ApiError::NotSupported(format!(
            "`durability={asked}` cannot be had: {why}"
        ))),
        answer => Ok(answer?),
    }
}

/// The limit that the run counts against: that of its flow, for each value of
/// the flow's concurrency key apart.
fn group_limit(flow: &Flow, request: &StartRequest) -> Result<Option<GroupLimit>, ApiError> {
    let Some(concurrency) = &flow.concurrency else {
        return Ok(None);
    };
    let group = match &concurrency.key {
        None => flow.id.to_string(),
        Some(template) => {
            let scope = Scope::new(&json!({ "inputs": request.inputs }));
            let value = render_text(template, &scope).map_err(|error| {
                let message = format!("the concurrency key of the flow has no value: {error}");
                ApiError::InvalidInputs(vec![MemberProblem::new("inputs", message)])
            })?;
            // No flow id has a colon in it, so that flows cannot meet here.
            format!("{}:{}", flow.id, group_value(value))
        }
    };
    Ok(Some(GroupLimit {
        key: group,
        limit: concurrency.limit,
        when_full: concurrency.when_full,
    }))
}

/// The value as a part of a key in the store: short, and without spaces.
fn group_value(value: String) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if value.len() <= GROUP_MAX && value.bytes().all(plain) {
        value
    } else {
        sha256_hex(&[value.as_bytes()])
    }
}

fn count(started: &Result<Followed, ApiError>) {
    measure::start(match started {
        Ok(followed) if followed.replayed => "replayed",
        Ok(_) => "accepted",
        Err(ApiError::Store(_)) => "failed",
        Err(_) => "refused",
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_start_is_one_of_the_same_caller_flow_and_key() {
        let options = |key: &str| StartOptions {
            wait: crate::query::Await {
                asked: false,
                limit: None,
            },
            when: millstream_shared::store::When::Now,
            priority: millstream_shared::run::Priority::Normal,
            durability: Durability::Memory,
            idempotency_key: Some(key.to_owned()),
        };
        let made = |caller: &str, flow: &str, key: &str, body: &str| {
            let (caller, flow) = (caller.parse().unwrap(), flow.parse().unwrap());
            options(key)
                .idempotency(&caller, &flow, body.as_bytes())
                .unwrap()
        };
        let first = made("a", "sales", "k", "{}");
        assert_eq!(first.key, made("a", "sales", "k", "[]").key);
        for other in [
            made("b", "sales", "k", "{}"),
            made("a", "stock", "k", "{}"),
            made("a", "sales", "l", "{}"),
        ] {
            assert_ne!(first.key, other.key);
        }
        assert_ne!(first.fingerprint, made("a", "sales", "k", "[]").fingerprint);
        assert!(!first.key.contains("sales"));
    }

    #[test]
    fn the_value_of_a_concurrency_key_is_safe_in_a_key_of_the_store() {
        assert_eq!(group_value("north".into()), "north");
        for odd in ["a b", "a:b", "{x}", "", &"x".repeat(129)] {
            let value = group_value(odd.to_owned());
            assert!(!value.contains([' ', ':', '{']) && value.len() <= 128);
        }
    }
}
