//! What every request needs: the store, what is remembered of it, and the
//! callers that wait.

use std::{sync::Arc, time::Duration};

use millstream_shared::{
    access::Key,
    artifacts::Artifacts,
    connection::SecretsKeys,
    flow::Flow,
    id::{FlowId, KeyId, ProcessId},
    store::{Store, Vault},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    caches::Cache,
    config::Config,
    error::ApiError,
    news::Subscription,
    waiting::{WaitLimits, Waiting},
};

/// How many keys are remembered, those included that do not exist.
const KEYS_MAX: usize = 10_000;
/// How many flows are remembered, those included that do not exist.
const FLOWS_MAX: usize = 1_000;
/// How long the store may take to answer before the program is not ready.
const PING_MAX: Duration = Duration::from_secs(1);

/// What every request needs.
pub(crate) struct App {
    pub(crate) store: Store,
    /// Where outputs are that are too large for the store, if this process has it.
    pub(crate) artifacts: Option<Artifacts>,
    /// What connections and secrets are sealed with.
    secrets_keys: Option<SecretsKeys>,
    /// The name under which this process hears of ended runs.
    pub(crate) instance: ProcessId,
    pub(crate) keys: Cache<KeyId, Arc<Key>>,
    pub(crate) flows: Cache<FlowId, Arc<PublishedFlow>>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) subscription: Subscription,
    pub(crate) stopping: CancellationToken,
    pub(crate) base_path: String,
    pub(crate) body_bytes_max: usize,
    pub(crate) limits: Limits,
    /// How long the record of a run is kept that ends before it begins.
    pub(crate) retention: Duration,
    pub(crate) keepalive: Duration,
}

/// How many runs may be on their way, waiting or executing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All of them.
    pub(crate) open: u64,
    /// Those of one flow, unless its author wants fewer.
    pub(crate) open_of_flow: u64,
}

impl Limits {
    /// How many may be on their way in the partition of a new run. A partition
    /// that takes runs as they come has its share; where runs have to be
    /// `together`, theirs is as large as it needs to be.
    pub(crate) fn open_max(self, together: bool, partitions: u16) -> u64 {
        share(self.open, together, partitions)
    }

    /// The same for the runs of a flow.
    pub(crate) fn open_of_flow_max(self, flow: &Flow, together: bool, partitions: u16) -> u64 {
        let own = flow.queue_limit.map_or(u64::MAX, u64::from);
        share(self.open_of_flow.min(own), together, partitions)
    }
}

fn share(limit: u64, together: bool, partitions: u16) -> u64 {
    if together {
        limit
    } else {
        limit.div_ceil(u64::from(partitions))
    }
}

/// A flow with the number of its version.
#[derive(Debug)]
pub(crate) struct PublishedFlow {
    pub(crate) version: u32,
    pub(crate) flow: Flow,
}

impl App {
    pub(crate) fn new(
        config: &Config,
        store: Store,
        artifacts: Option<Artifacts>,
        stopping: CancellationToken,
    ) -> Self {
        let instance = ProcessId::new();
        let wait_limits = WaitLimits {
            runs: config.waits_limit,
            of_key: config.key_waits_limit,
        };
        let waiting = Waiting::new(store.clone(), instance, wait_limits, stopping.clone());
        let subscription = Subscription::new(store.partitions());
        Self {
            store,
            artifacts,
            secrets_keys: config.secrets_key.clone(),
            instance,
            keys: Cache::new(KEYS_MAX),
            flows: Cache::new(FLOWS_MAX),
            waiting: Arc::new(waiting),
            subscription,
            stopping,
            base_path: config.base_path.as_str().to_owned(),
            body_bytes_max: config.body_limit.addressable(),
            limits: Limits {
                open: config.queue_limit,
                open_of_flow: config.flow_queue_limit,
            },
            retention: config.retention,
            keepalive: config.await_keepalive,
        }
    }

    /// The key with this id, as it was within the last second.
    pub(crate) async fn key(&self, id: &KeyId) -> Result<Option<Arc<Key>>, ApiError> {
        let load = async { Ok(self.store.key(id).await?.map(Arc::new)) };
        self.keys.get(id, load).await
    }

    /// The latest version of a flow, as it was within the last second.
    pub(crate) async fn flow(&self, id: &FlowId) -> Result<Arc<PublishedFlow>, ApiError> {
        let load = async {
            let latest = self.store.latest_flow(id).await?;
            let published = latest.map(|(version, flow)| PublishedFlow { version, flow });
            Ok::<_, ApiError>(published.map(Arc::new))
        };
        let found = self.flows.get(id, load).await?;
        found.ok_or_else(|| ApiError::NoSuchFlow(id.clone()))
    }

    /// The connections and secrets, if this process can open them.
    pub(crate) fn vault(&self) -> Result<Vault<'_>, ApiError> {
        let keys = self.secrets_keys.as_ref();
        let keys = keys.ok_or(ApiError::NoSecretsKey)?;
        Ok(Vault {
            store: &self.store,
            keys,
        })
    }

    /// Forgets what is remembered of the store.
    pub(crate) fn forget_all(&self) {
        self.keys.forget_all();
        self.flows.forget_all();
    }

    /// Says what requests can count on at the moment, or why they cannot be
    /// served.
    pub(crate) async fn readiness(&self) -> Result<String, String> {
        match timeout(PING_MAX, self.store.ping()).await {
            Ok(Ok(())) if self.subscription.is_alive() => {
                Ok(format!("redis: {}", self.store.persistence()))
            }
            Ok(Ok(())) => Err("news of ended runs do not come in".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("redis does not answer".to_owned()),
        }
    }
}
