//! What every request needs: the store, what is remembered of it, and the
//! callers that wait.

use std::{sync::Arc, time::Duration};

use millstream_shared::{
    access::Key,
    flow::Flow,
    id::{FlowId, KeyId, ProcessId},
    store::Store,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{caches::Cache, config::Config, error::ApiError, news::Subscription, waiting::Waiting};

/// How many keys are remembered, those included that do not exist.
const KEYS_MAX: usize = 10_000;
/// How many flows are remembered, those included that do not exist.
const FLOWS_MAX: usize = 1_000;
/// How long the store may take to answer before the program is not ready.
const PING_MAX: Duration = Duration::from_secs(1);

/// What every request needs.
pub(crate) struct App {
    pub(crate) store: Store,
    /// The name under which this process hears of ended runs.
    pub(crate) instance: ProcessId,
    pub(crate) keys: Cache<KeyId, Arc<Key>>,
    pub(crate) flows: Cache<FlowId, Arc<PublishedFlow>>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) subscription: Subscription,
    pub(crate) stopping: CancellationToken,
    pub(crate) base_path: String,
    pub(crate) body_bytes_max: usize,
    pub(crate) queue_max: u64,
    pub(crate) keepalive: Duration,
}

/// A flow with the number of its version.
#[derive(Debug)]
pub(crate) struct PublishedFlow {
    pub(crate) version: u32,
    pub(crate) flow: Flow,
}

impl App {
    pub(crate) fn new(config: &Config, store: Store, stopping: CancellationToken) -> Self {
        let instance = ProcessId::new();
        let waiting = Waiting::new(store.clone(), instance, stopping.clone());
        Self {
            store,
            instance,
            keys: Cache::new(KEYS_MAX),
            flows: Cache::new(FLOWS_MAX),
            waiting: Arc::new(waiting),
            subscription: Subscription::default(),
            stopping,
            base_path: config.base_path.as_str().to_owned(),
            body_bytes_max: config.body_limit.addressable(),
            queue_max: config.queue_limit,
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

    /// Forgets what is remembered of the store.
    pub(crate) fn forget_all(&self) {
        self.keys.forget_all();
        self.flows.forget_all();
    }

    /// Whether requests can be served at the moment, or why not.
    pub(crate) async fn readiness(&self) -> Result<(), String> {
        match timeout(PING_MAX, self.store.ping()).await {
            Ok(Ok(())) if self.subscription.is_alive() => Ok(()),
            Ok(Ok(())) => Err("news of ended runs do not come in".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("redis does not answer".to_owned()),
        }
    }
}
