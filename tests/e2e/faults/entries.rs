//! Entries of the queues that no script of ours has made.

use std::{fs, path::PathBuf};

use harness::{SOON, Service, Setup, eventually};
use serde_json::json;

use crate::flows::gated;

const QUEUE: &str = "ms:{0}:queue:default:normal";

/// A flow whose runs write a line each time they are executed.
async fn publish_noted(service: &Service, flow: &str, tag: &str) -> PathBuf {
    let lines = service.folder().join(flow);
    let script = format!("echo x >> '{}'", lines.display());
    let command = json!({ "program": "sh", "args": ["-c", script] });
    let text =
        format!("id: {flow}\nworker_tag: {tag}\nsteps:\n  - id: note\n    command: {command}\n");
    service.admin().publish(&text).await;
    lines
}

fn executions(lines: &PathBuf) -> usize {
    fs::read_to_string(lines)
        .unwrap_or_default()
        .lines()
        .count()
}

async fn add_entry(service: &Service, queue: &str, id: &str, run: &str) {
    let add = ["XADD", queue, id, "run", run];
    let _: String = service.redis.command(&add).await;
}

async fn queue_is_empty(service: &Service, queue: &str) {
    let what = format!("{queue} to be empty");
    eventually(SOON, &what, || async {
        let length: u64 = service.redis.command(&["XLEN", queue]).await;
        (length == 0).then_some(())
    })
    .await;
    let pending: Vec<redis::Value> = service.redis.command(&["XPENDING", queue, "workers"]).await;
    assert_eq!(pending[0], redis::Value::Int(0));
}

#[tokio::test]
async fn a_run_that_stands_in_several_queues_is_executed_once_and_by_whom_it_is_for() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let ours = publish_noted(&service, "ours", "default").await;
    let special = publish_noted(&service, "special", "special").await;
    let (run, other) = (admin.start("ours").await, admin.start("special").await);
    let entry = ["HGET", &format!("ms:{{0}}:run:{run}"), "entry"].map(str::to_owned);
    let entry: String = service
        .redis
        .command(&[&entry[0], &entry[1], &entry[2]])
        .await;
    let low = "ms:{0}:queue:default:low";
    let high = "ms:{0}:queue:default:high";
    // The second one has the very id of the true entry, as in a copied stream.
    for (queue, id) in [(QUEUE, "*"), (high, &*entry), (low, "*")] {
        add_entry(&service, queue, id, &run).await;
        add_entry(&service, queue, "*", &other).await;
    }
    service.add_worker().await;
    assert_eq!(admin.end("ours", &run).await, "Succeeded");
    add_entry(&service, QUEUE, "*", &run).await;
    for queue in [QUEUE, high, low] {
        queue_is_empty(&service, queue).await;
    }
    assert_eq!(executions(&ours), 1);
    assert_eq!(admin.status("special", &other).await, "Pending");

    let tags = [("MILLSTREAM_TAGS", "special".to_owned())];
    service.add_worker_with(&tags).await;
    assert_eq!(admin.end("special", &other).await, "Succeeded");
    assert_eq!(executions(&special), 1);
}

#[tokio::test]
async fn a_second_entry_of_a_run_that_is_executed_changes_nothing() {
    let service = Service::start(Setup {
        workers: 2,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    let run = admin.start("slow").await;
    gate.reached_by(1).await;
    for _ in 0..20 {
        add_entry(&service, QUEUE, "*", &run).await;
    }
    eventually(SOON, "all but the true entry to be dropped", || async {
        let length: u64 = service.redis.command(&["XLEN", QUEUE]).await;
        (length == 1).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(admin.end("slow", &run).await, "Succeeded");
    assert_eq!(gate.arrivals().len(), 1);
    queue_is_empty(&service, QUEUE).await;
}
