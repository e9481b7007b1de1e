//! What runs keep outside of Redis: outputs that stream to callers, values and
//! tables that outlive a worker, and nothing that stays for ever.

mod outputs;
mod resumed;
mod swept;
mod trouble;

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Gate, SOON, Service, eventually};
use serde_json::json;

/// A step that prints so many kilobytes, all the same letter, and notes that it
/// was executed.
fn prints(step: &str, kilobytes: usize, file: &Path, further: &str) -> String {
    let file = file.display();
    let script = format!("echo {step} >> '{file}'; head -c {kilobytes}000 /dev/zero | tr '\\0' x");
    let command = json!({ "program": "sh", "args": ["-c", script] });
    format!("  - {{ id: {step}, command: {command}{further} }}\n")
}

/// A step that waits at a gate, after another one.
fn waits(after: &str, gate: &Gate) -> String {
    let command = json!({ "program": "sh", "args": ["-c", gate.script()] });
    format!("  - {{ id: wait, needs: [{after}], command: {command} }}\n")
}

/// A flow that hands so many kilobytes back.
fn large_output(id: &str, kilobytes: usize, service: &Service) -> String {
    let prints = prints("big", kilobytes, &service.folder().join("executed"), "");
    format!("id: {id}\nsteps:\n{prints}output: {{ text: \"{{{{ steps.big.value.stdout }}}}\" }}\n")
}

/// How often steps were executed that note it.
fn executed(service: &Service) -> usize {
    let noted = fs::read_to_string(service.folder().join("executed"));
    noted.unwrap_or_default().lines().count()
}

/// The artifacts that are there, drafts included, in order.
fn artifacts(service: &Service) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![service.artifacts()];
    while let Some(folder) = folders.pop() {
        // It may just be deleted.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The artifacts whose names end so.
fn ending(service: &Service, end: &str) -> Vec<PathBuf> {
    let ends = |path: &PathBuf| path.to_string_lossy().ends_with(end);
    artifacts(service).into_iter().filter(ends).collect()
}

/// Waits until there is an artifact whose name ends so.
async fn appears(service: &Service, end: &str) -> PathBuf {
    eventually(SOON, &format!("an artifact …{end}"), || async {
        ending(service, end).pop()
    })
    .await
}
