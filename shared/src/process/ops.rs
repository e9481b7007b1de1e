//! The operations port of a program: `/livez`, `/readyz`, `/metrics`.
//!
//! It stands here because the API and the worker answer it alike.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

/// How often recorded values are put together. Without it they pile up until
/// somebody asks for the metrics, which may be never.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to record metrics. Call it once a process; of several calls all get
/// the same recorder.
pub fn record_metrics() -> PrometheusHandle {
    static RECORDER: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Where a recorder stands already, ours shows nothing: metrics are
            // lost, the service is not.
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics are recorded elsewhere; /metrics stays empty");
            }
            handle
        })
        .clone()
}

/// Serves the operations port until `stopping`.
///
/// `ready` says what the program's work can count on now, or in one sentence
/// why it cannot be done.
///
/// # Errors
/// Fails where the address cannot be listened on.
pub async fn serve<R, F>(
    listen: SocketAddr,
    ready: R,
    stopping: CancellationToken,
) -> std::io::Result<SocketAddr>
where
    R: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<String, String>> + Send,
{
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let handle = record_metrics();
    tokio::spawn(keep_up(handle.clone(), stopping.clone()));
    let ready = Arc::new(ready);
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/metrics", get(async move || handle.render()))
        .route(
            "/readyz",
            get(async move || match ready().await {
                Ok(about) => (StatusCode::OK, format!("ready\n{about}\n")),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }),
        );
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(stopping.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the operations port ended");
        }
    });
    tracing::info!(%address, "operations port");
    Ok(address)
}

async fn keep_up(handle: PrometheusHandle, stopping: CancellationToken) {
    while stopping.run_until_cancelled(sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}
