//! Accepting starts.

use std::time::{Duration, Instant};

use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    connect::unexpected,
    keys,
    partition::Partition,
    scripts::{Call, SCRIPTS},
};
use crate::{
    flow::WhenFull,
    id::{FlowId, ProcessId, RunId, WorkerTag},
    run::{Priority, RunState, StartRequest},
};

/// How long an idempotency key is remembered: 24 h.
const IDEMPOTENCY_WINDOW_MS: u64 = 24 * 3600 * 1000;

/// How often an enqueue is sent again when its answer was lost.
const SENT_AGAIN_MAX: u32 = 2;

/// A start to accept.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// The id of the new run, drawn by the caller with [`Store::new_run`]: the
    /// same call again is the same run.
    pub run: RunId,
    /// The flow.
    pub flow: FlowId,
    /// Which version of it the run keeps to.
    pub version: u32,
    /// Which workers may take it.
    pub tag: WorkerTag,
    /// How urgent it is.
    pub priority: Priority,
    /// What the start brought.
    pub request: StartRequest,
    /// When it becomes due.
    pub when: When,
    /// The limit it counts against.
    pub limit: Option<GroupLimit>,
    /// The API process that waits for its end.
    pub waiter: Option<ProcessId>,
    /// What makes a repeated start the same run.
    pub idempotency: Option<Idempotency>,
    /// How many runs of the service may be on their way. With several
    /// partitions each has its share.
    pub open_max: u64,
    /// How many runs of the flow may be on their way, likewise.
    pub open_of_flow_max: u64,
    /// How long the record of a run is kept that ends without room.
    pub retention: Duration,
}

/// When a run becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// After so many milliseconds on Redis's clock.
    After(u64),
    /// At so many milliseconds since the epoch.
    At(u64),
}

/// A flow's limit of runs at once, for one value of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// What the runs have in common: the flow and the value of its key.
    pub key: String,
    /// How many of them may execute at once.
    pub limit: u32,
    /// What happens to a run beyond that.
    pub when_full: WhenFull,
}

/// What makes a repeated start the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// A hash over caller, flow and the key that the caller chose.
    pub key: String,
    /// A hash over the request, to tell a repetition from another start.
    pub fingerprint: String,
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is a run now.
    Accepted {
        /// Where the run stands.
        state: RunState,
    },
    /// The idempotency key had started this run before.
    Replayed {
        /// The earlier run.
        run: RunId,
    },
    /// The idempotency key had come with another request before.
    OtherBody,
    /// So many runs are on their way that no more are taken.
    Full(TooMany),
}

/// How far there are too many runs, and how fast they become fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// Of which runs.
    pub scope: Scope,
    /// How many must end before there is room for one.
    pub excess: u64,
    /// How many have ended lately.
    pub ended: u64,
    /// Within how many milliseconds.
    pub within_ms: u64,
}

/// What a limit of runs is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All runs.
    Service,
    /// Those of one flow.
    Flow,
}

impl TooMany {
    /// The longest that a caller is told to stay away.
    const AWAY_MAX_SECONDS: u64 = 3600;
    /// What it is told where no run has ended lately, so that nobody can say.
    const AWAY_UNKNOWN_SECONDS: u64 = 60;

    /// After how many seconds there is room, if runs go on ending as fast as
    /// they did; at least 1.
    pub fn room_in_seconds(&self) -> u64 {
        if self.ended == 0 {
            return Self::AWAY_UNKNOWN_SECONDS;
        }
        let ms = self.excess.saturating_mul(self.within_ms) / self.ended;
        ms.div_ceil(1000).clamp(1, Self::AWAY_MAX_SECONDS)
    }
}

impl Store {
    /// Accepts a start: when this returns, the run is in Redis. An answer that
    /// gets lost is asked for again, which the run id makes safe.
    ///
    /// # Errors
    /// Fails where Redis cannot be reached or has no room. After
    /// [`StoreError::Unavailable`] the run may exist all the same.
    pub async fn enqueue(&self, start: &Enqueue) -> Result<Enqueued, StoreError> {
        let call = call(self.of(start.run), start)?;
        let began = Instant::now();
        let mut sent_again = 0;
        loop {
            match call.invoke().await.map_err(StoreError::from) {
                // A server that did not answer in time is not asked again: the
                // caller has waited long enough.
                Err(StoreError::Unavailable(_))
                    if sent_again < SENT_AGAIN_MAX && began.elapsed() < self.shared.timeout / 2 =>
                {
                    sent_again += 1;
                }
                answer => return enqueued(answer?),
            }
        }
    }
}

/// What the script answered.
pub(super) fn enqueued(answer: Value) -> Result<Enqueued, StoreError> {
    let words: Vec<String> = from_redis_value(answer).map_err(|_| unexpected("enqueue"))?;
    let number = |word: &str| word.parse().map_err(|_| unexpected("enqueue"));
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["accepted", state] => Ok(Enqueued::Accepted {
            state: state.parse().map_err(|_| unexpected("enqueue"))?,
        }),
        ["replayed", run] => Ok(Enqueued::Replayed {
            run: run.parse().map_err(|_| unexpected("enqueue"))?,
        }),
        ["other_body"] => Ok(Enqueued::OtherBody),
        ["full", scope, excess, ended, within_ms] => Ok(Enqueued::Full(TooMany {
            scope: if scope == "flow" {
                Scope::Flow
            } else {
                Scope::Service
            },
            excess: number(excess)?,
            ended: number(ended)?,
            within_ms: number(within_ms)?,
        })),
        _ => Err(unexpected("enqueue")),
    }
}

/// The call that accepts a start.
pub(super) fn call<'p>(partition: &'p Partition, start: &Enqueue) -> Result<Call<'p>, StoreError> {
    let run = partition.run(start.run);
    let request = serde_json::to_vec(&start.request)
        .map_err(|_| StoreError::corrupt(&*run, "a request that can be stored"))?;
    let idempotency = start.idempotency.as_ref();
    let record = idempotency.map_or("none", |idempotency| &idempotency.key);
    let waiter = start.waiter.map(|waiter| waiter.to_string());
    let (delay_ms, due_at_ms) = match start.when {
        When::Now => (0, 0),
        When::After(delay_ms) => (delay_ms, 0),
        When::At(due_at_ms) => (0, due_at_ms),
    };
    let limit = start.limit.as_ref();
    Ok(partition
        .call(&SCRIPTS.enqueue)
        .key(run)
        .key(partition.idempotency(record))
        .argument(start.run.to_string())
        .argument(keys::queue_name(&start.tag, start.priority))
        .argument(start.flow.as_str())
        .number(start.version.into())
        .argument(request)
        .argument(waiter.unwrap_or_default())
        .number(idempotency.map_or(0, |_| IDEMPOTENCY_WINDOW_MS))
        .argument(idempotency.map_or("", |idempotency| &idempotency.fingerprint))
        .number(start.open_max)
        .number(start.open_of_flow_max)
        .number(delay_ms)
        .number(due_at_ms)
        .argument(limit.map_or("", |limit| &limit.key))
        .number(limit.map_or(0, |limit| limit.limit.into()))
        .argument(
            limit
                .map_or(WhenFull::Queue, |limit| limit.when_full)
                .as_str(),
        )
        .number(start.retention.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_many(excess: u64, ended: u64, within_ms: u64) -> TooMany {
        TooMany {
            scope: Scope::Service,
            excess,
            ended,
            within_ms,
        }
    }

    #[test]
    fn a_caller_is_told_to_come_back_when_enough_runs_will_have_ended() {
        assert_eq!(too_many(1, 50, 25_000).room_in_seconds(), 1);
        assert_eq!(too_many(30, 50, 25_000).room_in_seconds(), 15);
        assert_eq!(too_many(1_000_000, 1, 25_000).room_in_seconds(), 3600);
    }

    #[test]
    fn where_nothing_ends_nobody_can_say_when_there_is_room() {
        assert_eq!(too_many(1, 0, 25_000).room_in_seconds(), 60);
    }
}
