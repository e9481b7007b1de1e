//! Accepting a start.

use redis::from_redis_value;

use super::{
    Store, StoreError,
    connect::unexpected,
    keys,
    scripts::{Call, SCRIPTS},
};
use crate::{
    id::{FlowId, ProcessId, RunId, WorkerTag},
    run::{RunState, StartRequest},
};

/// How long an idempotency key is remembered: 24 h.
const IDEMPOTENCY_WINDOW_MS: u64 = 24 * 3600 * 1000;

/// How often an enqueue is sent again when its answer was lost.
const SENT_AGAIN_MAX: u32 = 2;

/// A start to accept.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// The id of the new run, drawn by the caller: the same call again is the
    /// same run.
    pub run: RunId,
    /// The flow.
    pub flow: FlowId,
    /// Which version of it the run keeps to.
    pub version: u32,
    /// Which workers may take it.
    pub tag: WorkerTag,
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
    /// A queue that is as long as this takes no more.
    pub queue_max: u64,
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
    /// The queue takes no more.
    QueueFull,
}

impl Store {
    /// Accepts a start: when this returns, the run is in Redis. An answer that
    /// gets lost is asked for again, which the run id makes safe.
    ///
    /// # Errors
    /// Fails where Redis cannot be reached or has no room. After
    /// [`StoreError::Unavailable`] the run may exist all the same.
    pub async fn enqueue(&self, start: &Enqueue) -> Result<Enqueued, StoreError> {
        let call = enqueue_call(start)?;
        let mut sent_again = 0;
        let answer = loop {
            match call.invoke(self.link()).await.map_err(StoreError::from) {
                Err(StoreError::Unavailable(_)) if sent_again < SENT_AGAIN_MAX => sent_again += 1,
                answer => break answer?,
            }
        };
        let words: Vec<String> = from_redis_value(answer).map_err(|_| unexpected("enqueue"))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["accepted", state] => Ok(Enqueued::Accepted {
                state: state.parse().map_err(|_| unexpected("enqueue"))?,
            }),
            ["replayed", run] => Ok(Enqueued::Replayed {
                run: run.parse().map_err(|_| unexpected("enqueue"))?,
            }),
            ["other_body"] => Ok(Enqueued::OtherBody),
            ["full"] => Ok(Enqueued::QueueFull),
            _ => Err(unexpected("enqueue")),
        }
    }
}

fn enqueue_call(start: &Enqueue) -> Result<Call<'static>, StoreError> {
    let request = serde_json::to_vec(&start.request)
        .map_err(|_| StoreError::corrupt(keys::run(start.run), "a request that can be stored"))?;
    let idempotency = start.idempotency.as_ref();
    let record = idempotency.map_or("none", |idempotency| &idempotency.key);
    let (delay_ms, due_at_ms) = match start.when {
        When::Now => (0, 0),
        When::After(delay_ms) => (delay_ms, 0),
        When::At(due_at_ms) => (0, due_at_ms),
    };
    Ok(Call::new(&SCRIPTS.enqueue)
        .key(keys::run(start.run))
        .key(keys::queue(&start.tag))
        .key(keys::delayed())
        .key(keys::idempotency(record))
        .argument(start.run.to_string())
        .argument(keys::queue_name(&start.tag))
        .argument(start.flow.as_str())
        .number(start.version.into())
        .argument(request)
        .argument(
            start
                .waiter
                .map_or_else(String::new, |waiter| waiter.to_string()),
        )
        .number(idempotency.map_or(0, |_| IDEMPOTENCY_WINDOW_MS))
        .argument(idempotency.map_or("", |idempotency| &idempotency.fingerprint))
        .number(start.queue_max)
        .number(delay_ms)
        .number(due_at_ms)
        .argument(start.limit.as_ref().map_or("", |limit| &limit.key))
        .number(start.limit.as_ref().map_or(0, |limit| limit.limit.into())))
}
