//! All of Redis: the queue of runs, the records of runs, flows and keys, and
//! the news that API processes wait for. No Redis type is seen outside.

mod connect;
mod error;
mod held;
mod keys;
mod link;
mod news;
mod queue;
mod reader;
mod registry;
mod runs;
mod scripts;
mod start;

use std::sync::Arc;

use deadpool_redis::Pool;
use redis::Client;

pub use error::StoreError;
pub use held::{Beat, Checkpointed, Checkpoints, FailedAttempt, Lease};
pub use news::{News, Notice};
pub use queue::{Claimed, Reaped};
pub use reader::{Delivered, QueueReader};
pub use registry::Published;
pub use runs::Cancelled;
pub use start::{Enqueue, Enqueued, GroupLimit, Idempotency, When};

use link::Link;

/// A handle on everything that is kept in Redis. Cloning it is cheap; all
/// clones share their connections.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    timeout: std::time::Duration,
    /// What runs are moved over: one connection for all tasks.
    link: Link,
    /// For reads and writes of administration, where a pool suits.
    pool: Pool,
}

impl Store {
    fn link(&self) -> &Link {
        &self.shared.link
    }
}
