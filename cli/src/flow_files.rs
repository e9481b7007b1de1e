//! Flows in files: finding them, reading them, and telling what is wrong.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use millstream_shared::flow::{Flow, Problem};

use crate::failure::Failure;

/// A file that holds a valid flow.
#[derive(Debug)]
pub(crate) struct FlowFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) flow: Flow,
}

/// The valid flows in `paths`, which are files, or folders whose `.yaml`,
/// `.yml` and `.json` files are meant, and how many files are not valid. What
/// is wrong with those is told on standard error.
///
/// # Errors
/// Fails where a path cannot be read, where there is no file, and where two
/// files hold the same flow.
pub(crate) fn read(paths: &[PathBuf]) -> Result<(Vec<FlowFile>, usize), Failure> {
    let mut valid = Vec::new();
    let mut invalid = 0;
    for path in listed(paths)? {
        let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        match Flow::parse(&text) {
            Ok(flow) => valid.push(FlowFile { path, text, flow }),
            Err(wrong) => {
                invalid += 1;
                tell(&path, &wrong.problems);
            }
        }
    }
    let mut seen = BTreeMap::new();
    for file in &valid {
        if let Some(other) = seen.insert(&file.flow.id, &file.path) {
            return Err(Failure::Usage(format!(
                "`{}` and `{}` both hold flow `{}`",
                other.display(),
                file.path.display(),
                file.flow.id
            )));
        }
    }
    Ok((valid, invalid))
}

/// Tells on standard error what is wrong with a file, as compilers do:
/// `file:line:column: message`.
pub(crate) fn tell(path: &Path, problems: &[Problem]) {
    for Problem {
        line,
        column,
        message,
        ..
    } in problems
    {
        eprintln!("{}:{line}:{column}: {message}", path.display());
    }
}

/// The files that `paths` stand for, each once.
fn listed(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let facts = fs::metadata(path).map_err(|source| unreadable(path, source))?;
        if facts.is_dir() {
            files.extend(within(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(files)
}

/// The files of flows right in a folder, in the order of their names. Folders
/// within it are left alone, since they may hold data.
fn within(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |source| unreadable(folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if matches!(ending, "yaml" | "yml" | "json") && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::Usage(format!(
            "`{}` holds no .yaml, .yml or .json file",
            folder.display()
        )));
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, source: std::io::Error) -> Failure {
    Failure::Unreadable {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_own_files_and_a_file_for_itself_once() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("data")).unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "notes.md", "data/rows.json"] {
            fs::write(parent.path().join(name), "").unwrap();
        }
        let paths = [parent.path().to_path_buf(), parent.path().join("b.yaml")];
        let files = listed(&paths).unwrap();
        let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["a.yml", "b.yaml", "c.json"]);
    }

    #[test]
    fn a_path_that_leads_to_no_flow_is_named() {
        let parent = tempfile::tempdir().unwrap();
        for path in [parent.path().to_path_buf(), parent.path().join("none.yaml")] {
            let message = listed(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(
                message.contains(&format!("`{}`", path.display())),
                "{message}"
            );
        }
    }
}
