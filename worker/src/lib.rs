//! Claims runs from the queue and executes their steps.
//!
//! One duty, one file: `claimer` takes runs, `executor` carries one through,
//! `lease` keeps them, `reclaimer` takes over those of silent workers,
//! `scheduler` queues what is due, `healer` finds what fell out of its place,
//! `isolation` executes alone what may have killed its workers.

mod claimer;
mod config;
mod connections;
mod databases;
mod executor;
mod fault;
mod flows;
mod healer;
mod isolation;
mod lease;
mod mask;
mod pulse;
mod reclaimer;
mod scheduler;
mod steps;
mod stores;
mod tables;
mod work_folder;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::bail;
use millstream_shared::{
    id::ProcessId,
    process::ops,
    store::{Consumer, Store},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use steps::supervise_if_told;
pub use tables::TableSettings;

use flows::Flows;
use lease::Leases;
use pulse::Pulse;
use steps::Services;

/// How long giving runs back may take at the end, while Redis does not answer.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);

/// What the duties of a worker share.
struct Shared {
    config: Config,
    worker: ProcessId,
    store: Store,
    leases: Arc<Leases>,
    flows: Flows,
    /// Whether the claimer of each partition gets on.
    pulses: Vec<Pulse>,
    services: Arc<Services>,
    /// How many runs wait to be executed alone, for each partition.
    alone: watch::Sender<Vec<u64>>,
    /// Cancelled when the worker is asked to stop: no step starts any more.
    stopping: CancellationToken,
    /// Cancelled when steps that still run are given up.
    grace_over: CancellationToken,
}

impl Shared {
    /// As whom it takes runs.
    fn consumer(&self) -> Consumer {
        Consumer {
            worker: self.worker,
            lease: self.config.lease,
        }
    }

    /// What has got nowhere for so long, if anything has.
    fn stuck(&self, patience: Duration) -> Option<String> {
        let silent = self.pulses.iter().map(Pulse::silent_for).max();
        let silent = silent.unwrap_or_default();
        if silent > patience {
            let seconds = silent.as_secs();
            return Some(format!("no run could be asked for during {seconds} s"));
        }
        let silent = self.leases.silent_for();
        (silent > patience.max(self.config.lease))
            .then(|| format!("no lease could be renewed during {} s", silent.as_secs()))
    }
}

/// A worker that runs.
pub struct Worker {
    ops_address: SocketAddr,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// Starts a worker that ends after `stopping`.
    ///
    /// # Errors
    /// Fails where a setting is wrong, Redis cannot be used, or the address
    /// of the operations port cannot be listened on.
    pub async fn start(config: Config, stopping: CancellationToken) -> anyhow::Result<Self> {
        let worker = ProcessId::new();
        let store = Store::connect(&config.redis).await?;
        let leases = Leases::new(config.lease);
        // The heart goes on while the worker stops: what is still executed
        // needs its lease.
        let ended = CancellationToken::new();
        lease::start_heart(
            Arc::clone(&leases),
            config.redis.clone(),
            worker,
            config.lease,
            ended.clone(),
        )
        .await?;
        let pulses = (0..store.partitions()).map(|_| Pulse::new()).collect();
        let alone = vec![0; usize::from(store.partitions())];
        let shared = Arc::new(Shared {
            services: Arc::new(Services::new(&config, &store)?),
            worker,
            store,
            leases,
            flows: Flows::default(),
            pulses,
            alone: watch::Sender::new(alone),
            stopping,
            grace_over: CancellationToken::new(),
            config,
        });
        let ops_address = serve_ops(&shared, &ended).await?;
        tracing::info!(%worker, slots = shared.config.slots, "worker");
        Ok(Self {
            ops_address,
            ended: tokio::spawn(work(shared, ended)),
        })
    }

    /// The address of the operations port.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Waits until the worker has stopped and given back what it held.
    ///
    /// # Errors
    /// Fails where the worker panicked, or ended itself because it got nowhere.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.ended.await?
    }
}

async fn serve_ops(shared: &Arc<Shared>, ended: &CancellationToken) -> std::io::Result<SocketAddr> {
    let asked = Arc::clone(shared);
    let ready = move || {
        let shared = Arc::clone(&asked);
        async move {
            if shared.stopping.is_cancelled() {
                return Err("the worker is stopping".to_owned());
            }
            let patience = pulse::stuck_after(shared.config.wedged_after);
            shared.stuck(patience).map_or(Ok(()), Err)?;
            let answers = shared.store.ping().await;
            answers.map_err(|error| error.to_string())?;
            Ok(format!("redis: {}", shared.store.persistence()))
        }
    };
    ops::serve(shared.config.ops_listen, ready, ended.clone()).await
}

/// Works until it is asked to stop, and ends cleanly.
async fn work(shared: Arc<Shared>, ended: CancellationToken) -> anyhow::Result<()> {
    let stopping = shared.stopping.clone();
    let config = &shared.config;
    let wedged = OnceLock::new();
    let duties = async {
        tokio::join!(
            claimer::claim_until_stopped(Arc::clone(&shared), stopping.clone()),
            reclaimer::reclaim_until_stopped(&shared, stopping.clone()),
            scheduler::promote_until_stopped(&shared.store, config.retention, stopping.clone()),
            healer::heal_until_stopped(
                &shared.store,
                shared.worker,
                config.heal_every,
                stopping.clone()
            ),
            stop_when_wedged(&shared, &wedged),
        );
        if let Err(error) = reclaimer::forget_consumers(&shared, true).await {
            tracing::warn!(%error, "cannot sign off");
        }
    };
    tokio::select! {
        () = duties => tracing::info!("stopped"),
        () = patience_ends(&shared) => {
            tracing::error!("stopped although redis did not take everything back; the leases will expire");
        }
    }
    ended.cancel();
    match wedged.into_inner() {
        None => Ok(()),
        Some(why) => bail!("ended itself: {why}, although redis answers"),
    }
}

/// Stops a worker that gets nowhere although Redis answers: a new process may
/// fare better, and a supervisor starts one.
async fn stop_when_wedged(shared: &Shared, wedged: &OnceLock<String>) {
    let patience = shared.config.wedged_after;
    let look = tokio::time::sleep(patience / 4);
    let mut look = std::pin::pin!(look);
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = look.as_mut() => look.set(tokio::time::sleep(patience / 4)),
        }
        let Some(why) = shared.stuck(patience) else {
            continue;
        };
        if shared.store.ping().await.is_ok() {
            tracing::error!(why, "ending myself");
            drop(wedged.set(why));
            shared.stopping.cancel();
        }
    }
}

/// Gives running steps up when the grace period is over, and returns when
/// giving their runs back takes too long as well.
async fn patience_ends(shared: &Shared) {
    shared.stopping.cancelled().await;
    tokio::time::sleep(shared.config.grace).await;
    shared.grace_over.cancel();
    tokio::time::sleep(GIVING_BACK_MAX).await;
}

/// Names the one provider of cryptography for TLS. Several are compiled in
/// through libraries, and none of them is taken by itself. Call it first.
pub fn use_ring() {
    // A second call finds the provider there already, which is all it wants.
    drop(rustls::crypto::ring::default_provider().install_default());
}
