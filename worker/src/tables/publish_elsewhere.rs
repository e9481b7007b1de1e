//! Files that appear whole or not at all, also where they do not lie on this
//! machine.

use super::{
    Files, TableError,
    publish::{Draft, publish, write_whole},
    publish_folder::Kind,
    read::Work,
};
use crate::stores::{Location, Objects, Upload};

/// Writes what `fill` writes into the file at `location`, which is replaced in
/// one moment; how many bytes it has.
pub(super) fn publish_at(
    files: &Files,
    location: &Location,
    label: &str,
    work: &Work,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
) -> Result<u64, TableError> {
    match location {
        Location::Local(path) => publish(&files.target(path)?, label, work, fill),
        Location::Objects(objects) => {
            let upload = objects.upload()?;
            let upload = filled(upload, &objects.shown(), fill)?;
            work.check()?;
            Ok(upload.appear()?)
        }
        Location::Web(web) => Err(not_written(&web.shown())),
    }
}

/// Nobody knows how to write a file there.
pub(super) fn not_written(path: &str) -> TableError {
    let message = format!("`{path}` cannot be used: files are only read over HTTP, not written");
    TableError::refused("file_refused", message)
}

/// Objects below one name that are written together.
pub(super) struct Drafts<'a> {
    objects: &'a Objects,
    names: Vec<String>,
    uploads: Vec<Upload>,
}

impl Drafts<'_> {
    /// Sends what `fill` writes as the object of this name, which does not
    /// appear yet; how many bytes it has.
    pub(super) fn put(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
    ) -> Result<u64, TableError> {
        let upload = self.objects.upload_below(name)?;
        let mut upload = filled(upload, name, fill)?;
        upload.send_all()?;
        self.names.push(name.to_owned());
        self.uploads.push(upload);
        // How many there are is told when they appear.
        Ok(0)
    }
}

/// Replaces the objects below a name by those that `fill` makes, if `is_ours`
/// knows each part of the names that are there, by how many stand before it; how many bytes they have.
///
/// All are sent before the first one appears. Then they appear one after the
/// other, and at last those go that were there before and have no successor. A
/// crash in between leaves some of each, and the repeat of the step ends it.
pub(super) fn publish_objects<T>(
    objects: &Objects,
    work: &Work,
    is_ours: impl Fn(usize, &str, Kind) -> bool,
    fill: impl FnOnce(&mut Drafts<'_>) -> Result<T, TableError>,
) -> Result<(T, u64), TableError> {
    let objects = objects.as_prefix();
    let there = || -> Result<Vec<String>, TableError> {
        let names = objects.names_below()?;
        let foreign = names.iter().find(|name| {
            let parts: Vec<&str> = name.split('/').collect();
            let last = parts.len() - 1;
            let kind = |depth| {
                if depth == last {
                    Kind::File
                } else {
                    Kind::Folder
                }
            };
            let mut parts = parts.iter().enumerate();
            !parts.all(|(depth, part)| is_ours(depth, part, kind(depth)))
        });
        match foreign {
            None => Ok(names),
            Some(name) => {
                let shown = objects.shown();
                let message = format!(
                    "`{shown}` cannot be replaced: it holds `{name}`, which is no part of what is written there"
                );
                Err(TableError::refused("file_refused", message))
            }
        }
    };
    there()?;
    let mut drafts = Drafts {
        objects: &objects,
        names: Vec::new(),
        uploads: Vec::new(),
    };
    let filled = fill(&mut drafts)?;
    let Drafts { names, uploads, .. } = drafts;
    work.check()?;
    // Somebody may have put something there while they were sent.
    let mut stale = there()?;
    let bytes = Upload::appear_all(uploads)?;
    let fresh: std::collections::HashSet<String> = names.into_iter().collect();
    stale.retain(|name| !fresh.contains(name));
    objects.remove_below(&stale)?;
    Ok((filled, bytes))
}

fn filled(
    mut upload: Upload,
    shown: &str,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), TableError>,
) -> Result<Upload, TableError> {
    let written = write_whole(&mut upload, shown, fill);
    match upload.failure() {
        Some(error) => Err(error.into()),
        None => written.map(|()| upload),
    }
}
