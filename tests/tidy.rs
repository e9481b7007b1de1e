//! The rules of this repository that the compiler does not know.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use millstream_shared::flow::Flow;

/// The programs and libraries.
const CRATES: &[&str] = &["shared", "worker", "api", "cli", "tests"];

/// No file has more lines of production code.
const LINES_MAX: usize = 500;

/// Text that may stand only in files whose path starts with one of these.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("redis::", &["shared/src/store/", "tests/"]),
    ("axum::", &["api/src/", "shared/src/process/ops.rs"]),
    (
        "reqwest::",
        &["worker/src/steps/http/", "cli/src/", "tests/"],
    ),
    (
        "datafusion::",
        &["worker/src/tables/", "worker/src/databases/"],
    ),
    (
        "sqlx::",
        &["worker/src/databases/", "tests/harness/", "tests/e2e/"],
    ),
    ("tiberius::", &["worker/src/databases/sqlserver/"]),
    ("minijinja::", &["shared/src/flow/expression"]),
    (
        "object_store::",
        &[
            "shared/src/artifacts/",
            "worker/src/stores/",
            "tests/harness/",
        ],
    ),
    (
        "SystemTime::now",
        &["api/src/", "worker/src/", "cli/src/", "tests/"],
    ),
    (
        "Utc::now",
        &["api/src/", "worker/src/", "cli/src/", "tests/"],
    ),
    (
        "millstream_worker::",
        &["worker/src/main.rs", "cli/src/", "tests/"],
    ),
    (
        "millstream_api::",
        &["api/src/main.rs", "cli/src/", "tests/"],
    ),
];

/// Text that may not stand in files whose path starts with one of these: what
/// decides is pure, and the model does not know who uses it.
const NOT_IN: &[(&[&str], &[&str])] = &[
    (
        &[
            "async fn",
            "tokio::",
            "Instant::now",
            "getrandom::",
            "std::fs",
            "std::env",
        ],
        &[
            "shared/src/flow/",
            "shared/src/run/",
            "shared/src/retry.rs",
            "shared/src/access.rs",
            "shared/src/id.rs",
            "shared/src/duration.rs",
        ],
    ),
    (
        &["crate::store", "crate::process"],
        &[
            "shared/src/run/",
            "shared/src/flow/",
            "shared/src/retry.rs",
            "shared/src/access.rs",
            "shared/src/id.rs",
        ],
    ),
    (&["crate::run"], &["shared/src/flow/", "shared/src/id.rs"]),
    (&["crate::flow"], &["shared/src/id.rs"]),
    (&["crate::process"], &["shared/src/flow/"]),
];

/// What no Rust file holds. Each is written so that this file does not.
const NOWHERE: &[&str] = &[
    concat!("macro_", "rules!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
    concat!("#[pa", "th"),
];

/// Names that say nothing of what is inside.
const DRAWERS: &[&str] = &[
    "common", "core", "helpers", "manager", "misc", "models", "types", "util", "utils",
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// All files below a folder whose names end so, as paths from the root; none
/// where the folder is not there.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let skipped = name == "target" || name.starts_with('.');
                if !skipped {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<String> {
    CRATES
        .iter()
        .flat_map(|folder| files(folder, &[".rs"]))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a file that is not tests.
fn production(path: &str) -> String {
    let is_test =
        path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/");
    if is_test {
        return String::new();
    }
    let text = read(path);
    match text.find("#[cfg(test)]\nmod tests {") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Lines that are no comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// Whether the text stands in the line as a whole path, not as the end of a
/// longer name.
fn names(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn each_layer_names_only_what_it_may_know() {
    let mut broken = Vec::new();
    for path in rust_files() {
        // This file has to name what it looks for.
        if path == "tests/tidy.rs" {
            continue;
        }
        let text = read(&path);
        for (number, line) in code(&text) {
            for (word, places) in ONLY_IN {
                let allowed = places.iter().any(|place| path.starts_with(place));
                if !allowed && names(line, word) {
                    broken.push(format!("{path}:{number} {word}"));
                }
            }
        }
    }
    assert_none(&broken, "this text may only stand where ONLY_IN says");
}

#[test]
fn what_decides_is_pure() {
    let mut broken = Vec::new();
    for path in rust_files() {
        let text = production(&path);
        for (words, places) in NOT_IN {
            if !places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for (number, line) in code(&text) {
                for word in words.iter().filter(|word| names(line, word)) {
                    broken.push(format!("{path}:{number} {word}"));
                }
            }
        }
    }
    assert_none(&broken, "this text may not stand where NOT_IN says");
}

#[test]
fn nothing_unfinished_and_no_macro_stands_anywhere() {
    let mut broken = Vec::new();
    for path in rust_files() {
        for (number, line) in read(&path).lines().enumerate() {
            for word in NOWHERE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{path}:{} {word}", number + 1));
            }
        }
    }
    assert_none(&broken, "this text may stand nowhere");
}

#[test]
fn no_file_is_long() {
    let mut broken = Vec::new();
    for path in rust_files() {
        let lines = production(&path).lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{path}: {lines} lines"));
        }
    }
    assert_none(&broken, &format!("a file has at most {LINES_MAX} lines"));
}

#[test]
fn every_file_says_what_it_is_for_and_has_a_name_that_says_it() {
    let mut broken = Vec::new();
    for path in rust_files() {
        if !read(&path).starts_with("//! ") {
            broken.push(format!("{path} has no module documentation"));
        }
        let is_drawer = |part: &str| DRAWERS.contains(&part.trim_end_matches(".rs"));
        if path.split('/').any(is_drawer) {
            broken.push(format!("{path} is named like a drawer"));
        }
    }
    assert_none(&broken, "a file is about one thing");
}

/// The files where cargo begins to read.
fn crate_roots(all: &BTreeSet<String>) -> Vec<String> {
    let is_root = |path: &&String| {
        let parts: Vec<_> = path.split('/').collect();
        matches!(
            &parts[..],
            ["tests", "tidy.rs"]
                | ["tests", "harness", "lib.rs"]
                | ["tests", _, "main.rs"]
                | [_, "src", "lib.rs" | "main.rs"]
                | [_, "src", "bin", _]
                | [_, "tests" | "benches" | "examples", _]
                | [_, "build.rs"]
        )
    };
    all.iter().filter(is_root).cloned().collect()
}

/// The modules that a file declares, as the two paths where each may lie.
fn declared(path: &str) -> Vec<[String; 2]> {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let is_top = matches!(name, "lib.rs" | "main.rs" | "mod.rs") || path == "tests/tidy.rs";
    let folder = if is_top {
        folder.to_owned()
    } else {
        format!("{folder}/{}", name.trim_end_matches(".rs"))
    };
    let text = read(path);
    let modules = code(&text).filter_map(|(_, line)| {
        let line = line.trim();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = match line.strip_prefix("pub(") {
            Some(rest) => rest.split_once(") ")?.1,
            None => line,
        };
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    modules
        .map(|module| {
            [
                format!("{folder}/{module}.rs"),
                format!("{folder}/{module}/mod.rs"),
            ]
        })
        .collect()
}

#[test]
fn every_file_is_part_of_a_crate() {
    let all: BTreeSet<_> = rust_files().into_iter().collect();
    let mut reached = BTreeSet::new();
    let mut open = crate_roots(&all);
    while let Some(path) = open.pop() {
        for places in declared(&path) {
            open.extend(places.into_iter().filter(|place| all.contains(place)));
        }
        reached.insert(path);
    }
    let dead: Vec<_> = all.difference(&reached).cloned().collect();
    assert_none(&dead, "no `mod` line leads to");
}

/// What a document calls a path: links, and what stands in backticks and
/// begins with a folder of ours or is a document.
fn named_paths(text: &str) -> Vec<String> {
    let folders: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let quoted = text.split('`').skip(1).step_by(2).filter(|quoted| {
        let first = quoted.split('/').next().unwrap_or_default();
        let in_folder = quoted.contains('/') && folders.iter().any(|folder| folder == first);
        let document = quoted.ends_with(".md") && !quoted.contains('*');
        quoted.chars().all(plain) && (in_folder || document)
    });
    let linked = text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        let local = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
        local.then_some(target)
    });
    quoted.chain(linked).map(str::to_owned).collect()
}

#[test]
fn documents_name_what_exists() {
    let mut broken = Vec::new();
    for document in files("", &[".md"]) {
        let text = read(&document);
        let beside = Path::new(&document).parent().unwrap().to_owned();
        // Fences would shift the pairs of backticks.
        let text = text.replace("```", "");
        for path in named_paths(&text) {
            let from_root = root().join(&path);
            let from_here = root().join(&beside).join(&path);
            let climbs = Path::new(&path)
                .components()
                .all(|part| part == Component::ParentDir);
            if climbs || !(from_root.exists() || from_here.exists()) {
                broken.push(format!("{document}: {path}"));
            }
        }
    }
    assert_none(&broken, "these documents name what is not there");
}

#[test]
fn every_flow_of_fixtures_and_samples_is_valid() {
    let mut checked = 0;
    for folder in ["tests/fixtures/flows", "deploy/samples"] {
        for path in files(folder, &[".yaml", ".yml"]) {
            checked += 1;
            if let Err(invalid) = Flow::parse(&read(&path)) {
                panic!("{path}: {:#?}", invalid.problems);
            }
        }
    }
    assert!(checked > 0, "there is no flow to check");
}
