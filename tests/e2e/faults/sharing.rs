//! Who gets which run, and when: nobody hoards, no priority starves, and every
//! run goes to a worker that is for it.

use std::fs;

use harness::{Answer, Service, Setup};
use serde_json::json;

use super::{assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick};

#[tokio::test]
async fn a_worker_without_a_free_slot_keeps_no_run_from_others() {
    let mut service = Service::start(Setup {
        worker: &[("MILLSTREAM_SLOTS", "1")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&quick("hello")).await;
    let slow = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    let quick = waiting_starts(&admin, "hello", "", 50);
    service.add_worker().await;
    assert_all_succeed(quick).await;
    gate.open();
    assert_all_succeed(slow).await;
    let worker = &service.workers[1];
    // None of them waited for a lease to be over.
    assert_eq!(worker.counted("millstream_runs_reclaimed_total").await, 0);
}

#[tokio::test]
async fn runs_of_all_priorities_go_on_four_to_two_to_one() {
    const EACH: usize = 14;
    let service = Service::start(Setup {
        worker: &[("MILLSTREAM_SLOTS", "1")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let lines = service.folder().join("lines");
    let script = format!("echo \"$0\" >> '{}'", lines.display());
    let command = json!({ "program": "sh", "args": ["-c", script, "{{ inputs.priority }}"] });
    admin
        .publish(&format!(
            "id: noted
inputs:
  priority: {{ type: string }}
steps:
  - id: note
    command: {command}
"
        ))
        .await;
    let slow = waiting_starts(&admin, "slow", "", 1);
    gate.reached_by(1).await;
    let mut waits = Vec::new();
    for priority in ["low", "normal", "high"] {
        for _ in 0..EACH {
            let body = json!({ "inputs": { "priority": priority } });
            let query = format!("?await=true&priority={priority}");
            let start = admin.start_request("noted", &query).json(&body);
            waits.push(tokio::spawn(Answer::of(start)));
        }
    }
    service.open_runs(3 * EACH + 1).await;
    gate.open();
    assert_all_succeed(slow).await;
    assert_all_succeed(waits).await;
    let order = fs::read_to_string(&lines).unwrap();
    let order: Vec<_> = order.lines().collect();
    for seven in order[..EACH].chunks(7) {
        let count = |priority| seven.iter().filter(|found| **found == priority).count();
        let counts = [count("high"), count("normal"), count("low")];
        assert_eq!(counts, [4, 2, 1], "{order:?}");
    }
}

#[tokio::test]
async fn a_run_waits_for_a_worker_with_its_tag() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let tagged = quick("special").replacen('\n', "\nworker_tag: special\n", 1);
    admin.publish(&tagged).await;
    let special = admin.start("special").await;
    assert_eq!(admin.run("hello").await, "Succeeded");
    assert_eq!(admin.status("special", &special).await, "Pending");

    let tags = [("MILLSTREAM_TAGS", "special".to_owned())];
    service.add_worker_with(&tags).await;
    assert_eq!(admin.end("special", &special).await, "Succeeded");
    service.workers[0].kill();
    let waiting = admin.start("hello").await;
    assert_eq!(admin.run("special").await, "Succeeded");
    assert_eq!(admin.status("hello", &waiting).await, "Pending");

    let tags = [("MILLSTREAM_TAGS", "special,default".to_owned())];
    service.add_worker_with(&tags).await;
    assert_eq!(admin.end("hello", &waiting).await, "Succeeded");
}
