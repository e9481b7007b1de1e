//! An object on its way into a store.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload, path::Path};

use super::{
    bucket::Bucket,
    error::StoreError,
    waiting::{Started, Waiting, done},
};
use crate::fault;

/// How large the parts of an object are. Stores take up to 10,000 of them, all
/// of one size but the last.
const PART_BYTES: usize = 8 << 20;

/// How many parts are on their way at the same time.
const PARTS_UNDER_WAY: usize = 3;

/// How many objects of several appear at the same time.
const APPEARING: usize = 8;

/// How long taking back what has been sent may take.
const TAKING_BACK_MAX: Duration = Duration::from_secs(10);

/// An object on its way into a store. It appears with [`Upload::appear`], whole,
/// and in the place of the one that was there. What has been sent is taken back
/// when this is dropped before.
pub(crate) struct Upload {
    bucket: Arc<Bucket>,
    key: Path,
    waiting: Waiting,
    part: BytesMut,
    bytes: u64,
    /// Where there is more than one part.
    parts: Option<Parts>,
    failure: Option<StoreError>,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    under_way: VecDeque<Started<()>>,
}

impl Upload {
    pub(super) fn new(bucket: Arc<Bucket>, key: Path, waiting: Waiting) -> Self {
        Self {
            bucket,
            key,
            waiting,
            part: BytesMut::new(),
            bytes: 0,
            parts: None,
            failure: None,
        }
    }

    /// Why something of it could not be sent: formats have words of their own
    /// for it, which say less.
    pub(crate) fn failure(&mut self) -> Option<StoreError> {
        self.failure.take()
    }

    /// Sends all of it, so that only its appearance is missing.
    pub(crate) fn send_all(&mut self) -> Result<(), StoreError> {
        self.send_part()?;
        self.wait_for_parts(0)
    }

    /// Lets the object appear; how many bytes it has.
    pub(crate) fn appear(mut self) -> Result<u64, StoreError> {
        if self.parts.is_some() {
            if !self.part.is_empty() {
                self.send_part()?;
            }
            self.wait_for_parts(0)?;
        }
        fault::reach(fault::BEFORE_APPEARANCE);
        let waiting = self.waiting.clone();
        waiting.on(self.appeared())?;
        fault::reach(fault::AFTER_APPEARANCE);
        Ok(self.bytes)
    }

    /// Lets several objects appear, all of which have been sent; how many bytes
    /// they have.
    pub(crate) fn appear_all(mut uploads: Vec<Self>) -> Result<u64, StoreError> {
        fault::reach(fault::BEFORE_APPEARANCE);
        let Some(waiting) = uploads.first().map(|upload| upload.waiting.clone()) else {
            return Ok(0);
        };
        let appearing = uploads.iter_mut().map(|upload| async {
            upload.appeared().await?;
            fault::reach(fault::MID_APPEARANCE);
            Ok::<u64, StoreError>(upload.bytes)
        });
        let mut appearing = stream::iter(appearing).buffer_unordered(APPEARING);
        let bytes = waiting.on(async {
            let mut bytes = 0;
            while let Some(appeared) = appearing.try_next().await? {
                bytes += appeared;
            }
            Ok(bytes)
        });
        drop(appearing);
        fault::reach(fault::AFTER_APPEARANCE);
        bytes
    }

    async fn appeared(&mut self) -> Result<(), StoreError> {
        match &mut self.parts {
            None => {
                let bytes = mem::take(&mut self.part).freeze();
                self.bucket.put(&self.key, bytes).await?;
            }
            Some(parts) => {
                let completed = parts.upload.complete().await;
                completed.map_err(|error| failed(&self.bucket, &self.key, &error))?;
            }
        }
        self.parts = None;
        Ok(())
    }

    fn send_part(&mut self) -> Result<(), StoreError> {
        if self.parts.is_none() {
            let (bucket, key) = (&self.bucket, &self.key);
            let begun = async {
                let begun = bucket.store.put_multipart(key).await;
                begun.map_err(|error| failed(bucket, key, &error))
            };
            self.parts = Some(Parts {
                upload: self.waiting.on(begun)?,
                under_way: VecDeque::new(),
            });
        }
        self.wait_for_parts(PARTS_UNDER_WAY - 1)?;
        let part: Bytes = mem::take(&mut self.part).freeze();
        let (bucket, key) = (Arc::clone(&self.bucket), self.key.clone());
        if let Some(parts) = &mut self.parts {
            let sending = parts.upload.put_part(PutPayload::from(part));
            let sending = async move {
                let sent = sending.await;
                sent.map_err(|error| failed(&bucket, &key, &error))
            };
            parts.under_way.push_back(self.waiting.start(sending));
        }
        Ok(())
    }

    /// Waits until no more than so many parts are on their way.
    fn wait_for_parts(&mut self, count: usize) -> Result<(), StoreError> {
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        while parts.under_way.len() > count
            && let Some(oldest) = parts.under_way.pop_front()
        {
            self.waiting.on(done(oldest))?;
            fault::reach(fault::MID_UPLOAD);
        }
        Ok(())
    }
}

fn failed(bucket: &Bucket, key: &Path, error: &object_store::Error) -> StoreError {
    match bucket.failed("writing", key.as_ref(), error) {
        // What is not there is what has been sent, which somebody took back.
        lost if lost.code == "file_not_found" => {
            let shown = bucket.shown(key.as_ref());
            let message = format!("writing `{shown}` failed: the store has lost what was sent");
            StoreError::passing("store_failed", message)
        }
        error => error,
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= PART_BYTES {
            let sent = self.send_part();
            sent.inspect_err(|error| self.failure = Some(error.clone()))?;
        }
        let count = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(Parts {
            mut upload,
            under_way,
        }) = self.parts.take()
        else {
            return;
        };
        let shown = self.bucket.shown(self.key.as_ref());
        self.waiting.runtime.block_on(async {
            let taking_back = async {
                // A part that arrives later would stay.
                for part in under_way {
                    part.abort();
                    drop(part.await);
                }
                upload.abort().await
            };
            match tokio::time::timeout(TAKING_BACK_MAX, taking_back).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(shown, %error, "parts of an object stay"),
                Err(_) => tracing::warn!(shown, "parts of an object stay: no answer in time"),
            }
        });
    }
}
