//! What the owner of a run does with it: beat, checkpoint, finish, requeue.
//!
//! Each is one script that carries the epoch of the claim, and changes nothing
//! where that is an older one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures::future::try_join_all;
use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    artifacts::reference,
    connect::unexpected,
    partition::Partition,
    scripts::{Call, SCRIPTS},
};
use crate::{
    id::{ProcessId, RunId, StepId},
    run::{RunError, RunOutput, RunState, StepRecord},
};

/// How many leases are renewed in one script, so that it stays short.
const BEATS_PER_CALL: usize = 500;

/// A worker's right to a run: its id and the fencing number of the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// Higher with every claim; every write carries it.
    pub epoch: String,
}

/// What a beat brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The lease is renewed.
    Renewed,
    /// The lease is renewed, and somebody asked to cancel the run.
    CancelRequested,
    /// The run is not the worker's any more.
    Lost,
}

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpointed {
    /// It is stored.
    Stored,
    /// It is stored, and somebody asked to cancel the run.
    CancelRequested,
    /// Another value was stored before, and that one counts.
    Already(String),
}

/// An attempt of a step that failed, and is followed by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub number: u32,
    /// When the next one is due, milliseconds since the epoch on Redis's clock.
    pub next_at: u64,
}

/// What is stored of a run's steps.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    /// Steps that ended, and what they came to.
    pub ended: HashMap<StepId, StepRecord>,
    /// The last attempt that failed of each step that is tried again.
    pub attempts: HashMap<StepId, FailedAttempt>,
}

impl Store {
    /// Renews the leases of `worker`; the answers are in the same order.
    ///
    /// # Errors
    /// Fails where Redis does; then no lease counts as renewed or lost.
    pub async fn beat(&self, leases: &[Lease], worker: ProcessId) -> Result<Vec<Beat>, StoreError> {
        let mut places: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (place, lease) in leases.iter().enumerate() {
            let partition = lease.run.partition(self.partitions());
            places.entry(partition).or_default().push(place);
        }
        let some = places.iter().flat_map(|(&partition, places)| {
            let some = places.chunks(BEATS_PER_CALL);
            some.map(move |places| (partition, places))
        });
        let beating = some.map(|(partition, places)| {
            let leases = places.iter().map(|&place| &leases[place]);
            self.at(partition).beat(leases, worker)
        });
        let mut beats = vec![Beat::Lost; leases.len()];
        let told = try_join_all(beating).await?.into_iter().flatten();
        for (beat, place) in told.zip(places.into_values().flatten()) {
            beats[place] = beat;
        }
        Ok(beats)
    }

    /// Stores what a step came to; the first one to do so wins.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the run is not the caller's any more.
    pub async fn checkpoint(
        &self,
        lease: &Lease,
        step: &StepId,
        record: &StepRecord,
    ) -> Result<Checkpointed, StoreError> {
        let record = serde_json::to_string(&record.stored()).map_err(|_| {
            StoreError::corrupt(
                self.of(lease.run).steps(lease.run),
                "a record that can be stored",
            )
        })?;
        self.write_step(lease, step.as_str(), &record).await
    }

    /// Notes that attempt number `attempt` of a step starts, for a step that
    /// must not be repeated blindly. Says whether the attempt is this claim's:
    /// if not, an earlier worker started it and was lost.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the run is not the caller's any more.
    pub async fn mark_started(
        &self,
        lease: &Lease,
        step: &StepId,
        attempt: u32,
    ) -> Result<bool, StoreError> {
        let field = format!("{step}:started:{attempt}");
        match self.write_step(lease, &field, &lease.epoch).await? {
            Checkpointed::Stored | Checkpointed::CancelRequested => Ok(true),
            Checkpointed::Already(epoch) => Ok(epoch == lease.epoch),
        }
    }

    /// Notes that an attempt of a step failed, and when the next one is due, so
    /// that another worker goes on counting and waiting.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the run is not the caller's any more.
    pub async fn note_attempt(
        &self,
        lease: &Lease,
        step: &StepId,
        failed: FailedAttempt,
    ) -> Result<(), StoreError> {
        let field = format!("{step}:attempt:{}", failed.number);
        let next_at = failed.next_at.to_string();
        self.write_step(lease, &field, &next_at).await.map(drop)
    }

    async fn write_step(
        &self,
        lease: &Lease,
        field: &str,
        value: &str,
    ) -> Result<Checkpointed, StoreError> {
        let partition = self.of(lease.run);
        let call = partition
            .call(&SCRIPTS.checkpoint)
            .key(partition.run(lease.run))
            .key(partition.steps(lease.run))
            .argument(lease.epoch.as_str())
            .argument(field)
            .argument(value);
        let answer = call.invoke().await?;
        let words: Vec<String> = from_redis_value(answer).map_err(|_| unexpected("checkpoint"))?;
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["stored"] => Ok(Checkpointed::Stored),
            ["cancel"] => Ok(Checkpointed::CancelRequested),
            ["already", earlier] => Ok(Checkpointed::Already(earlier.to_owned())),
            ["lost"] => Err(StoreError::LeaseLost),
            _ => Err(unexpected("checkpoint")),
        }
    }

    /// Everything that was stored of the run's steps: what ended, which
    /// attempts failed, which starts were noted.
    ///
    /// # Errors
    /// Fails where Redis does, or where a record does not decode.
    pub async fn checkpoints(&self, run: RunId) -> Result<Checkpoints, StoreError> {
        let partition = self.of(run);
        let key = partition.steps(run);
        let read = redis::cmd("HGETALL").arg(&key).clone();
        let fields: HashMap<String, String> = partition.link().ask(&read).await?;
        let mut checkpoints = Checkpoints::default();
        for (field, value) in fields {
            let corrupt = || StoreError::corrupt(&*key, "a record of steps");
            let (step, what) = match field.split_once(':') {
                Some((step, what)) => (step, Some(what)),
                None => (field.as_str(), None),
            };
            let step: StepId = step.parse().map_err(|_| corrupt())?;
            match what {
                None => {
                    let record = serde_json::from_str(&value).map_err(|_| corrupt())?;
                    checkpoints.ended.insert(step, record);
                }
                Some(note) => {
                    let Some(attempt) = note.strip_prefix("attempt:") else {
                        continue;
                    };
                    let failed = FailedAttempt {
                        number: attempt.parse().map_err(|_| corrupt())?,
                        next_at: value.parse().map_err(|_| corrupt())?,
                    };
                    let last = checkpoints.attempts.entry(step).or_default();
                    if failed.number > last.number {
                        *last = failed;
                    }
                }
            }
        }
        Ok(checkpoints)
    }

    /// Ends a run. The same call again, after a lost answer, is fine.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the run is not the caller's any more.
    pub async fn finish(
        &self,
        lease: &Lease,
        state: RunState,
        output: Option<&RunOutput>,
        error: Option<&RunError>,
        retention: Duration,
    ) -> Result<(), StoreError> {
        let error = error.map(serde_json::to_string).transpose();
        let error = error.map_err(|_| {
            StoreError::corrupt(
                self.of(lease.run).run(lease.run),
                "an error that can be stored",
            )
        })?;
        let partition = self.of(lease.run);
        let (output, output_at) = match output {
            None => (String::new(), String::new()),
            Some(RunOutput::Json(json)) => (json.clone(), String::new()),
            Some(RunOutput::Kept(artifact)) => (String::new(), reference(artifact)),
        };
        let call = partition
            .call(&SCRIPTS.finish)
            .key(partition.run(lease.run))
            .argument(lease.run.to_string())
            .argument(lease.epoch.as_str())
            .argument(state.as_str())
            .argument(output)
            .argument(error.unwrap_or_default())
            .number(retention.as_millis() as u64)
            .argument(output_at);
        fenced(call).await
    }

    /// Gives a run back, to go on after `delay`. One that somebody asked to
    /// cancel meanwhile ends, and its record is kept for `retention`.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] where the run is not the caller's any more.
    pub async fn requeue(
        &self,
        lease: &Lease,
        delay: Duration,
        retention: Duration,
    ) -> Result<(), StoreError> {
        let partition = self.of(lease.run);
        let call = partition
            .call(&SCRIPTS.requeue)
            .key(partition.run(lease.run))
            .argument(lease.run.to_string())
            .argument(lease.epoch.as_str())
            .number(delay.as_millis() as u64)
            .number(retention.as_millis() as u64);
        fenced(call).await
    }
}

impl Partition {
    /// Renews leases of its runs; the answers are in the same order.
    async fn beat(
        &self,
        leases: impl Iterator<Item = &Lease>,
        worker: ProcessId,
    ) -> Result<Vec<Beat>, StoreError> {
        let mut call = self
            .call(&SCRIPTS.beat)
            .key(self.delayed())
            .argument(worker.to_string());
        for lease in leases {
            call = call
                .argument(lease.run.to_string())
                .argument(lease.epoch.as_str());
        }
        let answers: Vec<u8> =
            from_redis_value(call.invoke().await?).map_err(|_| unexpected("beat"))?;
        let beats = answers.into_iter().map(|answer| match answer {
            1 => Beat::Renewed,
            2 => Beat::CancelRequested,
            _ => Beat::Lost,
        });
        Ok(beats.collect())
    }
}

/// Runs a script that answers 1, or 0 where the lease was lost.
async fn fenced(call: Call<'_>) -> Result<(), StoreError> {
    match call.invoke().await? {
        Value::Int(1) => Ok(()),
        Value::Int(0) => Err(StoreError::LeaseLost),
        _ => Err(unexpected("finish or requeue")),
    }
}
