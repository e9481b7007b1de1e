//! The local folders that steps may touch, and nothing outside of them.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Component, Path, PathBuf},
};

use millstream_shared::flow::{
    place,
    step::{Compression, Encoding},
};
use nix::errno::Errno;

use super::{
    TableError,
    compression::{Unreadable, decompressed},
    encoding::decoded,
};
use crate::stores::{Reading, RemoteFile, StoreError};

/// The most files that one step may read.
pub(super) const FILES_MAX: usize = 10_000;

/// The local folders that steps may touch.
///
/// A path in a flow is relative to the first of them, or absolute and within
/// one of them. It is judged by where it really leads: no `..` and no symbolic
/// link leaves the folders.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Without symbolic links, so that real paths can be compared with them.
    folders: Vec<PathBuf>,
}

/// A file to read, which exists and lies within the folders.
pub(super) struct SourceFile {
    place: FilePlace,
    /// Its name in errors: relative to the first folder where it lies there, or
    /// its address.
    pub(super) shown: String,
    /// Its path within the folder that steps may touch.
    pub(super) inside: String,
    pub(super) bytes: u64,
}

enum FilePlace {
    Local(PathBuf),
    Elsewhere(RemoteFile),
}

/// The text of a file, whatever it is compressed with.
pub(super) type Input = BufReader<Box<dyn Read>>;

/// A file to write, which may exist; its folder may still be missing.
pub(super) struct TargetFile {
    /// Its folder, free of symbolic links as far as it exists.
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
    pub(super) shown: String,
}

impl Files {
    /// Allows `folders`, which must exist; an empty name is none.
    pub(crate) fn new(folders: &[PathBuf]) -> Result<Self, TableError> {
        let real = |folder: &PathBuf| {
            let real = fs::canonicalize(folder);
            match real {
                Ok(real) if real.is_dir() => Ok(real),
                Ok(_) => Err("it is not a folder".to_owned()),
                Err(error) => Err(error.to_string()),
            }
            .map_err(|reason| {
                let folder = folder.display();
                TableError::refused(
                    "bad_folder",
                    format!("MILLSTREAM_FILES names `{folder}`, which cannot be used: {reason}"),
                )
            })
        };
        let given = folders
            .iter()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folders = given.map(real).collect::<Result<_, _>>()?;
        Ok(Self { folders })
    }

    /// The files that `pattern` matches, in the order of their names; at
    /// least one.
    pub(super) fn matching(&self, pattern: &str) -> Result<Vec<SourceFile>, TableError> {
        let is_wild = |part: &&str| place::is_pattern(part);
        let literal = !is_wild(&pattern) || self.resolve(pattern)?.is_file();
        if literal {
            return Ok(vec![self.source(self.resolve(pattern)?, pattern)?]);
        }
        let parts: Vec<&str> = pattern.split('/').collect();
        let fixed = parts.iter().take_while(|part| !is_wild(part)).count();
        let (base, wild) = parts.split_at(fixed);
        if wild.contains(&"..") {
            return Err(outside(pattern, "`..` may not stand behind a wildcard"));
        }
        let base = match base {
            [""] => "/".to_owned(),
            base => base.join("/"),
        };
        let base = self.resolve(if base.is_empty() { "." } else { &base })?;
        self.found(pattern, &base, &wild.join("/"))
    }

    fn found(&self, pattern: &str, base: &Path, wild: &str) -> Result<Vec<SourceFile>, TableError> {
        let whole = format!("{}/{wild}", glob::Pattern::escape(&base.to_string_lossy()));
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let paths = glob::glob_with(&whole, options).map_err(|error| {
            let message = format!("`{pattern}` is not a pattern: {}", error.msg);
            TableError::refused("bad_pattern", message)
        })?;
        let mut found = Vec::new();
        for path in paths {
            let path = match path {
                Ok(path) if leads_nowhere(&path) => continue,
                Err(error) if leads_nowhere(error.path()) => continue,
                path => path.map_err(|error| failed(pattern, "listing", error.into()))?,
            };
            let path = self.within(&path, pattern)?;
            if path.is_file() {
                found.push(path);
            }
            if found.len() > FILES_MAX {
                let message = format!("`{pattern}` matches more than {FILES_MAX} files");
                return Err(TableError::refused("too_many_files", message));
            }
        }
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(TableError::refused(
                "file_not_found",
                format!("no file matches `{pattern}` in {}", self.listed()),
            ));
        }
        let source = |path: PathBuf| {
            let shown = self.shown(&path);
            self.source(path, &shown)
        };
        found.into_iter().map(source).collect()
    }

    /// Where the one file at `path` is, and how many bytes it has.
    pub(crate) fn one(&self, path: &str) -> Result<(PathBuf, u64), TableError> {
        let found = self.resolve(path)?;
        let bytes = self.source(found.clone(), path)?.bytes;
        Ok((found, bytes))
    }

    /// Whether the file `path` may be written.
    pub(crate) fn check_target(&self, path: &str) -> Result<(), TableError> {
        self.target(path).map(drop)
    }

    /// Where the file `path` is to be written.
    pub(super) fn target(&self, path: &str) -> Result<TargetFile, TableError> {
        let target = self.target_of_any_kind(path)?;
        if target.whole().is_dir() {
            return Err(outside(path, "it is a folder"));
        }
        Ok(target)
    }

    /// Where the folder `path` is to be written.
    pub(super) fn target_folder(&self, path: &str) -> Result<TargetFile, TableError> {
        let target = self.target_of_any_kind(path.trim_end_matches('/'))?;
        if target.whole().is_file() {
            return Err(outside(path, "it is a file, and a folder is to be written"));
        }
        Ok(target)
    }

    fn target_of_any_kind(&self, path: &str) -> Result<TargetFile, TableError> {
        let clean = self.clean(path)?;
        let last = path.rsplit('/').next().unwrap_or_default();
        let (Some(folder), Some(name), false) = (
            clean.parent(),
            clean.file_name(),
            ["", ".", ".."].contains(&last),
        ) else {
            return Err(outside(path, "it does not name a file"));
        };
        let folder = self.within_as_far_as_it_exists(folder, path)?;
        Ok(TargetFile {
            name: name.to_owned(),
            shown: self.shown(&folder.join(name)),
            folder,
        })
    }

    /// Where the file of a database is or is to be made.
    pub(crate) fn database(&self, path: &str) -> Result<PathBuf, TableError> {
        let target = self.target(path)?;
        let file = target.folder.join(target.name);
        // A link could lead out.
        self.within_as_far_as_it_exists(&file, path)
    }

    /// `path` without symbolic links as far as it exists, within the folders.
    fn resolve(&self, path: &str) -> Result<PathBuf, TableError> {
        self.within_as_far_as_it_exists(&self.clean(path)?, path)
    }

    /// `path` as an absolute one without `.` and `..`.
    fn clean(&self, path: &str) -> Result<PathBuf, TableError> {
        let Some(first) = self.folders.first() else {
            return Err(outside(
                path,
                "this worker may not touch local files, since MILLSTREAM_FILES names no folder",
            ));
        };
        if path.is_empty() || path.contains('\0') {
            return Err(outside(path, "it does not name a file"));
        }
        let mut clean = PathBuf::new();
        for component in first.join(path).components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    clean.pop();
                }
                component => clean.push(component),
            }
        }
        Ok(clean)
    }

    fn within_as_far_as_it_exists(&self, path: &Path, given: &str) -> Result<PathBuf, TableError> {
        let mut existing = path.to_path_buf();
        let mut missing = Vec::new();
        let mut real = loop {
            match fs::canonicalize(&existing) {
                Ok(real) => break real,
                // A link that leads nowhere may lead out once there is something.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !existing.is_symlink() => {
                    missing.extend(existing.file_name().map(OsString::from));
                    if !existing.pop() {
                        return Err(failed(given, "finding", error));
                    }
                }
                Err(error) => return Err(self.hidden(&existing, given, error)),
            }
        };
        self.check_within(&real, given)?;
        real.extend(missing.into_iter().rev());
        Ok(real)
    }

    /// An error of the file system, unless it would tell something about what
    /// lies outside of the folders.
    fn hidden(&self, path: &Path, given: &str, error: io::Error) -> TableError {
        match self.check_within(path, given) {
            Ok(()) => failed(given, "finding", error),
            Err(outside) => outside,
        }
    }

    fn within(&self, path: &Path, given: &str) -> Result<PathBuf, TableError> {
        let real = fs::canonicalize(path).map_err(|error| failed(given, "finding", error))?;
        self.check_within(&real, given)?;
        Ok(real)
    }

    fn check_within(&self, real: &Path, given: &str) -> Result<(), TableError> {
        if self.folders.iter().any(|folder| real.starts_with(folder)) {
            return Ok(());
        }
        let folders = self.listed();
        Err(outside(
            given,
            &format!(
                "it leads out of the folders that steps may touch: {folders} (MILLSTREAM_FILES)"
            ),
        ))
    }

    fn source(&self, path: PathBuf, shown: &str) -> Result<SourceFile, TableError> {
        let facts = fs::metadata(&path).map_err(|error| failed(shown, "reading", error))?;
        if !facts.is_file() {
            return Err(TableError::refused(
                "not_a_file",
                format!("`{shown}` is not a file"),
            ));
        }
        let inside = |folder: &PathBuf| path.strip_prefix(folder).ok();
        let inside = self.folders.iter().find_map(inside).unwrap_or(&path);
        Ok(SourceFile {
            inside: inside.to_string_lossy().into_owned(),
            place: FilePlace::Local(path),
            shown: shown.to_owned(),
            bytes: facts.len(),
        })
    }

    fn shown(&self, path: &Path) -> String {
        let relative = self
            .folders
            .first()
            .and_then(|first| path.strip_prefix(first).ok());
        relative.unwrap_or(path).to_string_lossy().into_owned()
    }

    fn listed(&self) -> String {
        let folders = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string());
        folders.collect::<Vec<_>>().join(", ")
    }
}

impl TargetFile {
    /// Its path, free of symbolic links as far as its folder exists.
    pub(super) fn whole(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

impl SourceFile {
    const BUFFER_BYTES: usize = 256 << 10;

    /// A file at a place that no flow names.
    pub(super) fn at(path: &Path, shown: &str, bytes: u64) -> Self {
        Self {
            place: FilePlace::Local(path.to_owned()),
            shown: shown.to_owned(),
            inside: String::new(),
            bytes,
        }
    }

    /// Opens it for reading text, which comes as UTF-8: it is decompressed
    /// where its ending says so, and a byte order mark is skipped.
    /// The second is how many bytes of it are skipped.
    pub(super) fn open(&self, encoding: Encoding) -> Result<(Input, u64), TableError> {
        let file = self.open_stream()?;
        let bytes: Box<dyn Read> = match self.compression() {
            None => file,
            Some(compression) => {
                let opened = decompressed(file, self.bytes, compression);
                opened.map_err(|error| self.failed("reading", error))?
            }
        };
        let bytes = decoded(bytes, encoding);
        let bytes = bytes.map_err(|error| self.failed("reading", error))?;
        let mut input = BufReader::with_capacity(Self::BUFFER_BYTES, bytes);
        let start = input
            .fill_buf()
            .map_err(|error| self.failed("reading", error))?;
        if start.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
            return Ok((input, 3));
        }
        Ok((input, 0))
    }

    /// Whether it is the file that `target` would replace, or that a link in
    /// its place leads to.
    pub(super) fn is_at(&self, target: &TargetFile) -> bool {
        let FilePlace::Local(path) = &self.place else {
            return false;
        };
        let place = target.whole();
        *path == place || fs::canonicalize(place).is_ok_and(|real| *path == real)
    }

    /// How it is made smaller as a whole.
    pub(super) fn compression(&self) -> Option<Compression> {
        Compression::of_path(&self.shown)
    }

    /// Opens it for reading anywhere in it. All of a file that lies elsewhere is
    /// fetched for that.
    pub(super) fn open_plain(&self) -> Result<File, TableError> {
        let opened = match &self.place {
            FilePlace::Local(path) => File::open(path),
            FilePlace::Elsewhere(file) => file.whole(),
        };
        opened.map_err(|error| self.failed("opening", error))
    }

    /// Opens it for reading from its start to its end.
    fn open_stream(&self) -> Result<Box<dyn Read>, TableError> {
        let opened = match &self.place {
            FilePlace::Local(path) => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
            FilePlace::Elsewhere(file) => file.stream(),
        };
        opened.map_err(|error| self.failed("opening", error))
    }

    /// What it takes to read pieces of it over the network; none where it is
    /// here.
    pub(super) fn pieces(&self) -> Option<Reading> {
        match &self.place {
            FilePlace::Local(_) => None,
            FilePlace::Elsewhere(file) => file.pieces(),
        }
    }

    /// Why it could not be read, where that was not its own fault.
    fn failure(&self) -> Option<TableError> {
        match &self.place {
            FilePlace::Local(_) => None,
            FilePlace::Elsewhere(file) => file.failure().map(TableError::from),
        }
    }

    /// It is not what its ending or its flow says.
    pub(super) fn unreadable(&self, name: &str, error: &dyn fmt::Display) -> TableError {
        self.failure()
            .unwrap_or_else(|| unreadable(&self.shown, name, error))
    }

    pub(super) fn failed(&self, doing: &str, error: io::Error) -> TableError {
        self.failure()
            .unwrap_or_else(|| failed(&self.shown, doing, error))
    }
}

impl From<RemoteFile> for SourceFile {
    fn from(file: RemoteFile) -> Self {
        Self {
            shown: file.shown.clone(),
            inside: file.inside.clone(),
            bytes: file.bytes,
            place: FilePlace::Elsewhere(file),
        }
    }
}

/// Whether there is a symbolic link that leads to itself, or to what is not
/// there: it is none of the files that a pattern matches.
fn leads_nowhere(path: &Path) -> bool {
    path.is_symlink()
        && fs::metadata(path).is_err_and(|error| {
            let is_loop = error.raw_os_error() == Some(Errno::ELOOP as i32);
            is_loop || error.kind() == io::ErrorKind::NotFound
        })
}

/// What is called `shown` is no file of the format `name`.
pub(super) fn unreadable(shown: &str, name: &str, error: &dyn fmt::Display) -> TableError {
    // Some libraries tell what is wrong in several lines.
    let error = error.to_string();
    let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = format!("{shown} is not a readable {name} file: {error}");
    TableError::refused("bad_file", message)
}

fn failed(path: &str, doing: &str, error: io::Error) -> TableError {
    let cause = error.get_ref();
    if let Some(cause) = cause.and_then(|cause| cause.downcast_ref::<Unreadable>()) {
        return TableError::refused("bad_file", format!("{path}: {cause}"));
    }
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<StoreError>()) {
        return error.clone().into();
    }
    TableError::io(format!("{doing} `{path}`"), error)
}

fn outside(path: &str, reason: &str) -> TableError {
    TableError::refused("file_refused", format!("`{path}` cannot be used: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder `data` that steps may touch, beside a folder `secret`.
    struct Place {
        root: tempfile::TempDir,
        files: Files,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for folder in ["data/in/deep", "secret"] {
                fs::create_dir_all(root.path().join(folder)).unwrap();
            }
            for file in [
                "data/b.csv",
                "data/a.csv",
                "data/in/deep/c.csv",
                "data/.hidden.csv",
                "secret/s.csv",
            ] {
                fs::write(root.path().join(file), "x\n1\n").unwrap();
            }
            let files = Files::new(&[root.path().join("data")]).unwrap();
            Self { root, files }
        }

        fn link(&self, to: &str, from: &str) {
            symlink(self.root.path().join(to), self.root.path().join(from)).unwrap();
        }

        fn names(&self, pattern: &str) -> Vec<String> {
            let files = self.files.matching(pattern).unwrap();
            files.into_iter().map(|file| file.shown).collect()
        }

        fn refusal(&self, path: &str) -> String {
            let read = self.files.matching(path).err().unwrap();
            let write = self.files.target(path).err().map(|error| error.to_string());
            if let Some(write) = write {
                assert_eq!(read.to_string(), write);
            }
            read.to_string()
        }
    }

    #[test]
    fn a_pattern_names_files_in_order() {
        let place = Place::new();
        assert_eq!(place.names("*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(place.names("**/*.csv"), ["a.csv", "b.csv", "in/deep/c.csv"]);
        assert_eq!(place.names("[b-z].csv"), ["b.csv"]);
        assert_eq!(place.names("in/*/?.csv"), ["in/deep/c.csv"]);
        assert_eq!(place.names("in/../a.csv"), ["in/../a.csv"]);
        let absolute = place.root.path().join("data/*.csv");
        assert_eq!(place.names(absolute.to_str().unwrap()), ["a.csv", "b.csv"]);
    }

    #[test]
    fn a_file_whose_name_looks_like_a_pattern_can_be_read() {
        let place = Place::new();
        fs::write(place.root.path().join("data/[a].csv"), "x\n").unwrap();
        assert_eq!(place.names("[a].csv"), ["[a].csv"]);
    }

    #[test]
    fn a_pattern_without_a_match_is_named() {
        let place = Place::new();
        let error = place.files.matching("2026/*.csv").err().unwrap();
        assert_eq!(error.code(), "file_not_found");
        assert!(error.to_string().contains("`2026/*.csv`"), "{error}");
        let error = place.files.matching("none.csv").err().unwrap();
        assert_eq!(error.code(), "file_not_found");
        assert!(!error.is_retriable());
        assert!(error.to_string().contains("`none.csv`"), "{error}");
    }

    #[test]
    fn nothing_outside_of_the_folders_can_be_named() {
        let place = Place::new();
        for path in [
            "../secret/s.csv",
            "/etc/passwd",
            "in/../../secret/s.csv",
            "../secret/none.csv",
            "/no/such/file",
        ] {
            let message = place.refusal(path);
            assert!(message.contains("leads out of the folders"), "{message}");
            assert!(message.contains("/data (MILLSTREAM_FILES)"), "{message}");
        }
        assert!(place.refusal("../secret/*.csv").contains("leads out"));
        assert!(place.files.matching("*/../../secret/s.csv").is_err());
    }

    #[test]
    fn no_symbolic_link_leads_out() {
        let place = Place::new();
        place.link("secret", "data/folder");
        place.link("secret/s.csv", "data/s.csv");
        place.link("secret/later", "data/later");
        assert!(place.refusal("folder/s.csv").contains("leads out"));
        assert!(place.refusal("folder/new.csv").contains("leads out"));
        assert!(place.files.matching("s.csv").is_err());
        assert!(place.files.matching("folder/*.csv").is_err());
        assert!(place.files.matching("*.csv").is_err());
        assert!(place.files.target("later/new.csv").is_err());
    }

    #[test]
    fn a_symbolic_link_that_leads_nowhere_is_none_of_many_files() {
        let place = Place::new();
        place.link("data/loop.csv", "data/loop.csv");
        place.link("data/in", "data/in/above");
        place.link("data/turn", "data/turn");
        place.link("data/gone.csv", "data/link.csv");
        assert!(
            place
                .names("**/*.csv")
                .starts_with(&["a.csv".into(), "b.csv".into()])
        );
        assert_eq!(place.names("*.csv"), ["a.csv", "b.csv"]);
        let error = place.files.matching("loop.csv").err().unwrap();
        assert!(error.to_string().contains("`loop.csv`"), "{error}");
    }

    #[test]
    fn a_symbolic_link_within_the_folders_is_followed() {
        let place = Place::new();
        place.link("data/in", "data/link");
        assert_eq!(place.names("link/deep/*.csv"), ["in/deep/c.csv"]);
        let target = place.files.target("link/new/x.csv").unwrap();
        assert_eq!(target.shown, "in/new/x.csv");
    }

    #[test]
    fn a_target_must_name_a_file() {
        let place = Place::new();
        for path in ["", ".", "in", "in/", "in/..", "/"] {
            assert!(place.files.target(path).is_err(), "{path}");
        }
        assert_eq!(place.files.target("new/x.csv").unwrap().shown, "new/x.csv");
    }

    #[test]
    fn without_folders_nothing_can_be_touched() {
        let files = Files::new(&["".into()]).unwrap();
        let error = files.matching("a.csv").err().unwrap();
        assert!(error.to_string().contains("MILLSTREAM_FILES"), "{error}");
        let error = Files::new(&["/no/such/folder".into()]).unwrap_err();
        assert!(error.to_string().contains("`/no/such/folder`"), "{error}");
    }
}
