//! Every key of Redis: its name, its type, how long it lives.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `ms:meta` | hash | version of this layout, number of partitions | always |
//! | `ms:flow:<flow>` | hash | versions of a flow, number of the latest | until deleted |
//! | `ms:key:<key id>` | string | an API key, its secret hashed | until revoked |
//! | `ms:{p}:queue:<tag>:<priority>` | stream | entries `run <run id>` of queued and running runs | each entry as long as its run |
//! | `ms:{p}:run:<run>` | hash | the run: the truth about it | retention from its end |
//! | `ms:{p}:run:<run>:steps` | hash | checkpoints of its steps | as the run |
//! | `ms:{p}:delayed` | sorted set | runs that are not due, by when they are | – |
//! | `ms:{p}:group:<limit>` | set | runs that hold a place within a flow's limit | – |
//! | `ms:{p}:parked:<limit>` | list | runs that wait for such a place | – |
//! | `ms:{p}:idempotency:<hash>` | string | the run that a key started, fingerprint of the request | 24 h |
//! | `ms:{p}:sweeps:<tag>:<priority>` | hash | when silent workers were last looked for | – |
//! | `ms:{p}:dead` | stream | what was set aside, and why | trimmed to about 10,000 |
//! | `ms:{p}:api:<instance>` | channel | ends of runs that an API process waits for | – |
//! | `ms:changes` | channel | keys and flows that were changed | – |
//!
//! All keys of a run carry the hash tag of its partition, so that one script
//! can change them together in a cluster. There is one partition, `0`.

use crate::id::{FlowId, KeyId, ProcessId, RunId, WorkerTag};

/// Which order of keys and fields this is. A program refuses a Redis that
/// another order was written to.
pub(super) const LAYOUT_VERSION: u32 = 1;

/// What all keys of the one partition start with.
pub(super) const PREFIX: &str = "ms:{0}:";

/// The consumer group of the queues.
pub(super) const GROUP: &str = "workers";

pub(super) const META: &str = "ms:meta";
pub(super) const CHANGES: &str = "ms:changes";

/// The only priority there is.
const NORMAL: &str = "normal";

/// The name of a queue, as a run's record has it.
pub(super) fn queue_name(tag: &WorkerTag) -> String {
    format!("{tag}:{NORMAL}")
}

pub(super) fn queue(tag: &WorkerTag) -> String {
    format!("{PREFIX}queue:{}", queue_name(tag))
}

pub(super) fn sweeps(tag: &WorkerTag) -> String {
    format!("{PREFIX}sweeps:{}", queue_name(tag))
}

pub(super) fn run(run: RunId) -> String {
    format!("{PREFIX}run:{run}")
}

pub(super) fn steps(run: RunId) -> String {
    format!("{PREFIX}run:{run}:steps")
}

pub(super) fn delayed() -> String {
    format!("{PREFIX}delayed")
}

pub(super) fn idempotency(key: &str) -> String {
    format!("{PREFIX}idempotency:{key}")
}

pub(super) fn api_channel(instance: ProcessId) -> String {
    format!("{PREFIX}api:{instance}")
}

pub(super) fn flow(flow: &FlowId) -> String {
    format!("ms:flow:{flow}")
}

pub(super) fn key(key: &KeyId) -> String {
    format!("ms:key:{key}")
}
