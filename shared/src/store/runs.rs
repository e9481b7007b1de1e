//! The records of runs as the API sees them: state, waiting, cancelling.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    connect::unexpected,
    partition::Partition,
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
        let partition = self.of(run);
        let mut read = redis::cmd("HMGET");
        read.arg(partition.run(run)).arg("state").arg("flow");
        stood(run, partition, partition.link().ask(&read).await)
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
        let partition = self.of(run);
        let answer = watch_call(partition, run, instance).invoke().await;
        stood(run, partition, answer)
    }

    /// The same for many runs, in one round trip for each partition. A run whose
    /// record cannot be read counts as unknown. Runs that could not be asked for
    /// are left out.
    ///
    /// # Errors
    /// Fails where Redis does for every one of them.
    pub async fn watch_many(
        &self,
        runs: &[RunId],
        instance: ProcessId,
    ) -> Result<Vec<(RunId, Option<RunState>)>, StoreError> {
        let mut by_partition: BTreeMap<u8, Vec<RunId>> = BTreeMap::new();
        for &run in runs {
            let partition = run.partition(self.partitions());
            by_partition.entry(partition).or_default().push(run);
        }
        let asking = by_partition
            .iter()
            .map(|(&partition, runs)| watch_all(self.at(partition), runs, instance));
        let mut told = Vec::new();
        let mut failed = None;
        for answer in join_all(asking).await {
            match answer {
                Ok(states) => told.extend(states),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if told.is_empty() => Err(error),
            _ => Ok(told),
        }
    }

    /// Cancels a run: at once where nobody executes it.
    ///
    /// # Errors
    /// As [`Store::run_state`].
    pub async fn cancel(&self, run: RunId, retention: Duration) -> Result<Cancelled, StoreError> {
        let partition = self.of(run);
        let call = partition
            .call(&SCRIPTS.cancel)
            .key(partition.run(run))
            .key(partition.delayed())
            .argument(run.to_string())
            .number(retention.as_millis() as u64);
        let word: String =
            from_redis_value(call.invoke().await?).map_err(|_| unexpected("cancel"))?;
        match word.as_str() {
            "cancelled" => Ok(Cancelled::AtOnce),
            "requested" => Ok(Cancelled::Requested),
            "final" => Ok(Cancelled::HadEnded),
            "unknown" => Ok(Cancelled::Unknown),
            _ => Err(unexpected("cancel")),
        }
    }
}

/// Registers with runs of one partition, and says where they stand.
async fn watch_all(
    partition: &Partition,
    runs: &[RunId],
    instance: ProcessId,
) -> Result<Vec<(RunId, Option<RunState>)>, StoreError> {
    let call = |&run: &RunId| watch_call(partition, run, instance);
    let calls: Vec<_> = runs.iter().map(call).collect();
    let answers = Call::invoke_all(&calls, partition).await?;
    let states =
        runs.iter()
            .zip(answers)
            .map(|(&run, answer)| match stood(run, partition, answer) {
                Ok(found) => Ok((run, found.map(|(_, state)| state))),
                Err(error) if error.is_passing() => Err(error),
                Err(error) => {
                    tracing::error!(%run, %error, "the record of the run cannot be read");
                    Ok((run, None))
                }
            });
    states.collect()
}

fn watch_call<'p>(partition: &'p Partition, run: RunId, instance: ProcessId) -> Call<'p> {
    partition
        .call(&SCRIPTS.watch)
        .key(partition.run(run))
        .argument(instance.to_string())
}

/// State and flow out of an answer; none where the record has none.
fn stood(
    run: RunId,
    partition: &Partition,
    answer: Result<Value, redis::RedisError>,
) -> Result<Option<(FlowId, RunState)>, StoreError> {
    let corrupt = || StoreError::corrupt(partition.run(run), "the record of a run");
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
