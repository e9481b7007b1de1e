//! Starting runs and waiting for their end, also beyond the end of connections
//! and API processes.

use std::{io::Write, time::Duration};

use anyhow::Context;
use millstream_shared::{
    id::{FlowId, RunId},
    run::Status,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::Service;
use crate::failure::Failure;

/// How long the service may be away before a wait for a run is given up.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// The wait before the same request is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What the service says of a run: its two members and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) run_id: RunId,
    pub(crate) status: Status,
}

impl Answer {
    /// Whether the run has ended.
    pub(crate) fn is_final(self) -> bool {
        matches!(self.status, Status::Succeeded | Status::Failed)
    }
}

/// A start of a flow, which can be sent again without starting a second run.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) flow: FlowId,
    pub(crate) inputs: Map<String, Value>,
    pub(crate) idempotency_key: String,
}

/// How long a caller waits for the end of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until it ends.
    Unbounded,
    /// Until it ends, or until then.
    Until(Instant),
}

impl Wait {
    /// Whether the caller waits at all.
    pub(crate) fn is_asked(self) -> bool {
        !matches!(self, Self::No)
    }

    fn is_over(self) -> bool {
        match self {
            Self::No => true,
            Self::Unbounded => false,
            Self::Until(end) => Instant::now() >= end,
        }
    }

    /// The request with the parameters that ask for this.
    fn asked_in(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::No => request,
            Self::Unbounded => request.query(&[("await", "true")]),
            Self::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                let seconds = format!("{:.3}", left.as_secs_f64());
                request.query(&[("await", "true"), ("timeout", &seconds)])
            }
        }
    }
}

impl Service {
    /// Starts a run, and waits for its end if asked to, also beyond the end of
    /// connections and API processes.
    pub(crate) async fn start(&self, start: &Start, wait: Wait) -> Result<Answer, Failure> {
        let (run, answer) = self.post(start, wait).await?;
        match answer {
            Ok(answer) if answer.is_final() || wait.is_over() => Ok(answer),
            Err(failure) if !failure.may_pass() => Err(failure),
            // The connection broke, or the API process stopped.
            _ => self.follow(&start.flow, run, wait).await,
        }
    }

    /// Sends a start until the service has said which run it is.
    async fn post(
        &self,
        start: &Start,
        wait: Wait,
    ) -> Result<(RunId, Result<Answer, Failure>), Failure> {
        let mut patience = Patience::new();
        loop {
            let path = [
                "api",
                "pub",
                "v1",
                "dataflows",
                start.flow.as_str(),
                "start",
            ];
            let mut request = wait
                .asked_in(self.request(Method::POST, &path))
                .header("idempotency-key", &start.idempotency_key);
            if !start.inputs.is_empty() {
                request = request.json(&serde_json::json!({ "inputs": start.inputs }));
            }
            let sent = request.send().await;
            // Nobody was there from the first: no run was started.
            if let Err(error) = &sent
                && error.is_connect()
                && patience.is_fresh()
            {
                return Err(self.unreachable(error));
            }
            let failure = match self.told(sent).await {
                Ok((Some(run), answer)) => return Ok((run, answer)),
                Ok((None, Ok(answer))) => return Ok((answer.run_id, Ok(answer))),
                Ok((None, Err(failure))) | Err(failure) => failure,
            };
            let broke_off = matches!(failure, Failure::Unreachable { .. });
            if !broke_off || !patience.wait().await {
                return Err(failure);
            }
        }
    }

    /// What the answer to a start says: the run in its head, then the rest.
    async fn told(
        &self,
        sent: reqwest::Result<Response>,
    ) -> Result<(Option<RunId>, Result<Answer, Failure>), Failure> {
        let response = self.checked(sent).await?;
        let run = response.headers().get("x-run-id");
        let run = run.and_then(|run| run.to_str().ok()?.parse().ok());
        Ok((run, self.read(response).await))
    }

    /// The status of a run.
    pub(crate) async fn status(
        &self,
        flow: &FlowId,
        run: RunId,
        wait: Wait,
    ) -> Result<Answer, Failure> {
        let run = run.to_string();
        let path = path_of_run(flow, &run, "status");
        let response = self
            .send(wait.asked_in(self.request(Method::GET, &path)))
            .await?;
        self.read(response).await
    }

    /// Writes what a run handed back into `into`, piece by piece.
    pub(crate) async fn output(
        &self,
        flow: &FlowId,
        run: RunId,
        into: &mut impl Write,
    ) -> Result<(), Failure> {
        let run = run.to_string();
        let path = path_of_run(flow, &run, "output");
        let mut response = self.send(self.request(Method::GET, &path)).await?;
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            into.write_all(&chunk).context("cannot write the output")?;
        }
        Ok(())
    }

    /// Waits for the end of a run, attaching again whenever the connection
    /// breaks or the API process stops.
    pub(crate) async fn follow(
        &self,
        flow: &FlowId,
        run: RunId,
        wait: Wait,
    ) -> Result<Answer, Failure> {
        let mut patience = Patience::new();
        loop {
            match self.status(flow, run, wait).await {
                Ok(answer) if answer.is_final() || wait.is_over() => return Ok(answer),
                Ok(_) => {
                    patience = Patience::new();
                    sleep(AGAIN).await;
                }
                Err(failure) if !failure.may_pass() => return Err(failure),
                Err(failure) => {
                    if wait.is_over() || !patience.wait().await {
                        return Err(Failure::Lost {
                            run: run.to_string(),
                            cause: Box::new(failure),
                        });
                    }
                }
            }
        }
    }
}

/// Where something of a run is.
fn path_of_run<'a>(flow: &'a FlowId, run: &'a str, what: &'a str) -> [&'a str; 8] {
    let flow = flow.as_str();
    ["api", "pub", "v1", "dataflows", flow, "runs", run, what]
}

/// How long to go on trying.
#[derive(Debug)]
struct Patience {
    failed_at: Option<Instant>,
}

impl Patience {
    fn new() -> Self {
        Self { failed_at: None }
    }

    fn is_fresh(&self) -> bool {
        self.failed_at.is_none()
    }

    /// Waits a moment after a failure; `false` where there were failures for
    /// too long.
    async fn wait(&mut self) -> bool {
        let failed_at = *self.failed_at.get_or_insert_with(Instant::now);
        if failed_at.elapsed() > AWAY_MAX {
            return false;
        }
        sleep(AGAIN).await;
        true
    }
}
