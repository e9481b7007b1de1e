//! The connections of callers.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A connection that brings no whole request head for so long is closed. It is
/// longer than clients usually keep an idle connection for, since a request
/// that crosses its closing is lost.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// How many requests one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 256;
/// How often an HTTP/2 connection is tested, and how soon it must answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long open requests may take once the process stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The wait after a connection could not be accepted: with all file handles in
/// use, trying at once would only heat the machine.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves connections until `stopping`, then lets open requests end.
pub(crate) async fn serve_until_stopped(
    listener: TcpListener,
    router: Router,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let builder = Arc::new(builder());
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, builder) = (router.clone(), Arc::clone(&builder));
                let (stopping, cut) = (stopping.clone(), cut.clone());
                connections.spawn(async move {
                    let served = serve(stream, router, &builder, &stopping);
                    cut.run_until_cancelled(served).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        let open = connections.len();
        tracing::warn!(
            open,
            "connections cut off: their requests did not end in time"
        );
        cut.cancel();
        connections.wait().await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

async fn serve(
    stream: TcpStream,
    router: Router,
    builder: &Builder<TokioExecutor>,
    stopping: &CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection answers with delay");
    }
    // The timer of the builder starts only with the first byte.
    let first_byte = timeout(IDLE_MAX, stream.readable());
    if stopping
        .run_until_cancelled(first_byte)
        .await
        .is_none_or(|read| read.is_err())
    {
        return;
    }
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}
