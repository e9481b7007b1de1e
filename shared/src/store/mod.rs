//! All of Redis: the queue of runs, the records of runs, flows and keys, and
//! the news that API processes wait for. No Redis type is seen outside.

mod address;
mod artifacts;
mod connect;
mod durability;
mod error;
mod fsck;
mod heal;
mod held;
mod keys;
mod link;
mod news;
mod partition;
mod queue;
mod reader;
mod registry;
mod runs;
mod scripts;
mod start;
mod topology;
mod vault;

use std::sync::Arc;

pub use artifacts::Handed;
pub use durability::{Durability, Durable};
pub use error::StoreError;
pub use fsck::Checkup;
pub use heal::{Fault, RunsLookedAt};
pub use held::{Beat, Checkpointed, Checkpoints, FailedAttempt, Lease};
pub use news::{News, Notice};
pub use queue::{Claimed, Consumer, Reaped, Sweep};
pub use reader::{Delivered, QueueReader};
pub use registry::Published;
pub use runs::Cancelled;
pub use start::{Enqueue, Enqueued, GroupLimit, Idempotency, Scope, TooMany, When};
pub use vault::{VAULT_MAX, Vault, VaultError};

use crate::id::{FlowId, RunId};
use partition::Partition;

/// A handle on everything that is kept in Redis. Cloning it is cheap; all
/// clones share their connections.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    timeout: std::time::Duration,
    in_cluster: bool,
    /// What the servers do to keep what they were given, in words.
    persistence: String,
    /// What it is called where it shares a place with others.
    service: String,
    partitions: Vec<Partition>,
}

impl Store {
    /// How many partitions the runs are spread over. Each has queues of its own.
    pub fn partitions(&self) -> u16 {
        self.shared.partitions.len() as u16
    }

    /// A new run id. Runs of a flow that depend on one another, by a limit or by
    /// an idempotency key, are `together` in one partition; others are spread.
    pub fn new_run(&self, flow: &FlowId, together: bool) -> RunId {
        let partitions = self.partitions();
        if together {
            let partition = partition::slot(flow.as_str()) % partitions;
            RunId::in_partition(partition as u8, partitions)
        } else {
            RunId::new()
        }
    }

    /// What the servers do to keep what they were given, in words.
    pub fn persistence(&self) -> &str {
        &self.shared.persistence
    }

    /// The name of the service whose runs these are, drawn at its first start: for
    /// what it keeps elsewhere, in places that it may share with others.
    pub fn service(&self) -> &str {
        &self.shared.service
    }

    /// Where a run is.
    fn of(&self, run: RunId) -> &Partition {
        self.at(run.partition(self.partitions()))
    }

    /// A partition by its number.
    fn at(&self, partition: u8) -> &Partition {
        &self.shared.partitions[usize::from(partition)]
    }

    /// Where flows and keys are.
    fn registry(&self) -> &Partition {
        self.at(0)
    }
}
