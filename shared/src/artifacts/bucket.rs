//! Artifacts in a bucket of S3, Azure or Google, or of a service that speaks as
//! one of them.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    buffered::BufWriter,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{ArtifactError, Chunks, settings::Cloud};

/// What goes up at once, and how many of these at the same time. Beyond the
/// first the upload is one of several parts.
const PART_BYTES: usize = 8 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 2;

/// How long one step of a transfer may take before the service counts as away.
const STEP_MAX: Duration = Duration::from_secs(60);

/// How long one request may take. A caller may be slow to take an artifact, so
/// that what counts is [`STEP_MAX`].
const REQUEST_MAX: &str = "1h";

/// A prefix within a bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Bucket {
    /// A bucket with the credentials that the environment has for its cloud.
    pub(super) fn open(cloud: Cloud, name: &str, prefix: &str) -> object_store::Result<Self> {
        // Whoever asks tries again for longer, as it suits what it is for.
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: Duration::from_secs(10),
            ..RetryConfig::default()
        };
        let limit = ClientConfigKey::Timeout;
        let store: Arc<dyn ObjectStore> = match cloud {
            Cloud::Amazon => Arc::new(
                AmazonS3Builder::from_env()
                    .with_bucket_name(name)
                    .with_config(AmazonS3ConfigKey::Client(limit), REQUEST_MAX)
                    .with_retry(retry)
                    .build()?,
            ),
            Cloud::Azure => Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_container_name(name)
                    .with_config(AzureConfigKey::Client(limit), REQUEST_MAX)
                    .with_retry(retry)
                    .build()?,
            ),
            Cloud::Google => Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(name)
                    .with_config(GoogleConfigKey::Client(limit), REQUEST_MAX)
                    .with_retry(retry)
                    .build()?,
            ),
        };
        Ok(Self::of(store, prefix))
    }

    /// The same in a store that is there already.
    pub(super) fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { store, prefix }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// Writes an object, which appears whole or not at all.
    pub(super) async fn put(
        &self,
        name: &str,
        mut chunks: impl Stream<Item = Result<Bytes, ArtifactError>> + Unpin,
        failed: impl Fn(object_store::Error) -> ArtifactError,
    ) -> Result<(), ArtifactError> {
        let store = Arc::clone(&self.store);
        let writer = BufWriter::with_capacity(store, self.path(name), PART_BYTES);
        let mut writer = writer.with_max_concurrency(PARTS_AT_ONCE);
        let broken_off = loop {
            match chunks.next().await {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(chunk)) => match in_time(writer.put(chunk)).await {
                    Ok(()) => {}
                    Err(error) => break Some(failed(error)),
                },
            }
        };
        if let Some(error) = broken_off {
            // Parts that stay are the service's to clear away, see the guide.
            let _ = in_time(writer.abort()).await;
            return Err(error);
        }
        let ended = in_time(async { writer.shutdown().await.map_err(told) });
        ended.await.map_err(failed)
    }

    /// The length and the content of an object.
    pub(super) async fn get(
        &self,
        name: &str,
        failed: impl Fn(object_store::Error) -> ArtifactError + Send + 'static,
    ) -> object_store::Result<(u64, Chunks)> {
        let path = self.path(name);
        let found = in_time(self.store.get(&path)).await?;
        let bytes = found.meta.size;
        let chunks = found.into_stream();
        let chunks = futures::stream::unfold(chunks, async |mut chunks| {
            let next = in_time(async { chunks.next().await.transpose() }).await;
            next.transpose().map(|chunk| (chunk, chunks))
        });
        Ok((bytes, chunks.map_err(failed).boxed()))
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, name: &str) -> object_store::Result<()> {
        let path = self.path(name);
        match in_time(self.store.delete(&path)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// The names of all objects.
    pub(super) fn list(&self) -> impl Stream<Item = object_store::Result<String>> + Send + use<> {
        let prefix = Path::from(&*self.prefix);
        let found = self.store.list(Some(&prefix));
        found.map_ok(move |object| {
            let parts = object.location.prefix_match(&prefix);
            let parts = parts.into_iter().flatten();
            let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            parts.join("/")
        })
    }
}

async fn in_time<T>(
    step: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    timeout(STEP_MAX, step).await.unwrap_or_else(|_| {
        let seconds = STEP_MAX.as_secs();
        Err(object_store::Error::Generic {
            store: "artifacts",
            source: format!("there was no answer within {seconds} s").into(),
        })
    })
}

/// The error within one of input and output, which is how a writer fails.
fn told(error: io::Error) -> object_store::Error {
    match error.downcast::<object_store::Error>() {
        Ok(error) => error,
        Err(error) => object_store::Error::Generic {
            store: "artifacts",
            source: error.into(),
        },
    }
}
