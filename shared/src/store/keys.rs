//! Every key of Redis: its name, its type, how long it lives.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `ms:meta` | hash | version of this layout, number of partitions, name of the service | always |
//! | `ms:{p}:queue:<tag>:<priority>` | stream | entries `run <run id>` of queued and running runs | each entry as long as its run |
//! | `ms:{p}:queue:<tag>:alone` | stream | the same of runs to execute beside no other | likewise |
//! | `ms:{p}:run:<run>` | hash | the run: the truth about it | retention from its end |
//! | `ms:{p}:run:<run>:steps` | hash | checkpoints of its steps | as the run |
//! | `ms:{p}:open` | sorted set | `<run> <flow>` of every run that has not ended, by when it was started | – |
//! | `ms:{p}:open:flows` | hash | how many runs of each flow have not ended | – |
//! | `ms:{p}:ended:<time>` | hash | how many runs of each flow ended within ten seconds | 30 s |
//! | `ms:{p}:delayed` | sorted set | runs that are not due, by when they are | – |
//! | `ms:{p}:group:<limit>` | set | runs that hold a place within a flow's limit | – |
//! | `ms:{p}:parked:<limit>` | sorted set | runs that wait for such a place, by when they began to | – |
//! | `ms:{p}:idempotency:<hash>` | string | the run that a key started, fingerprint of the request | 24 h |
//! | `ms:{p}:sweeps` | hash | when silent workers were last looked for | – |
//! | `ms:{p}:turn:<duty>` | string | the worker whose turn it is to do it | seconds |
//! | `ms:{p}:dead` | stream | what was set aside, and why | trimmed to about 10,000 |
//! | `ms:{p}:api:<instance>` | channel | ends of runs that an API process waits for | – |
//! | `ms:{0}:flow:<flow>` | hash | versions of a flow, number of the latest | until deleted |
//! | `ms:{0}:key:<key id>` | string | an API key, its secret hashed | until revoked |
//! | `ms:{0}:connections` | hash | each connection by its name, sealed | until deleted |
//! | `ms:{0}:secrets` | hash | each secret by its name, sealed | until deleted |
//! | `ms:{0}:changes` | channel | keys and flows that were changed | – |
//!
//! All keys of a run carry the hash tag of its partition, so that one script
//! can change them together in a cluster. A run's partition is the last byte of
//! its id, modulo their number. One Redis server needs one partition, `0`.

use super::partition::Partition;
use crate::{
    id::{FlowId, KeyId, ProcessId, RunId, WorkerTag},
    run::Priority,
};

/// Which order of keys and fields this is. A program refuses a Redis that
/// another order was written to.
pub(super) const LAYOUT_VERSION: u32 = 3;

/// The consumer group of the queues.
pub(super) const GROUP: &str = "workers";

pub(super) const META: &str = "ms:meta";

/// The name of a queue, as a run's record has it.
pub(super) fn queue_name(tag: &WorkerTag, priority: Priority) -> String {
    format!("{tag}:{priority}")
}

/// How the name of a queue of runs ends that are to be executed beside no other.
const ALONE: &str = ":alone";

/// The name of the queue of runs that are to be executed beside no other.
pub(super) fn alone_queue_name(tag: &WorkerTag) -> String {
    format!("{tag}{ALONE}")
}

/// Whether a queue is one of those.
pub(super) fn is_alone_queue(queue: &str) -> bool {
    queue.ends_with(ALONE)
}

/// What the key of a run's record has between prefix and id.
pub(super) const RUN: &str = "run:";

impl Partition {
    pub(super) fn queue(&self, queue: &str) -> String {
        self.named("queue:", queue)
    }

    pub(super) fn turn(&self, duty: &str) -> String {
        self.named("turn:", duty)
    }

    pub(super) fn run(&self, run: RunId) -> String {
        self.named(RUN, &run.to_string())
    }

    pub(super) fn steps(&self, run: RunId) -> String {
        format!("{}:steps", self.run(run))
    }

    pub(super) fn open(&self) -> String {
        self.named("open", "")
    }

    pub(super) fn delayed(&self) -> String {
        self.named("delayed", "")
    }

    pub(super) fn idempotency(&self, key: &str) -> String {
        self.named("idempotency:", key)
    }

    pub(super) fn api_channel(&self, instance: ProcessId) -> String {
        self.named("api:", &instance.to_string())
    }

    pub(super) fn changes(&self) -> String {
        self.named("changes", "")
    }

    pub(super) fn flow(&self, flow: &FlowId) -> String {
        self.named("flow:", flow.as_str())
    }

    pub(super) fn key(&self, key: &KeyId) -> String {
        self.named("key:", key.as_str())
    }

    pub(super) fn connections(&self) -> String {
        self.named("connections", "")
    }

    pub(super) fn secrets(&self) -> String {
        self.named("secrets", "")
    }

    fn named(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}{name}", self.prefix())
    }
}
