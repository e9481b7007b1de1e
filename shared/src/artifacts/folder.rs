//! Artifacts in a folder of this machine, or of one that is mounted.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::{fs::File, io::AsyncWriteExt, task::spawn_blocking};
use tokio_util::io::ReaderStream;

use super::{ArtifactError, Chunks};

/// How the name of a file ends that is still written.
const DRAFT: &str = ".draft";

/// How often a folder is made anew that somebody takes away.
const FOLDER_TRIES: usize = 100;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A folder with a folder for each run.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which is made where it is missing and must be
    /// writable.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        create(path)?;
        let path = path.canonicalize()?;
        let probe = path.join(format!(".probe-{}", uuid::Uuid::new_v4()));
        fs::write(&probe, "")?;
        fs::remove_file(&probe)?;
        Ok(Self { path })
    }

    /// Writes a file, which appears whole or not at all, also where the power
    /// fails.
    pub(super) async fn put(
        &self,
        name: &str,
        mut chunks: impl Stream<Item = Result<Bytes, ArtifactError>> + Unpin,
        failed: impl Fn(io::Error) -> ArtifactError,
    ) -> Result<(), ArtifactError> {
        let whole = self.path.join(name);
        let draft = self.path.join(format!("{name}{DRAFT}"));
        let removing = Draft(draft.clone());
        let folder = whole.parent().unwrap_or(&self.path).to_owned();
        let opened = spawn_blocking({
            let (folder, draft) = (folder.clone(), draft.clone());
            move || open_draft(&folder, &draft)
        });
        let mut file = File::from_std(joined(opened).await.map_err(&failed)?);
        while let Some(chunk) = chunks.next().await {
            file.write_all(&chunk?).await.map_err(&failed)?;
        }
        file.flush().await.map_err(&failed)?;
        file.sync_all().await.map_err(&failed)?;
        let published = spawn_blocking(move || {
            fs::rename(&draft, &whole)?;
            fs::File::open(&folder)?.sync_all()
        });
        joined(published).await.map_err(&failed)?;
        removing.keep();
        Ok(())
    }

    /// The length and the content of a file; `NotFound` where there is none.
    pub(super) async fn get(
        &self,
        name: &str,
        failed: impl Fn(io::Error) -> ArtifactError + Send + 'static,
    ) -> io::Result<(u64, Chunks)> {
        let file = File::open(self.path.join(name)).await?;
        let bytes = file.metadata().await?.len();
        let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES).map_err(failed);
        Ok((bytes, chunks.boxed()))
    }

    /// Deletes a file, and its folder where it was the last one.
    pub(super) async fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let deleted = spawn_blocking(move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A folder that is not empty stays, which is what this counts on.
            let _ = path.parent().map(fs::remove_dir);
            Ok(())
        });
        joined(deleted).await
    }

    /// The names of all files, drafts included, one folder at a time.
    pub(super) fn list(&self) -> impl Stream<Item = io::Result<String>> + Send + use<> {
        let path = self.path.clone();
        let folders = stream::once(joined(spawn_blocking(move || names(&path))));
        let folders = folders.map_ok(|names| stream::iter(names).map(io::Result::Ok));
        let folders = folders.try_flatten();
        let path = self.path.clone();
        folders
            .and_then(move |folder| {
                let path = path.join(&folder);
                async move {
                    let found = match joined(spawn_blocking(move || names(&path))).await {
                        // Removed since, or a file of somebody else.
                        Err(error) if is_no_folder(&error) => Vec::new(),
                        found => found?,
                    };
                    let found = found
                        .into_iter()
                        .map(move |name| format!("{folder}/{name}"));
                    Ok(stream::iter(found).map(Ok))
                }
            })
            .try_flatten()
    }
}

/// A file that is removed unless it is kept, also where the one who writes it
/// is stopped.
struct Draft(PathBuf);

impl Draft {
    fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What cannot be removed is found by whoever looks for orphans.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Opens a draft in a folder, which is made where it is missing. Whoever deletes
/// the last file of the folder may take it away in between.
fn open_draft(folder: &Path, draft: &Path) -> io::Result<fs::File> {
    let open = || {
        create(folder)?;
        fs::File::create(draft)
    };
    for _ in 0..FOLDER_TRIES {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    open()
}

/// Makes a folder that only its owner may look into.
fn create(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string()));
    // A name that is no text is none of ours.
    let ours = |name: io::Result<Result<String, OsString>>| name.map(Result::ok).transpose();
    names.filter_map(ours).collect()
}

async fn joined<T>(work: tokio::task::JoinHandle<io::Result<T>>) -> io::Result<T> {
    work.await.map_err(io::Error::other)?
}
