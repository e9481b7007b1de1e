//! A file that lies elsewhere, read in pieces or as a whole.

use std::{
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use millstream_shared::byte_size::ByteSize;
use object_store::{ObjectMeta, coalesce_ranges};
use tempfile::NamedTempFile;

use super::{
    bucket::Bucket, error::StoreError, read_ahead::ReadAhead, waiting::Waiting, web::WebFile,
};

/// How much is asked for at once.
pub(super) const PIECE_BYTES: u64 = 4 << 20;

/// How many pieces are asked for at the same time.
pub(super) const PIECES_AHEAD: usize = 3;

/// What lies closer together than this is asked for as one.
const GAP_BYTES: u64 = 256 << 10;

/// How many files there may be, and how large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Files of one pattern.
    pub(crate) files: usize,
    /// What one file may take that has to be kept on disk.
    pub(crate) disk: ByteSize,
}

/// What a file is read from. It is asked for pieces, each of which must be of
/// the same state of the file.
pub(super) enum Source {
    Object {
        bucket: Arc<Bucket>,
        facts: ObjectMeta,
    },
    Web(WebFile),
}

impl Source {
    async fn piece(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self {
            Self::Object { bucket, facts } => bucket.range(facts, range).await,
            Self::Web(file) => file.range(range).await,
        }
    }

    /// Some bytes, however many.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let pieces: Vec<_> = pieces(range.clone()).collect();
        if let [piece] = &pieces[..] {
            return self.piece(piece.clone()).await;
        }
        let mut all = BytesMut::with_capacity((range.end - range.start) as usize);
        let asked = pieces.into_iter().map(|piece| self.piece(piece));
        let mut got = stream::iter(asked).buffered(PIECES_AHEAD);
        while let Some(piece) = got.try_next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// A range as pieces that are asked for one by one.
pub(super) fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let starts = (range.start..range.end).step_by(PIECE_BYTES as usize);
    starts.map(move |start| start..(start + PIECE_BYTES).min(range.end))
}

/// The last failure of a file. Formats and compressions have words of their own
/// for it, which say less.
#[derive(Clone, Default)]
pub(super) struct Noted(Arc<Mutex<Option<StoreError>>>);

impl Noted {
    pub(super) fn keep<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = Some(error.clone());
        })
    }

    fn last(&self) -> Option<StoreError> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.clone()
    }
}

/// A file that lies elsewhere.
pub(crate) struct RemoteFile {
    /// Its address, without anything secret.
    pub(crate) shown: String,
    /// Its path where it lies, of which folders can name columns.
    pub(crate) inside: String,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    reading: Reading,
    folder: PathBuf,
    limits: Limits,
    /// The whole of it, where it has been fetched.
    kept: OnceLock<NamedTempFile>,
}

/// What reading a file takes.
#[derive(Clone)]
pub(crate) struct Reading {
    source: Arc<Source>,
    waiting: Waiting,
    noted: Noted,
}

impl Reading {
    /// Some bytes of the file, on the runtime of the network.
    pub(super) async fn piece(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.noted.keep(self.source.range(range).await)
    }

    /// Blocks until `work` on pieces of the file is done, or nobody wants it.
    pub(crate) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.noted.keep(self.waiting.on(work))
    }

    /// Several ranges of the file.
    pub(crate) async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        coalesce_ranges(ranges, |range| self.piece(range), GAP_BYTES).await
    }

    pub(super) fn start(&self, range: Range<u64>) -> super::waiting::Started<Bytes> {
        let reading = self.clone();
        self.waiting
            .start(async move { reading.piece(range).await })
    }
}

impl RemoteFile {
    pub(super) fn new(
        (shown, inside): (String, String),
        bytes: u64,
        source: Source,
        waiting: Waiting,
        (folder, limits): (&Path, Limits),
    ) -> Self {
        Self {
            shown,
            inside,
            bytes,
            reading: Reading {
                source: Arc::new(source),
                waiting,
                noted: Noted::default(),
            },
            folder: folder.to_owned(),
            limits,
            kept: OnceLock::new(),
        }
    }

    /// The same file, all of which has been fetched.
    pub(super) fn with_all(self, all: NamedTempFile) -> Self {
        Self {
            kept: OnceLock::from(all),
            ..self
        }
    }

    /// What it takes to read pieces of it; none where all of it is here.
    pub(crate) fn pieces(&self) -> Option<Reading> {
        self.kept.get().is_none().then(|| self.reading.clone())
    }

    /// Its bytes from the first to the last one.
    pub(crate) fn stream(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self.kept.get() {
            Some(kept) => Box::new(File::open(kept.path())?),
            None => Box::new(ReadAhead::new(self.reading.clone(), self.bytes)),
        })
    }

    /// The whole of it as a file on disk, which goes with this one.
    pub(crate) fn whole(&self) -> io::Result<File> {
        if let Some(kept) = self.kept.get() {
            return File::open(kept.path());
        }
        check_size(&self.shown, self.bytes, self.limits)?;
        let mut kept = temporary(&self.folder)?;
        io::copy(&mut self.stream()?, &mut kept)?;
        kept.flush()?;
        File::open(self.kept.get_or_init(|| kept).path())
    }

    /// Why it could not be read, where that was not the file's fault.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.reading.noted.last()
    }
}

/// Fails where a file is larger than what may be kept on disk.
pub(super) fn check_size(shown: &str, bytes: u64, limits: Limits) -> Result<(), StoreError> {
    if bytes <= limits.disk.bytes() {
        return Ok(());
    }
    let limit = limits.disk;
    let message = format!(
        "`{shown}` has to be kept in the work folder and is larger than the {limit} that \
         --spill-size allows"
    );
    Err(StoreError::refused("file_too_large", message))
}

/// An empty file for one that is fetched, gone with its handle.
pub(super) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix("file-").tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_into_pieces_without_gaps() {
        let cut = |start, end| pieces(start..end).collect::<Vec<_>>();
        assert_eq!(cut(5, 5), []);
        assert_eq!(cut(5, 7), vec![5..7]);
        let end = 2 * PIECE_BYTES + 3;
        assert_eq!(
            cut(2, end),
            [
                2..PIECE_BYTES + 2,
                PIECE_BYTES + 2..2 * PIECE_BYTES + 2,
                2 * PIECE_BYTES + 2..end
            ]
        );
    }
}
