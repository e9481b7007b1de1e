//! The API of Millstream: HTTP in, Redis out. It executes nothing, and keeps
//! nothing that another API process would miss.

mod app;
mod auth;
mod body;
mod caches;
mod clock;
mod config;
mod error;
mod keys;
mod layers;
mod measure;
mod members;
mod news;
mod query;
mod routes;
mod server;
mod waiting;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use millstream_shared::{artifacts::Artifacts, process::ops, store::Store};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use config::{AdminKey, BasePath, Config, ErrorMode};

use crate::app::App;

/// Serves the API until `stopping`, then answers what is open and ends.
///
/// # Errors
/// Fails where a setting cannot be used, where an address cannot be listened
/// on, and where Redis cannot be reached at the start.
pub async fn serve(config: Config, stopping: CancellationToken) -> anyhow::Result<()> {
    let starting = Api::start(config, stopping.clone());
    match stopping.run_until_cancelled(starting).await {
        Some(api) => api?.ended().await,
        None => Ok(()),
    }
}

/// A running API.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    ops_address: SocketAddr,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Api {
    /// Starts the API. When this returns, it accepts requests.
    ///
    /// # Errors
    /// Fails as [`serve`] does.
    pub async fn start(config: Config, stopping: CancellationToken) -> anyhow::Result<Self> {
        let stopping = stopping.child_token();
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
        let address = listener.local_addr()?;

        let store = Store::connect(&config.redis)
            .await
            .context("redis cannot be used (--redis-url)")?;
        if let Some(text) = config.admin_key.as_ref().and_then(AdminKey::text) {
            keys::seed_admin(&store, text).await?;
        }
        let artifacts = Artifacts::open(&config.artifacts, store.service())?;
        let app = Arc::new(App::new(&config, store, artifacts, stopping.clone()));
        let news = app.store.news(app.instance);

        ops::record_metrics();
        measure::describe();
        let asked = Arc::clone(&app);
        let ready = move || {
            let app = Arc::clone(&asked);
            async move { app.readiness().await }
        };
        let ops_address = ops::serve(config.ops_listen, ready, stopping.clone())
            .await
            .with_context(|| format!("cannot listen on {} (--ops-listen)", config.ops_listen))?;

        let router = routes::router(Arc::clone(&app), config.error_mode);
        let following = tokio::spawn(news::follow_until_stopped(Arc::clone(&app), news));
        let rechecking = tokio::spawn(async move { app.waiting.recheck_until_stopped().await });
        let serving = tokio::spawn(run(listener, router, following, rechecking, stopping));
        tracing::info!(%address, "the API listens");
        Ok(Self {
            address,
            ops_address,
            serving,
        })
    }

    /// The address that the API listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the operations port.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Waits for the end of the API.
    ///
    /// # Errors
    /// Fails where it ended without having been asked to.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.serving.await.context("the API broke down")?
    }
}

/// Serves requests as long as waiting callers are served too: an API that
/// hears nothing of ended runs had better start anew.
async fn run(
    listener: TcpListener,
    router: axum::Router,
    mut following: JoinHandle<()>,
    mut rechecking: JoinHandle<()>,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    let mut serving = std::pin::pin!(server::serve_until_stopped(
        listener,
        router,
        stopping.clone()
    ));
    let broken = tokio::select! {
        () = &mut serving => return Ok(()),
        ended = &mut following => ended,
        ended = &mut rechecking => ended,
    };
    let asked = stopping.is_cancelled();
    stopping.cancel();
    serving.await;
    if !asked {
        bail!("waiting callers can no longer be served: {broken:?}");
    }
    Ok(())
}
