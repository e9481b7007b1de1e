//! The artifact store: what runs keep that is too large for Redis, or that a
//! later attempt could not make again.
//!
//! An artifact is written once, whole or not at all, under a name that nobody
//! else writes under, and counts only where the record of its run refers to it.

mod bucket;
mod error;
mod folder;
mod settings;
#[cfg(test)]
mod tests;

use std::{io, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sha2::{Digest, Sha256};

use crate::{access::hex, run::Artifact};
use bucket::Bucket;
pub use error::ArtifactError;
use folder::Folder;
use settings::Place;
pub use settings::{ArtifactPlace, ArtifactSettings};

/// The content of an artifact, piece by piece. It ends with an error where it
/// is not what was put there.
pub type Chunks = BoxStream<'static, Result<Bytes, ArtifactError>>;

/// A handle on the artifact store. A clone is another one on the same store.
#[derive(Clone, Debug)]
pub struct Artifacts(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// What it is called in errors.
    shown: String,
    place: Opened,
}

#[derive(Debug)]
enum Opened {
    Folder(Folder),
    Bucket(Bucket),
}

impl Artifacts {
    /// Opens the store where one is set. What it holds lies apart for each
    /// `service`, so that several may share a place.
    ///
    /// # Errors
    /// Fails where a folder cannot be made or written to, or where the
    /// environment lacks what a cloud needs. Whether a bucket is there is not
    /// asked: it may be away for the moment.
    pub fn open(settings: &ArtifactSettings, service: &str) -> Result<Option<Self>, ArtifactError> {
        let Some(place) = &settings.place.0 else {
            return Ok(None);
        };
        let shown = place.to_string();
        let place = match place {
            Place::Folder(path) => {
                let folder = Folder::open(&path.join(service));
                Opened::Folder(folder.map_err(|error| ArtifactError::of_io(&shown, error))?)
            }
            Place::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                let prefix = format!("{prefix}/{service}");
                let opened = Bucket::open(*cloud, bucket, prefix.trim_start_matches('/'));
                Opened::Bucket(opened.map_err(|error| unusable(&shown, error))?)
            }
        };
        Ok(Some(Self(Arc::new(Kept { shown, place }))))
    }

    /// Keeps what `chunks` brings under `name`. When this returns it outlives
    /// this machine's loss of power.
    ///
    /// # Errors
    /// Fails where the store does, or `chunks` breaks off; nothing is there then
    /// that anybody could take for the artifact.
    pub async fn put(
        &self,
        name: String,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<Artifact, ArtifactError> {
        let mut bytes = 0;
        let mut sum = Sha256::new();
        let counted = chunks.map(|chunk| {
            let chunk = chunk.map_err(ArtifactError::Source)?;
            bytes += chunk.len() as u64;
            sum.update(&chunk);
            Ok(chunk)
        });
        let counted = pin!(counted);
        let Kept { shown, place } = &*self.0;
        match place {
            Opened::Folder(folder) => {
                let failed = |error| ArtifactError::of_io(shown, error);
                folder.put(&name, counted, failed).await?;
            }
            Opened::Bucket(bucket) => {
                let failed = |error| ArtifactError::of_bucket(shown, error);
                bucket.put(&name, counted, failed).await?;
            }
        }
        Ok(Artifact {
            name,
            bytes,
            sha256: hex(&sum.finalize()),
        })
    }

    /// The content of an artifact, which is checked on its way: its last piece
    /// comes only where all of it is what was put there.
    ///
    /// # Errors
    /// Fails where it is gone, where its length is not what it was, and where the
    /// store does.
    pub async fn get(&self, artifact: &Artifact) -> Result<Chunks, ArtifactError> {
        let shown = self.0.shown.clone();
        let name = artifact.name.clone();
        let gone = || ArtifactError::Gone { name: name.clone() };
        let (bytes, chunks) = match &self.0.place {
            Opened::Folder(folder) => {
                let failed = move |error| ArtifactError::of_io(&shown, error);
                match folder.get(&name, failed.clone()).await {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
                    found => found.map_err(failed)?,
                }
            }
            Opened::Bucket(bucket) => {
                let failed = move |error| ArtifactError::of_bucket(&shown, error);
                match bucket.get(&name, failed.clone()).await {
                    Err(object_store::Error::NotFound { .. }) => return Err(gone()),
                    found => found.map_err(failed)?,
                }
            }
        };
        if bytes != artifact.bytes {
            let reason = "its length is another one";
            return Err(ArtifactError::Damaged { name, reason });
        }
        Ok(checked(chunks, artifact.clone()))
    }

    /// The whole content of an artifact.
    ///
    /// # Errors
    /// As [`Artifacts::get`].
    pub async fn read(&self, artifact: &Artifact) -> Result<Vec<u8>, ArtifactError> {
        let chunks = self.get(artifact).await?;
        let whole = Vec::with_capacity(usize::try_from(artifact.bytes).unwrap_or(0));
        chunks
            .try_fold(whole, async |mut whole, chunk| {
                whole.extend_from_slice(&chunk);
                Ok(whole)
            })
            .await
    }

    /// Deletes an artifact; one that is gone is no error.
    ///
    /// # Errors
    /// Fails where the store does.
    pub async fn delete(&self, name: &str) -> Result<(), ArtifactError> {
        let Kept { shown, place } = &*self.0;
        match place {
            Opened::Folder(folder) => {
                let deleted = folder.delete(name).await;
                deleted.map_err(|error| ArtifactError::of_io(shown, error))
            }
            Opened::Bucket(bucket) => {
                let deleted = bucket.delete(name).await;
                deleted.map_err(|error| ArtifactError::of_bucket(shown, error))
            }
        }
    }

    /// The names of all that is kept, and of what was never finished, in no
    /// order.
    pub fn list(&self) -> BoxStream<'static, Result<String, ArtifactError>> {
        let shown = self.0.shown.clone();
        match &self.0.place {
            Opened::Folder(folder) => {
                let names = folder.list();
                let failed = move |error| ArtifactError::of_io(&shown, error);
                names.map_err(failed).boxed()
            }
            Opened::Bucket(bucket) => {
                let names = bucket.list();
                let failed = move |error| ArtifactError::of_bucket(&shown, error);
                names.map_err(failed).boxed()
            }
        }
    }
}

/// A store that cannot be spoken to with what the environment has for it.
fn unusable(shown: &str, error: object_store::Error) -> ArtifactError {
    ArtifactError::Refused {
        store: shown.to_owned(),
        reason: error.to_string(),
        source: error.into(),
    }
}

/// What has come in of an artifact.
struct Incoming {
    chunks: Chunks,
    artifact: Artifact,
    bytes: u64,
    sum: Sha256,
    /// The last piece, until it is known that there is another one.
    held: Option<Bytes>,
}

fn checked(chunks: Chunks, artifact: Artifact) -> Chunks {
    let incoming = Incoming {
        chunks: chunks.fuse().boxed(),
        artifact,
        bytes: 0,
        sum: Sha256::new(),
        held: None,
    };
    stream::try_unfold(incoming, |incoming| incoming.next().boxed()).boxed()
}

impl Incoming {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ArtifactError> {
        while let Some(chunk) = self.chunks.next().await {
            let chunk = chunk?;
            self.bytes += chunk.len() as u64;
            self.sum.update(&chunk);
            if self.bytes > self.artifact.bytes {
                return Err(self.damaged());
            }
            if let Some(before) = self.held.replace(chunk) {
                return Ok(Some((before, self)));
            }
        }
        let sum = std::mem::take(&mut self.sum);
        let last = self.held.take();
        // Behind the last piece the sum was looked at already.
        let is_behind = last.is_none() && self.bytes > 0;
        if is_behind || (self.bytes, hex(&sum.finalize())) == self.expected() {
            return Ok(last.map(|last| (last, self)));
        }
        Err(self.damaged())
    }

    fn expected(&self) -> (u64, String) {
        (self.artifact.bytes, self.artifact.sha256.clone())
    }

    fn damaged(self) -> ArtifactError {
        ArtifactError::Damaged {
            name: self.artifact.name,
            reason: "its content is not what was put there",
        }
    }
}
