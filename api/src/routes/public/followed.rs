//! A run that a caller asked about, and the answer, which may be long in coming.

use std::{convert::Infallible, future::ready, sync::Arc};

use axum::{
    Json,
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use millstream_shared::{
    id::{FlowId, KeyId, RunId},
    run::{RunState, Status},
    store::Durability,
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{app::App, error::ApiError, query::Await, waiting::Wait};

/// What is written while nothing has happened: JSON allows it in front.
const SPACE: Bytes = Bytes::from_static(b" ");

/// The answer about a run: these two members and no others.
#[derive(Serialize)]
struct RunReply {
    #[serde(rename = "runId")]
    run_id: RunId,
    status: Status,
}

/// A run that a caller asked about.
pub(super) struct Followed {
    pub(super) run: RunId,
    pub(super) state: RunState,
    /// There where the caller waits for the end.
    pub(super) wait: Option<Wait>,
    /// The run was started before, by the same Idempotency-Key.
    pub(super) replayed: bool,
    /// How safe its start was when it was accepted, where this answers it.
    pub(super) durability: Option<Durability>,
}

impl Followed {
    /// Looks for a run of the flow, and begins to wait for it if asked to, for the
    /// bearer of `key`.
    pub(super) async fn find(
        app: &Arc<App>,
        flow: &FlowId,
        run: RunId,
        key: &KeyId,
        asked: Await,
    ) -> Result<Self, ApiError> {
        let wait = asked
            .asked
            .then(|| app.waiting.begin(run, key))
            .transpose()?;
        let (found, registered) = match wait {
            None => (app.store.run_state(run).await?, true),
            Some(_) => match app.store.watch(run, app.instance).await {
                // What cannot be written can be read perhaps, again and again.
                Err(error) if error.is_passing() => (app.store.run_state(run).await?, false),
                found => (found?, true),
            },
        };
        match found {
            Some((owner, state)) if owner == *flow => {
                if let Some(wait) = &wait {
                    wait.accepted(state);
                    if !registered {
                        wait.unregistered();
                    }
                }
                Ok(Self {
                    run,
                    state,
                    wait,
                    replayed: false,
                    durability: None,
                })
            }
            _ => {
                let flow = flow.clone();
                Err(ApiError::NoSuchRun { flow, run })
            }
        }
    }

    /// Answers at once, or when the wait is over.
    pub(super) async fn reply(self, app: &App, flow: &FlowId, asked: Await) -> Response {
        let head = self.head(&app.base_path, flow);
        let run = self.run;
        let Some(mut wait) = self.wait else {
            return reply(head, run, self.state);
        };
        let keepalive = app.keepalive;
        let mut ended = Box::pin(async move { wait.end(asked.limit).await });
        if let Ok(state) = timeout(keepalive, &mut ended).await {
            return reply(head, run, state);
        }
        // No proxy may take the silence for a dead connection: the head goes
        // out now, and a space after every further silence.
        let rest = stream::unfold(Some(ended), move |ended| async move {
            let mut ended = ended?;
            Some(match timeout(keepalive, &mut ended).await {
                Ok(state) => (json_reply(run, state), None),
                Err(_) => (SPACE, Some(ended)),
            })
        });
        let body = stream::once(ready(SPACE)).chain(rest);
        let body = Body::from_stream(body.map(Ok::<_, Infallible>));
        (head, [(CONTENT_TYPE, "application/json")], body).into_response()
    }

    fn head(&self, base_path: &str, flow: &FlowId) -> HeaderMap {
        let run = self.run;
        let location = format!("{base_path}/api/pub/v1/dataflows/{flow}/runs/{run}/status");
        let mut head = HeaderMap::new();
        let mut insert = |name: HeaderName, value: String| {
            let value = HeaderValue::try_from(value);
            head.insert(name, value.expect("ids and paths are visible characters"));
        };
        insert(LOCATION, location);
        insert(HeaderName::from_static("x-run-id"), run.to_string());
        if self.replayed {
            insert(
                HeaderName::from_static("idempotency-replayed"),
                "true".into(),
            );
        }
        if let Some(durability) = self.durability {
            insert(
                HeaderName::from_static("x-durability"),
                durability.to_string(),
            );
        }
        head
    }
}

fn reply(head: HeaderMap, run: RunId, state: RunState) -> Response {
    let body = RunReply {
        run_id: run,
        status: state.status(),
    };
    (head, Json(body)).into_response()
}

fn json_reply(run: RunId, state: RunState) -> Bytes {
    let body = RunReply {
        run_id: run,
        status: state.status(),
    };
    Bytes::from(json!(body).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_exactly_the_two_members() {
        let run = "018f0e7a-0000-7000-8000-000000000000".parse().unwrap();
        let expected = r#"{"runId":"018f0e7a-0000-7000-8000-000000000000","status":"Succeeded"}"#;
        assert_eq!(json_reply(run, RunState::Succeeded), expected);
    }

    #[test]
    fn the_head_says_where_the_run_is() {
        let followed = Followed {
            run: "018f0e7a-0000-7000-8000-000000000000".parse().unwrap(),
            state: RunState::Queued,
            wait: None,
            replayed: true,
            durability: Some(Durability::Fsync),
        };
        let head = followed.head("/invision", &"sales".parse().unwrap());
        assert_eq!(
            head["location"],
            "/invision/api/pub/v1/dataflows/sales/runs/018f0e7a-0000-7000-8000-000000000000/status"
        );
        assert_eq!(head["x-run-id"], "018f0e7a-0000-7000-8000-000000000000");
        assert_eq!(head["idempotency-replayed"], "true");
        assert_eq!(head["x-durability"], "fsync");
    }
}
