//! The soak that users run, for a minute: everything dies and freezes, and the
//! verdict is clean.

use std::process::Stdio;

use harness::built_program;
use serde_json::Value;

#[tokio::test]
async fn a_minute_of_deaths_leaves_a_clean_verdict() {
    let soak = tokio::process::Command::new(built_program("millstream"))
        .args(["soak", "--minutes", "1", "--rate", "100", "--callers", "24"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = soak.await.unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}\n{log}");
    let verdict: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(verdict["verdict"], "clean");
    assert!(verdict["acceptedRuns"].as_u64() > Some(500), "{told}");
    let faults = verdict["faults"].as_object().unwrap();
    let count: u64 = faults.values().filter_map(Value::as_u64).sum();
    assert!(count >= 8, "{told}");
}
