//! A folder for what steps need on disk while they run: what does not fit into
//! memory, and the folders of commands. No crash leaves it behind.

use std::{
    env,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::{NamedTempFile, TempDir};

const PREFIX: &str = "millstream-work-";
const LOCK: &str = "lock";
const SPILL: &str = "spill";

/// A folder of this process alone, gone when it is dropped.
///
/// A process that was killed leaves its folder; the lock beside it is free
/// then, which is how the next process that starts knows and removes both.
pub(crate) struct WorkFolder {
    path: PathBuf,
    _lock: NamedTempFile,
}

impl WorkFolder {
    /// A new folder in `within`, or in the system's folder for temporary
    /// files. What dead processes left there is removed.
    ///
    /// # Errors
    /// Fails where nothing can be made there.
    pub(crate) fn new(within: Option<&Path>) -> anyhow::Result<Self> {
        let within = within.map_or_else(env::temp_dir, Path::to_owned);
        let made = Self::create(&within);
        made.with_context(|| format!("--work-folder `{}` cannot be used", within.display()))
    }

    /// The folder of what does not fit into memory.
    pub(crate) fn spill(&self) -> PathBuf {
        self.path.join(SPILL)
    }

    /// A new folder for a command, gone when it is dropped.
    ///
    /// # Errors
    /// Fails where none can be made.
    pub(crate) fn for_command(&self) -> io::Result<TempDir> {
        tempfile::Builder::new()
            .prefix("command-")
            .tempdir_in(&self.path)
    }

    /// A new file for a table that was kept, without a name, gone when it is
    /// closed.
    ///
    /// # Errors
    /// Fails where none can be made.
    pub(crate) fn for_table(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.path)
    }

    /// A new folder for what requests send and services answer, gone when it is
    /// dropped.
    ///
    /// # Errors
    /// Fails where none can be made.
    pub(crate) fn for_request(&self) -> io::Result<TempDir> {
        tempfile::Builder::new()
            .prefix("http-")
            .tempdir_in(&self.path)
    }

    fn create(within: &Path) -> io::Result<Self> {
        fs::create_dir_all(within)?;
        remove_left_over(within)?;
        let lock = locked(within)?;
        let path = lock.path().with_extension("");
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&path)?;
        builder.create(path.join(SPILL))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, folder = %self.path.display(), "the work folder stays");
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
                    tracing::warn!(%error, folder = %folder.display(), "a left-over work folder stays");
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
        let work = WorkFolder::new(Some(within.path())).unwrap();
        fs::write(work.spill().join("rows"), "x").unwrap();
        drop(work);
        assert_eq!(count(within.path()), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = WorkFolder::new(Some(Path::new("/proc/none/such")));
        let error = format!("{:#}", error.err().unwrap());
        assert!(error.contains("--work-folder `/proc/none/such`"), "{error}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_others_use_stays() {
        let within = tempfile::tempdir().unwrap();
        let alive = WorkFolder::new(Some(within.path())).unwrap();
        let dead = within.path().join("millstream-work-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("rows"), "x").unwrap();
        fs::write(within.path().join("millstream-work-dead.lock"), "").unwrap();
        fs::write(within.path().join("other.lock"), "").unwrap();

        let new = WorkFolder::new(Some(within.path())).unwrap();
        assert!(!dead.exists());
        assert!(alive.spill().exists());
        assert!(new.spill().exists());
        assert_eq!(count(within.path()), 5);
    }
}
