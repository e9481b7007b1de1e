//! One attempt of a step, bounded in time, with what it came to.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::FutureExt;
use millstream_shared::{
    flow::Step,
    run::{RunError, StepRecord, StepState},
    store::Lease,
};

use serde_json::Value;

use super::{
    kept::{self, Kept},
    secrets,
};
use crate::{
    Shared,
    mask::Mask,
    steps::{self, StepContext, StepError, StepOutput},
    tables::TableError,
};

/// How deep the value of a step may nest, so that its record can be read again.
const VALUE_DEPTH_MAX: usize = 64;

/// How an attempt went.
pub(super) struct Attempted {
    pub(super) number: u32,
    pub(super) started_at: u64,
    pub(super) result: Result<StepOutput, StepError>,
    pub(super) kept: Kept,
}

/// Runs one attempt. What it came to holds no secret that the step knew. Who
/// holds the run by `keeping` keeps of it what later attempts of the run need.
pub(super) async fn attempt(
    step: &Step,
    context: StepContext,
    shared: &Shared,
    keeping: Option<&Lease>,
) -> Attempted {
    let number = context.attempt;
    let cancelled = context.cancelled.clone();
    let mask = context.mask.clone();
    let started_at = now_ms();
    let execution = async {
        let mut context = context;
        secrets::bring(step, &mut context, shared).await?;
        steps::run(&step.kind, context).await
    };
    // A fault in one step must not take the other runs of this worker along.
    let execution = AssertUnwindSafe(execution).catch_unwind();
    let execution = execution.map(|ended| ended.unwrap_or_else(|_| Err(panicked())));
    let result = match step.timeout {
        None => execution.await,
        Some(limit) => match tokio::time::timeout(limit.duration(), execution).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the step took longer than {limit}");
                Err(StepError::transient("timeout", message))
            }
        },
    };
    let mut result = masked(result, &mask).and_then(within_limits);
    let mut kept = Kept::default();
    if let (Ok(output), Some(lease)) = (&result, keeping) {
        let keeping = kept::keep(step, lease, number, output, shared);
        let done = cancelled.run_until_cancelled(keeping).await;
        match done.unwrap_or_else(|| Err(StepError::cancelled())) {
            Ok(done) => kept = done,
            Err(error) => result = Err(error),
        }
    }
    Attempted {
        number,
        started_at,
        result,
        kept,
    }
}

fn masked(result: Result<StepOutput, StepError>, mask: &Mask) -> Result<StepOutput, StepError> {
    match result {
        Ok(output) => Ok(StepOutput {
            value: mask.value(output.value),
            ..output
        }),
        Err(error) => Err(StepError {
            message: mask.text(&error.message),
            ..error
        }),
    }
}

fn is_deeper_than(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) if depth > 0 => {
            items.iter().any(|item| is_deeper_than(item, depth - 1))
        }
        Value::Object(members) if depth > 0 => members
            .values()
            .any(|member| is_deeper_than(member, depth - 1)),
        Value::Array(_) | Value::Object(_) => true,
        _ => false,
    }
}

fn panicked() -> StepError {
    let message = "the step met a fault of Millstream itself; the log of its worker has more";
    StepError::permanent("panic", message)
}

fn within_limits(output: StepOutput) -> Result<StepOutput, StepError> {
    if is_deeper_than(&output.value, VALUE_DEPTH_MAX) {
        let message = format!("the value of the step nests deeper than {VALUE_DEPTH_MAX} levels");
        return Err(StepError::permanent("value_too_deep", message));
    }
    Ok(output)
}

impl Attempted {
    /// Whether it ended because the step whose rows it took has stopped.
    pub(super) fn is_interrupted(&self) -> bool {
        let error = self.result.as_ref().err();
        error.is_some_and(|error| error.code == TableError::INTERRUPTED)
    }

    /// What is kept of the step, if this was its last attempt.
    pub(super) fn record(&self, step: &Step) -> StepRecord {
        let output = self.result.as_ref().ok();
        let error = self.result.as_ref().err().map(|error| RunError {
            code: error.code.into(),
            message: error.message.clone(),
            step: Some(step.id.clone()),
        });
        StepRecord {
            state: match output {
                Some(_) => StepState::Succeeded,
                None => StepState::Failed,
            },
            attempts: self.number,
            started_at: self.started_at,
            ended_at: now_ms(),
            value: output.map_or(Value::Null, |output| output.value.clone()),
            value_at: self.kept.value.clone(),
            table_at: self.kept.table.clone(),
            rows: output.and_then(|output| output.rows),
            rows_in: output.and_then(|output| output.rows_in),
            bytes: output.and_then(|output| output.bytes),
            error,
        }
    }

    /// How long to wait before the next attempt, or `None` where there is none.
    /// It is not less than what the other side has asked for.
    pub(super) fn retry_after(&self, step: &Step) -> Option<Duration> {
        let error = self.result.as_ref().err()?;
        let policy = step.retry.as_ref().filter(|_| error.retriable)?;
        let delay_ms = policy.delay_after(self.number, jitter())?;
        let delay = Duration::from_millis(delay_ms);
        Some(delay.max(error.least_pause.unwrap_or_default()))
    }
}

/// The record of a step that is skipped or that failed before its first
/// attempt.
pub(super) fn without_attempt(step: &Step, failure: Option<StepError>) -> StepRecord {
    let now = now_ms();
    StepRecord {
        state: match failure {
            Some(_) => StepState::Failed,
            None => StepState::Skipped,
        },
        attempts: 0,
        started_at: now,
        ended_at: now,
        value: Value::Null,
        value_at: None,
        table_at: None,
        rows: None,
        rows_in: None,
        bytes: None,
        error: failure.map(|error| RunError {
            code: error.code.into(),
            message: error.message,
            step: Some(step.id.clone()),
        }),
    }
}

/// Milliseconds since the epoch on this machine's clock: for people to read,
/// nothing is decided by it.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A number from 0 to 1, different for every attempt.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
