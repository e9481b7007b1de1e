//! The queue as workers see it: taking runs, queueing those that are due, and
//! taking over those of workers that fell silent. Each is one script.

use std::time::Duration;

use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    connect::unexpected,
    held::Lease,
    keys,
    partition::Partition,
    reader::Delivered,
    scripts::{Call, SCRIPTS, Script},
};
use crate::{
    id::{FlowId, ProcessId, WorkerTag},
    run::{Priority, RunError, RunState, StartRequest},
};

/// How long the record of a run that does not decode is kept: a day, to look at.
const CORRUPT_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How many due runs are queued in one script.
const PROMOTED_PER_CALL: u64 = 100;

/// A run that a worker took.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right to it.
    pub lease: Lease,
    /// Its flow.
    pub flow: FlowId,
    /// The version of the flow that it keeps to.
    pub version: u32,
    /// What the start brought.
    pub request: StartRequest,
    /// Whether it was claimed before, so that it may have checkpoints.
    pub resumed: bool,
    /// Which claim of the run this is, from 1: how many workers were lost
    /// while they executed it, and one.
    pub claims: u32,
    /// When it was first claimed, milliseconds since the epoch.
    pub started_at: u64,
    /// When it was claimed now, milliseconds since the epoch, on Redis's clock.
    pub claimed_at: u64,
}

/// Who takes runs, and how long it may be silent before they are taken away.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// Its name.
    pub worker: ProcessId,
    /// How long it may be silent.
    pub lease: Duration,
}

/// A look for runs of silent workers in all queues of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'s> {
    /// The partition.
    pub partition: u8,
    /// The worker tags of the queues.
    pub tags: &'s [WorkerTag],
    /// How long a worker may be silent, where its own lease is not longer.
    pub lease: Duration,
    /// After so many claims without a step ending in between a run is set aside.
    pub claims_max: u32,
    /// How long the record of a run is kept that ends here.
    pub retention: Duration,
}

/// What a sweep of silent workers' runs came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Runs that were queued again.
    pub queued: u64,
    /// Runs that were set aside.
    pub dead: u64,
    /// Runs that wait to be executed by a worker that executes nothing else.
    pub alone: u64,
}

impl Store {
    /// Takes up to `room` runs of a partition that wait for a worker with one of
    /// `tags`, the priorities and tags in this order.
    ///
    /// # Errors
    /// After [`StoreError::Unavailable`] runs may have been claimed for
    /// nobody; they come back when their leases expire.
    pub async fn claim(
        &self,
        partition: u8,
        tags: &[WorkerTag],
        order: [Priority; 3],
        consumer: Consumer,
        room: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.claim_from(partition, queues(tags, order), consumer, room)
            .await
    }

    /// Takes a run of a partition that is to be executed beside no other, if one
    /// waits.
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub async fn claim_alone(
        &self,
        partition: u8,
        tags: &[WorkerTag],
        consumer: Consumer,
    ) -> Result<Option<Claimed>, StoreError> {
        let queues = tags.iter().map(keys::alone_queue_name);
        let claimed = self.claim_from(partition, queues, consumer, 1).await?;
        Ok(claimed.into_iter().next())
    }

    async fn claim_from(
        &self,
        partition: u8,
        queues: impl Iterator<Item = String>,
        consumer: Consumer,
        room: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let partition = self.at(partition);
        let mut call = partition
            .call(&SCRIPTS.claim)
            .argument(consumer.worker.to_string())
            .number(room as u64)
            .number(consumer.lease.as_millis() as u64);
        for queue in queues {
            call = call.key(partition.queue(&queue));
        }
        self.claimed(call.invoke().await?).await
    }

    /// Takes the runs of entries that a blocking read of a partition delivered
    /// to a consumer.
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub async fn begin(
        &self,
        partition: u8,
        delivered: &[Delivered],
        consumer: Consumer,
    ) -> Result<Vec<Claimed>, StoreError> {
        let call = about(self.at(partition), &SCRIPTS.begin, delivered, consumer);
        self.claimed(call.invoke().await?).await
    }

    /// Puts runs of a partition that were delivered to a consumer, and that it
    /// does not execute, back into their queues.
    ///
    /// # Errors
    /// Fails where Redis does; the entries then come back when their leases
    /// expire.
    pub async fn hand_back(
        &self,
        partition: u8,
        delivered: &[Delivered],
        consumer: Consumer,
    ) -> Result<(), StoreError> {
        let call = about(self.at(partition), &SCRIPTS.hand_back, delivered, consumer);
        call.invoke().await?;
        Ok(())
    }

    /// The claimed runs in a script's answer. One whose record does not decode
    /// is failed here, alone, and the others go on.
    async fn claimed(&self, answer: Value) -> Result<Vec<Claimed>, StoreError> {
        let rows: Vec<Vec<String>> = from_redis_value(answer).map_err(|_| unexpected("claim"))?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let [run, epoch, flow, version, request, resumed, counts @ ..] = &row[..] else {
                return Err(unexpected("claim"));
            };
            let lease = Lease {
                run: match run.parse() {
                    Ok(run) => run,
                    // No record of ours: there is nothing to fail, and the
                    // sweep of silent runs ends up setting it aside.
                    Err(error) => {
                        tracing::error!(%error, "claimed an entry that names no run");
                        continue;
                    }
                },
                epoch: epoch.clone(),
            };
            match decoded(lease.clone(), flow, version, request, counts) {
                Some(run) => claimed.push(Claimed {
                    resumed: resumed == "1",
                    ..run
                }),
                None => self.fail_corrupt(&lease).await?,
            }
        }
        Ok(claimed)
    }

    async fn fail_corrupt(&self, lease: &Lease) -> Result<(), StoreError> {
        tracing::error!(run = %lease.run, "the record of the run does not decode");
        let error = RunError {
            code: "corrupt_record".into(),
            message: "the stored record of the run does not decode".into(),
            step: None,
        };
        self.finish(lease, RunState::Failed, None, Some(&error), CORRUPT_KEPT)
            .await
    }

    /// Queues runs of a partition that are due. Says how many were, and how long
    /// it is until the next one. One that finds no room and does not wait for
    /// any ends, and its record is kept for `retention`.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn promote(
        &self,
        partition: u8,
        retention: Duration,
    ) -> Result<(u64, Option<Duration>), StoreError> {
        let partition = self.at(partition);
        let call = partition
            .call(&SCRIPTS.promote)
            .key(partition.delayed())
            .number(PROMOTED_PER_CALL)
            .number(retention.as_millis() as u64);
        let (due, next_ms): (u64, i64) =
            from_redis_value(call.invoke().await?).map_err(|_| unexpected("promote"))?;
        let next = u64::try_from(next_ms).ok().map(Duration::from_millis);
        Ok((due, next))
    }

    /// Takes runs away from workers that were silent for too long, in all queues
    /// of a partition.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn reap(&self, sweep: &Sweep<'_>) -> Result<Reaped, StoreError> {
        let partition = self.at(sweep.partition);
        let mut call = partition
            .call(&SCRIPTS.reap)
            .number(sweep.lease.as_millis() as u64)
            .number(sweep.claims_max.into())
            .number(sweep.retention.as_millis() as u64);
        for queue in all_queues(sweep.tags) {
            call = call.key(partition.queue(&queue));
        }
        let (queued, dead, alone) =
            from_redis_value(call.invoke().await?).map_err(|_| unexpected("reap"))?;
        Ok(Reaped {
            queued,
            dead,
            alone,
        })
    }

    /// Takes the turn of a duty that one worker is enough for, for so long. Says
    /// whether it is this one's.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn take_turn(
        &self,
        partition: u8,
        duty: &str,
        worker: ProcessId,
        lasting: Duration,
    ) -> Result<bool, StoreError> {
        let partition = self.at(partition);
        let (key, worker) = (partition.turn(duty), worker.to_string());
        let lasting_ms = (lasting.as_millis() as u64).max(1);
        let mut take = redis::cmd("SET");
        take.arg(&key).arg(&worker);
        take.arg("NX").arg("PX").arg(lasting_ms);
        let taken: Option<String> = partition.link().ask(&take).await?;
        if taken.is_some() {
            return Ok(true);
        }
        let holder: Option<String> = partition.link().ask(redis::cmd("GET").arg(&key)).await?;
        if holder.as_deref() != Some(&worker) {
            return Ok(false);
        }
        let mut renew = redis::cmd("PEXPIRE");
        Ok(partition
            .link()
            .ask(renew.arg(&key).arg(lasting_ms))
            .await?)
    }

    /// Forgets consumers of a partition's queues that hold nothing and were
    /// silent for `silent`, and `leaving` at once if it holds nothing.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn forget_consumers(
        &self,
        partition: u8,
        tags: &[WorkerTag],
        silent: Duration,
        leaving: Option<ProcessId>,
    ) -> Result<u64, StoreError> {
        let partition = self.at(partition);
        let mut call = partition.call(&SCRIPTS.forget);
        for queue in all_queues(tags) {
            call = call.key(partition.queue(&queue));
        }
        let call = call
            .number(silent.as_millis() as u64)
            .argument(leaving.map_or_else(String::new, |worker| worker.to_string()));
        from_redis_value(call.invoke().await?).map_err(|_| unexpected("forget"))
    }
}

/// The names of the queues of tags, those of the first priority first.
pub(super) fn queues(tags: &[WorkerTag], order: [Priority; 3]) -> impl Iterator<Item = String> {
    order.into_iter().flat_map(move |priority| {
        let names = tags.iter().map(move |tag| keys::queue_name(tag, priority));
        names.collect::<Vec<_>>()
    })
}

/// The names of all queues of tags, those of runs to execute alone last.
pub(super) fn all_queues(tags: &[WorkerTag]) -> impl Iterator<Item = String> {
    queues(tags, Priority::ALL).chain(tags.iter().map(keys::alone_queue_name))
}

/// The call of a script about entries that were delivered to a consumer.
fn about<'p>(
    partition: &'p Partition,
    script: &'static Script,
    delivered: &[Delivered],
    consumer: Consumer,
) -> Call<'p> {
    let mut call = partition
        .call(script)
        .argument(consumer.worker.to_string())
        .number(consumer.lease.as_millis() as u64);
    for Delivered { stream, entry, run } in delivered {
        call = call.key(stream.clone());
        call = call.argument(entry.as_str()).argument(run.as_str());
    }
    call
}

fn decoded(
    lease: Lease,
    flow: &str,
    version: &str,
    request: &str,
    counts: &[String],
) -> Option<Claimed> {
    let [claims, started_at, claimed_at] = counts else {
        return None;
    };
    Some(Claimed {
        lease,
        flow: flow.parse().ok()?,
        version: version.parse().ok()?,
        request: serde_json::from_str(request).ok()?,
        resumed: false,
        claims: claims.parse().ok()?,
        started_at: started_at.parse().ok()?,
        claimed_at: claimed_at.parse().ok()?,
    })
}
