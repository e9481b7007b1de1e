//! Folders that appear whole or not at all.
//!
//! A folder is made beside its place, under a hidden name, and put there by
//! one exchange of names: whoever lists it sees the old one or the new one.
//! A file system that cannot exchange names gets two renames instead. A crash
//! between them leaves nothing in the place and the old folder under a hidden
//! name, which the repeat of the step puts back before it starts.

use std::{fs, fs::Permissions, io, os::unix::fs::PermissionsExt, path::Path};

use super::{
    TableError,
    files::TargetFile,
    publish::{prepare, sync_folder},
    read::Work,
};

/// Makes the folder `target` of what `fill` puts into the empty folder that it
/// is given, and replaces what was there if `is_ours` knows each entry of it.
pub(super) fn publish_folder<T>(
    target: &TargetFile,
    label: &str,
    work: &Work,
    is_ours: impl Fn(&str, bool) -> bool,
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
    sync_all(draft.path()).map_err(failed)?;
    work.check()?;
    // Somebody may have put something there while it was filled.
    check_ours(target, &is_ours)?;
    if !place.exists() {
        fs::rename(draft.path(), &place).map_err(failed)?;
    } else if !exchange(draft.path(), &place).map_err(failed)? {
        fs::rename(&place, &old).map_err(failed)?;
        fs::rename(draft.path(), &place).map_err(failed)?;
    }
    sync_folder(&target.folder).map_err(failed)?;
    // What was there before lies now where the draft was, and goes with it.
    drop(draft);
    if old.exists() {
        fs::remove_dir_all(&old).map_err(failed)?;
    }
    Ok(filled)
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
fn check_ours(target: &TargetFile, is_ours: impl Fn(&str, bool) -> bool) -> Result<(), TableError> {
    let failed = |error| TableError::io(format!("reading `{}`", target.shown), error);
    let entries = match fs::read_dir(target.whole()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !is_ours(&name, is_folder) {
            let message = format!(
                "`{}` cannot be replaced: it holds `{name}`, which is no part of what is written there",
                target.shown
            );
            return Err(TableError::refused("file_refused", message));
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
