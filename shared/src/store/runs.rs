//! The records of runs as the API sees them: state, waiting, cancelling.

use std::time::Duration;

use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    connect::unexpected,
    keys,
    scripts::{Call, SCRIPTS},
};
use crate::{
    id::{FlowId, ProcessId, RunId},
    run::RunState,
};

/// What became of the wish to cancel a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    AtOnce,
    /// Its worker was asked to stop it.
    Requested,
    /// It had ended before.
    HadEnded,
    /// There is no such run.
    Unknown,
}

impl Store {
    /// Where a run stands, and the flow it belongs to.
    ///
    /// # Errors
    /// Fails where Redis does, or where the record is not one of a run.
    pub async fn run_state(&self, run: RunId) -> Result<Option<(FlowId, RunState)>, StoreError> {
        let mut read = redis::cmd("HMGET");
        read.arg(keys::run(run)).arg("state").arg("flow");
        stood(run, self.link().ask(&read).await)
    }

    /// Registers `instance` with the run and says where it stands, in one
    /// step: either the state is final, or a notice will come.
    ///
    /// # Errors
    /// As [`Store::run_state`].
    pub async fn watch(
        &self,
        run: RunId,
        instance: ProcessId,
    ) -> Result<Option<(FlowId, RunState)>, StoreError> {
        stood(run, watch_call(run, instance).invoke(self.link()).await)
    }

    /// The same for many runs in one round trip. A run whose record cannot be
    /// read counts as unknown.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn watch_many(
        &self,
        runs: &[RunId],
        instance: ProcessId,
    ) -> Result<Vec<Option<RunState>>, StoreError> {
        let calls: Vec<_> = runs.iter().map(|&run| watch_call(run, instance)).collect();
        let answers = Call::invoke_all(&calls, self.link()).await?;
        let states = runs
            .iter()
            .zip(answers)
            .map(|(&run, answer)| match stood(run, answer) {
                Ok(found) => Ok(found.map(|(_, state)| state)),
                Err(error) if error.is_passing() => Err(error),
                Err(error) => {
                    tracing::error!(%run, %error, "the record of the run cannot be read");
                    Ok(None)
                }
            });
        states.collect()
    }

    /// Cancels a run: at once where nobody executes it.
    ///
    /// # Errors
    /// As [`Store::run_state`].
    pub async fn cancel(&self, run: RunId, retention: Duration) -> Result<Cancelled, StoreError> {
        let call = Call::new(&SCRIPTS.cancel)
            .key(keys::run(run))
            .key(keys::delayed())
            .argument(run.to_string())
            .number(retention.as_millis() as u64);
        let word: String =
            from_redis_value(call.invoke(self.link()).await?).map_err(|_| unexpected("cancel"))?;
        match word.as_str() {
            "cancelled" => Ok(Cancelled::AtOnce),
            "requested" => Ok(Cancelled::Requested),
            "final" => Ok(Cancelled::HadEnded),
            "unknown" => Ok(Cancelled::Unknown),
            _ => Err(unexpected("cancel")),
        }
    }
}

fn watch_call(run: RunId, instance: ProcessId) -> Call<'static> {
    Call::new(&SCRIPTS.watch)
        .key(keys::run(run))
        .argument(instance.to_string())
}

/// State and flow out of an answer; none where the record has none.
fn stood(
    run: RunId,
    answer: Result<Value, redis::RedisError>,
) -> Result<Option<(FlowId, RunState)>, StoreError> {
    let corrupt = || StoreError::corrupt(keys::run(run), "the record of a run");
    let answer = match answer {
        Err(error) if error.code() == Some("WRONGTYPE") => return Err(corrupt()),
        answer => answer?,
    };
    let words: Vec<Option<String>> = from_redis_value(answer).map_err(|_| corrupt())?;
    match &words[..] {
        [] | [None, _] => Ok(None),
        [Some(state), Some(flow)] => {
            let flow = flow.parse().map_err(|_| corrupt())?;
            Ok(Some((flow, state.parse().map_err(|_| corrupt())?)))
        }
        _ => Err(corrupt()),
    }
}
