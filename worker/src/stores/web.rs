//! Files over HTTP.
//!
//! A server that gives ranges, and says by which the state of a file is told,
//! is asked for pieces. What any other one sends is kept on disk first.

use std::{
    io::{self, Write},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tempfile::NamedTempFile;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    error::StoreError,
    remote_file::{Limits, RemoteFile, Source, check_size, temporary},
    waiting::Waiting,
};
use crate::steps::{Client, Fetched, WebAddress};

/// How often a piece is asked for again that did not come for what may pass.
const RETRIES_MAX: u32 = 4;

/// How long to wait before the first of these; three times as long before each
/// further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Where a file lies on the web.
#[derive(Clone)]
pub(crate) struct Web {
    pub(super) client: Client,
    pub(super) address: WebAddress,
    pub(super) runtime: Handle,
    /// Where a file is kept on disk.
    pub(super) folder: PathBuf,
    /// Cancelled when nobody wants it any more.
    pub(super) cancelled: CancellationToken,
}

/// A file whose server gives ranges.
pub(super) struct WebFile {
    client: Client,
    address: WebAddress,
    state: State,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    bytes: u64,
    /// Its `ETag`, or when it was last modified.
    mark: String,
}

impl Web {
    /// Its address, without the query, which can hold credentials.
    pub(crate) fn shown(&self) -> String {
        self.address.shown()
    }

    /// The file, of which no byte has been read yet, or all of them.
    pub(crate) fn file(&self, limits: Limits) -> Result<RemoteFile, StoreError> {
        let waiting = Waiting {
            runtime: self.runtime.clone(),
            cancelled: self.cancelled.clone(),
        };
        let (state, kept) = waiting.on(self.found(limits))?;
        let source = Source::Web(WebFile {
            client: self.client.clone(),
            address: self.address.clone(),
            state: state.clone(),
        });
        let shown = self.shown();
        // Folders in an address are nobody's columns.
        let name = shown.rsplit('/').next().unwrap_or_default().to_owned();
        let named = (shown, name);
        let file = RemoteFile::new(named, state.bytes, source, waiting, (&self.folder, limits));
        Ok(match kept {
            Some(kept) => file.with_all(kept),
            None => file,
        })
    }

    async fn found(&self, limits: Limits) -> Result<(State, Option<NamedTempFile>), StoreError> {
        let fetched = patiently(|| self.client.fetch(&self.address, Some(0..1))).await?;
        let fetched = match fetched.status() {
            200 => fetched,
            206 => match content_range(&fetched).and_then(|(_, bytes)| state(&fetched, bytes)) {
                Some(state) => return Ok((state, None)),
                None => self.client.fetch(&self.address, None).await?,
            },
            _ => self.client.fetch(&self.address, None).await?,
        };
        let (kept, bytes) = self.kept(fetched, limits).await?;
        let mark = String::new();
        Ok((State { bytes, mark }, Some(kept)))
    }

    async fn kept(
        &self,
        mut fetched: Fetched,
        limits: Limits,
    ) -> Result<(NamedTempFile, u64), StoreError> {
        if fetched.status() != 200 {
            let (shown, status) = (self.shown(), fetched.status());
            let message = format!("`{shown}` answered with the status {status} and no file");
            return Err(StoreError::refused("http_status", message));
        }
        let shown = &self.shown();
        let on_disk = |error: io::Error| StoreError::of_disk(shown, &error);
        let told = fetched.header("content-length");
        let told = told.and_then(|told| told.parse().ok());
        check_size(shown, told.unwrap_or(0), limits)?;
        let mut kept = temporary(&self.folder).map_err(on_disk)?;
        let mut bytes = 0;
        while let Some(next) = fetched.next().await? {
            bytes += next.len() as u64;
            check_size(shown, bytes, limits)?;
            kept.write_all(&next).map_err(on_disk)?;
        }
        match told {
            Some(told) if told != bytes => Err(StoreError::cut_off(shown, told, bytes)),
            _ => Ok((kept, bytes)),
        }
    }
}

impl WebFile {
    /// Some bytes of the file, which must still be in the state in which it was
    /// found.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        patiently(|| self.range_once(range.clone())).await
    }

    async fn range_once(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let shown = &self.address.shown();
        let mut fetched = self
            .client
            .fetch(&self.address, Some(range.clone()))
            .await?;
        let found = content_range(&fetched);
        let is_same = fetched.status() == 206
            && found.is_some_and(|(got, bytes)| {
                got == range && state(&fetched, bytes).as_ref() == Some(&self.state)
            });
        if !is_same {
            return Err(StoreError::changed(shown));
        }
        let expected = range.end - range.start;
        let mut all = BytesMut::with_capacity(expected as usize);
        while let Some(next) = fetched.next().await? {
            all.extend_from_slice(&next);
        }
        if all.len() as u64 != expected {
            return Err(StoreError::cut_off(shown, expected, all.len() as u64));
        }
        Ok(all.freeze())
    }
}

/// The range that came, and how many bytes there are in all.
fn content_range(fetched: &Fetched) -> Option<(Range<u64>, u64)> {
    parsed_range(fetched.header("content-range")?)
}

fn parsed_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, bytes) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end: u64 = last.parse().ok()?;
    Some((
        first.parse().ok()?..end.checked_add(1)?,
        bytes.parse().ok()?,
    ))
}

/// The state of a file; none where nothing tells it from another one.
fn state(fetched: &Fetched, bytes: u64) -> Option<State> {
    let mark = fetched.header("etag");
    let mark = mark.or_else(|| fetched.header("last-modified"))?;
    Some(State {
        bytes,
        mark: mark.to_owned(),
    })
}

/// Asks again for what did not come for a reason that may pass, but not for a
/// file that has become another one.
async fn patiently<T, E, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, E>>,
    StoreError: From<E>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 0..RETRIES_MAX {
        match ask().await.map_err(StoreError::from) {
            Err(error) if error.is_passing && error.code != "file_changed" => {
                tracing::debug!(%error, "asking again");
            }
            answered => return answered,
        }
        sleep(pause).await;
        pause *= 3;
    }
    ask().await.map_err(StoreError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_servers_write_it() {
        assert_eq!(parsed_range("bytes 0-0/12"), Some((0..1, 12)));
        assert_eq!(parsed_range("bytes 5-9/10"), Some((5..10, 10)));
        for wrong in [
            "bytes */12",
            "bytes 0-0/*",
            "items 0-0/1",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(parsed_range(wrong), None, "{wrong}");
        }
    }
}
