//! Files that appear whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{TableError, files::TargetFile, read::Work};
use crate::fault;

/// A file under construction, which remembers why writing it failed: the
/// formats' own errors often lose that.
pub(super) struct Draft<'a> {
    file: BufWriter<&'a mut (dyn Write + Send)>,
    failed: Option<io::Error>,
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.noted(flushed)
    }
}

impl Draft<'_> {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let same = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::from(error.kind()),
            };
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(same);
            }
        })
    }
}

const BUFFER_BYTES: usize = 256 << 10;

/// Writes what `fill` writes into the file `target`, which is replaced in one
/// moment and only when all of it is on disk; how many bytes it has.
///
/// `label` names the run and the step. It is part of the draft's name, so that
/// a draft left by a crash can be told, and is removed when the step is
/// repeated.
pub(super) fn publish(
    target: &TargetFile,
    label: &str,
    work: &Work,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
) -> Result<u64, TableError> {
    let failed = |error| TableError::io(format!("writing `{}`", target.shown), error);
    let prefix = prepare(target, label)?;
    let whole = target.whole();
    check_no_database(target)?;
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(&target.folder)
        .map_err(failed)?;
    write_whole(&mut temporary.as_file(), &target.shown, fill)?;
    fault::reach(fault::DRAFT_WRITTEN);

    // A file that is replaced keeps who may read it.
    if let Ok(old) = fs::metadata(&whole) {
        let kept = temporary.as_file().set_permissions(old.permissions());
        kept.map_err(failed)?;
    }
    temporary.as_file().sync_all().map_err(failed)?;
    let bytes = temporary.as_file().metadata().map_err(failed)?.len();
    work.check()?;
    fault::reach(fault::BEFORE_RENAME);
    temporary
        .persist(&whole)
        .map_err(|error| failed(error.error))?;
    fault::reach(fault::AFTER_RENAME);
    sync_folder(&target.folder).map_err(failed)?;
    Ok(bytes)
}

/// Makes the folder of `target`, and takes away what an attempt before has left
/// there; how names of drafts start.
pub(super) fn prepare(target: &TargetFile, label: &str) -> Result<String, TableError> {
    let failed = |error| TableError::io(format!("writing `{}`", target.shown), error);
    create_folder(&target.folder).map_err(failed)?;
    if fs::canonicalize(&target.folder).map_err(failed)? != target.folder {
        let message = format!("`{}` cannot be used: its folder has moved", target.shown);
        return Err(TableError::refused("file_refused", message));
    }
    let prefix = format!(".millstream-{label}-");
    remove_drafts(&target.folder, &prefix).map_err(failed)?;
    Ok(prefix)
}

/// How the file of a SQLite database begins.
const SQLITE_START: &[u8; 16] = b"SQLite format 3\0";

/// What the files beside it are called, in which it keeps what is on its way.
const SQLITE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Checks that no database is lost: none is ever written as a table.
fn check_no_database(target: &TargetFile) -> Result<(), TableError> {
    let whole = target.whole();
    let name = whole.to_string_lossy();
    let base = SQLITE_FILES
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
    for file in [Some(&*name), base].into_iter().flatten() {
        let mut start = [0; SQLITE_START.len()];
        let read = File::open(file).and_then(|mut file| file.read_exact(&mut start));
        if read.is_ok() && start == *SQLITE_START {
            let message = format!(
                "`{}` cannot be written: it is a SQLite database, or belongs to one",
                target.shown
            );
            return Err(TableError::refused("file_refused", message));
        }
    }
    Ok(())
}

/// Writes what `fill` writes into `file`, which errors call `shown`.
pub(super) fn write_whole(
    file: &mut (dyn Write + Send),
    shown: &str,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let failed = |error| TableError::io(format!("writing `{shown}`"), error);
    let mut draft = Draft {
        file: BufWriter::with_capacity(BUFFER_BYTES, file),
        failed: None,
    };
    let filled = fill(&mut draft);
    let flushed = draft.flush();
    match draft.failed.take() {
        Some(error) => return Err(failed(error)),
        None => filled?,
    }
    flushed.map_err(failed)
}

/// Creates `folder` and those above it, so that they outlive a power cut.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else {
        return Ok(());
    };
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(above),
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_drafts(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let removed = match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::tables::{Files, tests::budget};

    fn work() -> Work {
        Work {
            budget: budget(1 << 20),
            cancelled: CancellationToken::new(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        entries.map(name).collect()
    }

    fn target(folder: &Path, path: &str) -> TargetFile {
        Files::new(&[folder.to_owned()])
            .unwrap()
            .target(path)
            .unwrap()
    }

    #[test]
    fn a_file_appears_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), "a/b/x.csv");
        let fill = |draft: &mut Draft<'_>| {
            draft.write_all(b"hello").unwrap();
            Ok(())
        };
        assert_eq!(publish(&target, "run-step", &work(), fill).unwrap(), 5);
        let written = folder.path().join("a/b/x.csv");
        assert_eq!(fs::read(&written).unwrap(), b"hello");
        assert_eq!(names(&folder.path().join("a/b")), ["x.csv"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.csv"), "old").unwrap();
        let target = target(folder.path(), "x.csv");

        let failing = publish(&target, "run-step", &work(), |draft| {
            draft.write_all(b"new").unwrap();
            Err(TableError::refused("x", "does not work"))
        });
        assert_eq!(failing.unwrap_err().to_string(), "does not work");

        let work = work();
        let cancelled = publish(&target, "run-step", &work, |draft| {
            draft.write_all(b"new").unwrap();
            work.cancelled.cancel();
            Ok(())
        });
        assert!(matches!(cancelled.unwrap_err(), TableError::Cancelled));

        assert_eq!(fs::read(folder.path().join("x.csv")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["x.csv"]);
    }

    #[test]
    fn no_database_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("shop.db"),
            b"SQLite format 3\0 and so on",
        )
        .unwrap();
        std::os::unix::fs::symlink("shop.db", folder.path().join("link.csv")).unwrap();
        for name in ["shop.db", "shop.db-wal", "shop.db-journal", "link.csv"] {
            let target = target(folder.path(), name);
            let error = publish(&target, "run-step", &work(), |_| Ok(())).unwrap_err();
            assert_eq!(error.code(), "file_refused");
            assert!(
                error
                    .to_string()
                    .contains(&format!("`{name}` cannot be written")),
                "{error}"
            );
        }
        let other = target(folder.path(), "other-wal");
        publish(&other, "run-step", &work(), |_| Ok(())).unwrap();
    }

    #[test]
    fn a_repeated_write_removes_the_draft_that_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".millstream-run-step-AbC.tmp"), "half").unwrap();
        fs::write(folder.path().join(".millstream-other-step-AbC.tmp"), "half").unwrap();
        let target = target(folder.path(), "x.csv");
        publish(&target, "run-step", &work(), |_| Ok(())).unwrap();
        let mut names = names(folder.path());
        names.sort();
        assert_eq!(names, [".millstream-other-step-AbC.tmp", "x.csv"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        publish(&target(folder.path(), "x.csv"), "run-step", &work(), |_| {
            Ok(())
        })
        .unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
