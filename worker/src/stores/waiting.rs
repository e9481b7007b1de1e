//! Waiting on a thread for files for what happens in the network.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::error::StoreError;

/// Waits until nobody wants the result any more. What is waited for happens on
/// another runtime.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) runtime: Handle,
    pub(super) cancelled: CancellationToken,
}

impl Waiting {
    /// Blocks until `work` is done or cancelled.
    pub(super) fn on<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => Err(StoreError::cancelled()),
                done = work => done,
            }
        })
    }

    /// Starts `work`, which ends with its handle at the latest.
    pub(super) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Started<T> {
        AbortOnDropHandle::new(self.runtime.spawn(work))
    }
}

/// Work that goes on by itself.
pub(super) type Started<T> = AbortOnDropHandle<Result<T, StoreError>>;

/// What started work came to.
pub(super) async fn done<T>(started: Started<T>) -> Result<T, StoreError> {
    match started.await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(StoreError::cancelled()),
        Err(error) => {
            tracing::error!(%error, "work for a file elsewhere panicked");
            let message = "reading or writing a file stopped unexpectedly";
            Err(StoreError::passing("store_failed", message))
        }
    }
}
