//! Who gets which run, and when: nobody hoards, no priority starves, and every
//! run goes to a worker that is for it.

use std::{fs, path::PathBuf};

use harness::{Answer, Gate, Service, Setup};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{ONE_SLOT, assert_all_succeed, waiting_starts};
use crate::flows::{gated, quick};

#[tokio::test]
async fn a_worker_without_a_free_slot_keeps_no_run_from_others() {
    let mut service = Service::start(Setup {
        worker: ONE_SLOT,
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

/// How many runs of each kind there are in a line.
const EACH: usize = 14;

/// A worker with one slot that is taken, so that a line of runs forms, and a
/// file in which runs note that they are executed.
struct Line {
    service: Service,
    gate: Gate,
    slow: Vec<JoinHandle<Answer>>,
    noted: PathBuf,
}

impl Line {
    async fn start(worker: &'static [(&'static str, &'static str)]) -> Self {
        let service = Service::start(Setup {
            worker,
            ..Setup::default()
        })
        .await;
        let admin = service.admin();
        let gate = service.gate("gate");
        admin.publish(&gated("slow", &gate)).await;
        let slow = waiting_starts(&admin, "slow", "", 1);
        gate.reached_by(1).await;
        let noted = service.folder().join("noted");
        Self {
            service,
            gate,
            slow,
            noted,
        }
    }

    /// Publishes a flow whose runs note their input `who`.
    async fn publish(&self, flow: &str, tag: &str) {
        let script = format!("echo \"$0\" >> '{}'", self.noted.display());
        let command = json!({ "program": "sh", "args": ["-c", script, "{{ inputs.who }}"] });
        let text = format!(
            "id: {flow}
worker_tag: {tag}
inputs:
  who: {{ type: string }}
steps:
  - id: note
    command: {command}
"
        );
        self.service.admin().publish(&text).await;
    }

    /// Lets runs of these flows, by these words and with these queries, be
    /// executed, and returns the words in the order in which they were.
    async fn order(self, kinds: &[(&str, &str, &str)]) -> Vec<String> {
        let admin = self.service.admin();
        let mut waits = Vec::new();
        for (flow, who, query) in kinds {
            for _ in 0..EACH {
                let body = json!({ "inputs": { "who": who } });
                let start = admin.start_request(flow, &format!("?await=true{query}"));
                waits.push(tokio::spawn(Answer::of(start.json(&body))));
            }
        }
        self.service.open_runs(kinds.len() * EACH + 1).await;
        self.gate.open();
        assert_all_succeed(self.slow).await;
        assert_all_succeed(waits).await;
        let noted = fs::read_to_string(&self.noted).unwrap();
        noted.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn runs_of_all_priorities_go_on_four_to_two_to_one() {
    let line = Line::start(ONE_SLOT).await;
    line.publish("noted", "default").await;
    let kinds = ["low", "normal", "high"].map(|who| (who, format!("&priority={who}")));
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(who, query)| ("noted", *who, &**query))
        .collect();
    let order = line.order(&kinds).await;
    for seven in order[..EACH].chunks(7) {
        let count = |priority| seven.iter().filter(|found| **found == priority).count();
        let counts = [count("high"), count("normal"), count("low")];
        assert_eq!(counts, [4, 2, 1], "{order:?}");
    }
}

#[tokio::test]
async fn runs_of_all_tags_take_turns() {
    let line = Line::start(&[
        ("MILLSTREAM_SLOTS", "1"),
        ("MILLSTREAM_TAGS", "default,special"),
    ])
    .await;
    line.publish("usual", "default").await;
    line.publish("special", "special").await;
    let order = line
        .order(&[("usual", "usual", ""), ("special", "special", "")])
        .await;
    let usual = order[..EACH].iter().filter(|who| **who == "usual").count();
    assert!((EACH / 2 - 1..=EACH / 2 + 1).contains(&usual), "{order:?}");
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
