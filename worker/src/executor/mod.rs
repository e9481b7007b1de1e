//! Executes one claimed run: its steps in the order of their graph, each
//! result stored before anything that needs it starts, and at the end one
//! final state.

mod attempt;
mod kept;
mod phase;
mod scope;
mod secrets;

use std::{sync::Arc, time::Duration};

use millstream_shared::{
    flow::{Flow, expression},
    run::{RunError, RunEvent, RunOutput, RunState},
    store::{Checkpoints, Claimed, StoreError},
};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

use crate::{Shared, lease::Hold};
use phase::{Phase, Steps};
use scope::RunScope;

/// How long to wait before something that Redis could not take is sent again.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// How a run ended, or why this worker has no more to do with it.
enum Outcome {
    Succeeded {
        output: Option<RunOutput>,
    },
    Failed(RunError),
    Cancelled,
    /// It goes on later, here or elsewhere.
    GivenBack {
        delay: Duration,
    },
    /// Another worker has it.
    Lost,
}

/// Executes a run that was just claimed, and stores what came of it.
pub(crate) async fn execute(shared: Arc<Shared>, claimed: Claimed, hold: Hold) {
    let span = tracing::info_span!("run", run = %claimed.lease.run, flow = %claimed.flow);
    async {
        if claimed.resumed {
            tracing::info!(
                claims = claimed.claims,
                "goes on from its last finished step"
            );
        }
        let started = std::time::Instant::now();
        let outcome = executed(&shared, &claimed, &hold).await;
        let ended = settle(&shared, &hold, outcome).await;
        metrics::counter!("millstream_runs_total", "ended" => ended).increment(1);
        metrics::histogram!("millstream_run_seconds").record(started.elapsed().as_secs_f64());
        tracing::info!(ended, "run");
    }
    .instrument(span)
    .await;
}

async fn executed(shared: &Arc<Shared>, claimed: &Claimed, hold: &Hold) -> Outcome {
    tokio::select! {
        // Looked at in this order: who lost the run must not report anything.
        biased;
        () = hold.signals.lost.cancelled() => Outcome::Lost,
        outcome = run(shared, claimed, hold) => outcome,
    }
}

async fn run(shared: &Arc<Shared>, claimed: &Claimed, hold: &Hold) -> Outcome {
    let flow = match patiently(|| {
        shared
            .flows
            .version(&shared.store, &claimed.flow, claimed.version)
    })
    .await
    {
        Ok(Some(flow)) => flow,
        Ok(None) => {
            let message = format!("version {} of the flow is gone", claimed.version);
            return failed("flow_gone", message);
        }
        Err(error) => return failed("corrupt_flow", error.to_string()),
    };
    let mut checkpoints = if claimed.resumed {
        match patiently(|| shared.store.checkpoints(claimed.lease.run)).await {
            Ok(checkpoints) => checkpoints,
            Err(error) => return failed("corrupt_record", error.to_string()),
        }
    } else {
        Checkpoints::default()
    };
    let bringing = kept::bring_values(&mut checkpoints, shared);
    let lost_values = match unless_given_up(shared, hold, bringing).await {
        Ok(Ok(lost)) => lost,
        Ok(Err(error)) => return failed(error.code(), error.to_string()),
        Err(interrupted) => return interrupted,
    };
    let mut scope = RunScope::new(claimed, &checkpoints);
    let clock = Clock {
        claimed_at: claimed.claimed_at,
        since: Instant::now(),
    };
    let steps = Steps {
        shared,
        hold,
        flow: &claimed.flow,
        checkpoints: &checkpoints,
        lost_values: &lost_values,
        clock,
    };

    let deadline = deadline(&flow, claimed);
    let main = within(deadline, steps.run(&flow.steps, &mut scope)).await;
    let error = match main {
        Phase::Done => match handed_back(shared, hold, &flow, &scope).await {
            Ok(output) => return Outcome::Succeeded { output },
            Err(Outcome::Failed(error)) => error,
            Err(interrupted) => return interrupted,
        },
        Phase::Failed(error) => error,
        interrupted => return interrupted.into(),
    };
    scope.fail(error.clone());
    match steps.run(&flow.on_failure, &mut scope).await {
        Phase::Done => Outcome::Failed(error),
        Phase::Failed(second) => {
            let RunError { code, message, .. } = second;
            tracing::warn!(code, message, "a step of on_failure failed");
            Outcome::Failed(error)
        }
        interrupted => interrupted.into(),
    }
}

/// Carries steps through until the time of the run is over. A pause is not
/// longer than that.
async fn within(deadline: Option<Instant>, steps: impl Future<Output = Phase>) -> Phase {
    let Some(deadline) = deadline else {
        return steps.await;
    };
    let over = || {
        let message = "the run took longer than its flow allows".into();
        Phase::Failed(error("timeout", message))
    };
    if deadline <= Instant::now() {
        return over();
    }
    match timeout_at(deadline, steps).await {
        Ok(Phase::Paused(delay)) => {
            Phase::Paused(delay.min(deadline.saturating_duration_since(Instant::now())))
        }
        Ok(phase) => phase,
        Err(_) => over(),
    }
}

/// Redis's clock, read at the claim and told on by this process's own.
#[derive(Clone, Copy)]
struct Clock {
    claimed_at: u64,
    since: Instant,
}

impl Clock {
    /// The time on Redis's clock after so long, milliseconds since the epoch.
    fn after(self, delay: Duration) -> u64 {
        self.claimed_at + (self.since.elapsed() + delay).as_millis() as u64
    }

    /// The moment that Redis's clock shows this time.
    fn at(self, time_ms: u64) -> Instant {
        self.since + Duration::from_millis(time_ms.saturating_sub(self.claimed_at))
    }
}

impl From<Phase> for Outcome {
    /// What an interruption means for the run.
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Done => Self::Succeeded { output: None },
            Phase::Failed(error) => Self::Failed(error),
            Phase::Cancelled => Self::Cancelled,
            Phase::Paused(delay) => Self::GivenBack { delay },
            Phase::Lost => Self::Lost,
        }
    }
}

fn failed(code: &str, message: String) -> Outcome {
    Outcome::Failed(error(code, message))
}

fn error(code: &str, message: String) -> RunError {
    RunError {
        code: code.into(),
        message,
        step: None,
    }
}

/// When the flow's time is over. Only Redis's clock counts: the time from the
/// first claim to this one.
fn deadline(flow: &Flow, claimed: &Claimed) -> Option<Instant> {
    let timeout = flow.timeout?.duration();
    let used = claimed.claimed_at.saturating_sub(claimed.started_at);
    Some(Instant::now() + timeout.saturating_sub(Duration::from_millis(used)))
}

/// What the run hands back, and where it is.
async fn handed_back(
    shared: &Shared,
    hold: &Hold,
    flow: &Flow,
    scope: &RunScope,
) -> Result<Option<RunOutput>, Outcome> {
    let Some(json) = output(flow, scope, shared).map_err(Outcome::Failed)? else {
        return Ok(None);
    };
    let keeping = kept::keep_output(json, &hold.lease, shared);
    let kept = unless_given_up(shared, hold, keeping).await?;
    kept.map(Some).map_err(|cause| {
        let message = format!("the output cannot be kept: {cause}");
        failed(cause.code(), message)
    })
}

/// What the run hands back, as JSON.
fn output(flow: &Flow, scope: &RunScope, shared: &Shared) -> Result<Option<String>, RunError> {
    let Some(template) = &flow.output else {
        return Ok(None);
    };
    let (limit, setting) = kept::output_limit(shared);
    let rendered = expression::render_up_to(template, &scope.for_output(), limit.addressable());
    let output = rendered
        .map_err(|cause| error("expression", format!("the output has no value: {cause}")))?;
    let output = output.map(|output| output.to_string());
    let output = output.filter(|json| json.len() as u64 <= limit.bytes());
    if output.is_none() {
        let message = format!("the output has more than the {limit} of JSON that {setting} allows");
        return Err(error("output_too_large", message));
    }
    Ok(output)
}

/// Waits for `work` as long as the run is to go on here.
async fn unless_given_up<T>(
    shared: &Shared,
    hold: &Hold,
    work: impl Future<Output = T>,
) -> Result<T, Outcome> {
    tokio::select! {
        biased;
        () = hold.signals.cancelled.cancelled() => Err(Outcome::Cancelled),
        () = shared.grace_over.cancelled() => Err(Outcome::GivenBack { delay: Duration::ZERO }),
        done = work => Ok(done),
    }
}

/// Stores what came of the run, and says in a word what that was. Goes on
/// trying while Redis cannot take it: the lease is renewed meanwhile, and when
/// it is lost the run is somebody else's.
async fn settle(shared: &Shared, hold: &Hold, outcome: Outcome) -> &'static str {
    let retention = shared.config.retention;
    let finish = async |event, output: Option<&RunOutput>, error: Option<&RunError>| {
        let state = RunState::Running.after(event);
        let state = state.expect("a running run can end in each of these ways");
        patiently(|| {
            shared
                .store
                .finish(&hold.lease, state, output, error, retention)
        })
        .await
    };
    let (ended, stored) = match outcome {
        Outcome::Lost => {
            tracing::warn!("the lease on the run was lost: stopped, and nothing more is written");
            return "lost";
        }
        Outcome::Succeeded { output } => (
            "succeeded",
            finish(RunEvent::StepsDone, output.as_ref(), None).await,
        ),
        Outcome::Failed(error) => {
            tracing::warn!(
                code = error.code,
                step = error.step.as_ref().map(tracing::field::display),
                message = error.message,
                "run failed"
            );
            (
                "failed",
                finish(RunEvent::StepFailed, None, Some(&error)).await,
            )
        }
        Outcome::Cancelled => ("cancelled", finish(RunEvent::Cancelled, None, None).await),
        Outcome::GivenBack { delay } => (
            "given_back",
            patiently(|| shared.store.requeue(&hold.lease, delay, retention)).await,
        ),
    };
    match stored {
        Ok(()) => ended,
        Err(StoreError::LeaseLost) => {
            tracing::warn!("the run is another worker's by now: nothing was written");
            metrics::counter!("millstream_writes_fenced_total").increment(1);
            "lost"
        }
        Err(error) => {
            tracing::error!(%error, "the end of the run could not be stored");
            "lost"
        }
    }
}

/// Asks the store until it answers; what cannot pass is an error.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "redis did not take it, trying again");
                sleep(STORE_PAUSE).await;
            }
            answer => return answer,
        }
    }
}
