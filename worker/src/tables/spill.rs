//! A folder for what does not fit into memory, which no crash leaves behind.

use std::{
    env,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::TableError;

const PREFIX: &str = "millstream-spill-";
const LOCK: &str = "lock";

/// A folder of this process alone, gone when it is dropped.
///
/// A process that was killed leaves its folder; the lock beside it is free
/// then, which is how the next process that starts knows and removes both.
pub(super) struct SpillFolder {
    path: PathBuf,
    _lock: NamedTempFile,
}

impl SpillFolder {
    /// A new folder in `within`, or in the system's folder for temporary
    /// files. What dead processes left there is removed.
    pub(super) fn new(within: Option<&Path>) -> Result<Self, TableError> {
        let within = within.map_or_else(env::temp_dir, Path::to_owned);
        Self::create(&within).map_err(|error| {
            let within = within.display();
            TableError::refused(
                "bad_folder",
                format!("--spill-folder `{within}` cannot be used: {error}"),
            )
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn create(within: &Path) -> io::Result<Self> {
        fs::create_dir_all(within)?;
        remove_left_over(within)?;
        let lock = locked(within)?;
        let path = lock.path().with_extension("");
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, folder = %self.path.display(), "the spill folder stays");
        }
    }
}

/// A new lock file that this process holds.
fn locked(within: &Path) -> io::Result<NamedTempFile> {
    loop {
        let lock = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(&format!(".{LOCK}"))
            .tempfile_in(within)?;
        // Another process that just starts may take it for a left-over one
        // before it is locked.
        if lock.as_file().try_lock().is_ok() && lock.path().exists() {
            return Ok(lock);
        }
    }
}

fn remove_left_over(within: &Path) -> io::Result<()> {
    for entry in fs::read_dir(within)? {
        let lock = entry?.path();
        let name = lock.file_name().map(OsStr::to_string_lossy);
        let is_ours = name.is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours || lock.extension() != Some(OsStr::new(LOCK)) {
            continue;
        }
        // What cannot be opened or locked belongs to somebody else.
        let Ok(file) = File::open(&lock) else {
            continue;
        };
        if file.try_lock().is_ok() {
            let folder = lock.with_extension("");
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, folder = %folder.display(), "a left-over spill folder stays");
                }
                _ => fs::remove_file(&lock).unwrap_or_default(),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_folder_is_gone_with_its_owner() {
        let within = tempfile::tempdir().unwrap();
        let spill = SpillFolder::new(Some(within.path())).unwrap();
        fs::write(spill.path().join("rows"), "x").unwrap();
        drop(spill);
        assert_eq!(count(within.path()), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_others_use_stays() {
        let within = tempfile::tempdir().unwrap();
        let alive = SpillFolder::new(Some(within.path())).unwrap();
        let dead = within.path().join("millstream-spill-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("rows"), "x").unwrap();
        fs::write(within.path().join("millstream-spill-dead.lock"), "").unwrap();
        fs::write(within.path().join("other.lock"), "").unwrap();

        let new = SpillFolder::new(Some(within.path())).unwrap();
        assert!(!dead.exists());
        assert!(alive.path().exists());
        assert!(new.path().exists());
        assert_eq!(count(within.path()), 5);
    }
}
