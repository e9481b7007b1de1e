//! Folders that appear whole or not at all.
//!
//! A folder is made beside its place, under a hidden name, and put there by
//! one exchange of names: whoever lists it sees the old one or the new one.
//! A file system that cannot exchange names gets two renames instead. A crash
//! between them leaves nothing in the place and the old folder under a hidden
//! name, which the repeat of the step puts back before it starts.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{
    TableError,
    files::TargetFile,
    publish::{Draft, prepare, sync_folder, write_whole},
    read::Work,
};
use crate::fault;

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    /// A link, a pipe and the like.
    Other,
}

/// Makes the folder `target` of what `fill` puts into the empty folder that it
/// is given, and replaces what was there if `is_ours` knows each entry of it, by
/// how many folders it lies in below `target`.
pub(super) fn publish_folder<T>(
    target: &TargetFile,
    label: &str,
    work: &Work,
    is_ours: impl Fn(usize, &str, Kind) -> bool,
    fill: impl FnOnce(&Path) -> Result<T, TableError>,
) -> Result<T, TableError> {
    let failed = |error| TableError::io(format!("writing `{}`", target.shown), error);
    let prefix = prepare(target, label)?;
    let place = target.whole();
    let old = target.folder.join(format!(".millstream-{label}.old"));
    repair(&place, &old).map_err(failed)?;
    check_ours(target, &is_ours)?;

    let draft = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(&target.folder)
        .map_err(failed)?;
    let filled = fill(draft.path())?;
    fault::reach(fault::DRAFT_WRITTEN);
    sync_all(draft.path()).map_err(failed)?;
    work.check()?;
    // Somebody may have put something there while it was filled.
    check_ours(target, &is_ours)?;
    fault::reach(fault::BEFORE_RENAME);
    replace(draft.path(), &place, &old, exchange).map_err(failed)?;
    fault::reach(fault::AFTER_RENAME);
    sync_folder(&target.folder).map_err(failed)?;
    // What was there before lies now where the draft was, and goes with it.
    drop(draft);
    if old.exists() {
        fs::remove_dir_all(&old).map_err(failed)?;
    }
    Ok(filled)
}

/// Writes what `fill` writes into the file `name` within `folder`; how many
/// bytes it has.
pub(super) fn put(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
) -> Result<u64, TableError> {
    let failed = |error| TableError::io(format!("writing `{name}`"), error);
    let place = folder.join(name);
    if let Some(above) = place.parent() {
        fs::create_dir_all(above).map_err(failed)?;
    }
    let mut file = File::create(place).map_err(failed)?;
    write_whole(&mut file, name, fill)?;
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// Puts `draft` into `place`. What was there is at `draft` then, or at `old`.
fn replace(
    draft: &Path,
    place: &Path,
    old: &Path,
    exchange: impl Fn(&Path, &Path) -> io::Result<bool>,
) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(draft, place);
    }
    if !exchange(draft, place)? {
        fs::rename(place, old)?;
        fault::reach(fault::MID_SWAP);
        fs::rename(draft, place)?;
    }
    Ok(())
}

/// Puts back what an attempt before had taken away when it ended.
fn repair(place: &Path, old: &Path) -> io::Result<()> {
    match (old.exists(), place.exists()) {
        (false, _) => Ok(()),
        (true, false) => fs::rename(old, place),
        (true, true) => fs::remove_dir_all(old),
    }
}

/// Checks that nothing else is lost when the folder is replaced.
fn check_ours(
    target: &TargetFile,
    is_ours: impl Fn(usize, &str, Kind) -> bool,
) -> Result<(), TableError> {
    let failed = |error| TableError::io(format!("reading `{}`", target.shown), error);
    let whole = target.whole();
    let mut folders = vec![(0, whole.clone())];
    while let Some((depth, folder)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let file_type = entry.file_type().map_err(failed)?;
            let kind = match (file_type.is_dir(), file_type.is_file()) {
                (true, _) => Kind::Folder,
                (_, true) => Kind::File,
                _ => Kind::Other,
            };
            let path = entry.path();
            if !is_ours(depth, &entry.file_name().to_string_lossy(), kind) {
                let name = path.strip_prefix(&whole).unwrap_or(&path).display();
                let message = format!(
                    "`{}` cannot be replaced: it holds `{name}`, which is no part of what is written there",
                    target.shown
                );
                return Err(TableError::refused("file_refused", message));
            }
            if kind == Kind::Folder {
                folders.push((depth + 1, path));
            }
        }
    }
    Ok(())
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Exchanges the names of two folders in one moment; false where the file
/// system cannot.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    use nix::{
        errno::Errno,
        fcntl::{AT_FDCWD, RenameFlags, renameat2},
    };
    if fault::is_set(fault::MID_SWAP) {
        return Ok(false);
    }
    let flags = RenameFlags::RENAME_EXCHANGE;
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP | Errno::EXDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    /// A folder with a folder of each of these names, which holds a file that
    /// is called like it.
    fn folders(names: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &&str| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(name), name).unwrap();
            folder
        };
        let paths = names.iter().map(folder).collect();
        (root, paths)
    }

    #[test]
    fn a_file_system_without_exchange_gets_two_renames() {
        let (root, paths) = folders(&["new", "place"]);
        let old = root.path().join("old");
        replace(&paths[0], &paths[1], &old, |_, _| Ok(false)).unwrap();
        assert!(paths[1].join("new").exists());
        assert!(old.join("place").exists());
        assert!(!paths[0].exists());
    }

    #[test]
    fn a_crash_between_two_renames_is_mended() {
        let (root, paths) = folders(&["old"]);
        let place = root.path().join("place");
        repair(&place, &paths[0]).unwrap();
        assert!(place.join("old").exists() && !paths[0].exists());

        let (_root, paths) = folders(&["old", "place"]);
        repair(&paths[1], &paths[0]).unwrap();
        assert!(paths[1].join("place").exists() && !paths[0].exists());
    }

    #[test]
    fn the_place_is_never_empty_while_it_is_replaced() {
        let (root, paths) = folders(&["one", "place"]);
        let old = root.path().join("old");
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert!(paths[1].is_dir(), "there was nothing in the place");
                }
            });
            for _ in 0..500 {
                replace(&paths[0], &paths[1], &old, exchange).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
            looking.join().unwrap();
        });
        assert!(!old.exists(), "the names were not exchanged");
    }
}
