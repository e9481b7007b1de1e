//! A run that goes on after its worker was lost has what was kept as it was,
//! and makes again what is lost.

use std::{fs, path::PathBuf};

use harness::{Service, Setup};
use serde_json::{Value, json};

use super::{artifacts, ending, executed, prints, waits};

/// What stands in the files before and after the crash.
const BEFORE: &str = "n\n1\n2\n";
const AFTER: &str = "n\n8\n9\n";

/// A run whose worker is killed behind a step that reads a file, with the file
/// changed before another worker goes on.
struct Crashed {
    service: Service,
    run: String,
}

impl Crashed {
    /// `steps` are in front of the gate; what follows takes the table `rows`.
    async fn behind(steps: &str) -> Self {
        let mut service = Service::start(Setup::default()).await;
        let admin = service.admin();
        let gate = service.gate("gate");
        fs::write(service.files().join("in.csv"), BEFORE).unwrap();
        let flow = format!(
            "id: crashes\nsteps:\n{steps}{}  - {{ id: out, needs: [wait], write: {{ path: out.csv, from: rows }} }}\n",
            waits("rows", &gate),
        );
        admin.publish(&flow).await;
        let run = admin.start("crashes").await;
        gate.reached_by(1).await;
        service.workers[0].kill();
        fs::write(service.files().join("in.csv"), AFTER).unwrap();
        gate.open();
        Self { service, run }
    }

    /// What was written once another worker has gone on.
    async fn outcome(&mut self) -> String {
        self.service.add_worker().await;
        let status = self.service.admin().end("crashes", &self.run).await;
        assert_eq!(status, "Succeeded");
        fs::read_to_string(self.service.files().join("out.csv")).unwrap()
    }

    fn table(&self) -> PathBuf {
        let tables = ending(&self.service, ".table.arrow");
        assert_eq!(tables.len(), 1, "{tables:?}");
        tables[0].clone()
    }
}

#[tokio::test]
async fn a_table_that_is_kept_is_what_it_was_after_a_crash() {
    let mut crashed =
        Crashed::behind("  - { id: rows, keep: true, read: { path: in.csv } }\n").await;
    assert_eq!(crashed.outcome().await, BEFORE);
}

#[tokio::test]
async fn a_table_that_is_not_kept_is_made_again() {
    let mut crashed = Crashed::behind("  - { id: rows, read: { path: in.csv } }\n").await;
    assert_eq!(artifacts(&crashed.service).len(), 0);
    assert_eq!(crashed.outcome().await, AFTER);
}

#[tokio::test]
async fn what_a_kept_table_was_made_of_is_not_made_again() {
    let steps = "  - { id: raw, read: { path: in.csv } }
  - { id: rows, keep: true, sql: 'select n from raw order by n' }\n";
    let mut crashed = Crashed::behind(steps).await;
    fs::remove_file(crashed.service.files().join("in.csv")).unwrap();
    assert_eq!(crashed.outcome().await, BEFORE);
}

#[tokio::test]
async fn a_kept_table_that_is_gone_is_made_again_with_all_that_it_is_made_of() {
    let steps = "  - { id: raw, read: { path: in.csv } }
  - { id: rows, keep: true, sql: 'select n from raw order by n' }\n";
    let mut crashed = Crashed::behind(steps).await;
    fs::remove_file(crashed.table()).unwrap();
    assert_eq!(crashed.outcome().await, AFTER);
}

#[tokio::test]
async fn a_kept_table_that_is_damaged_is_made_again() {
    let mut crashed =
        Crashed::behind("  - { id: rows, keep: true, read: { path: in.csv } }\n").await;
    let path = crashed.table();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(crashed.outcome().await, AFTER);
    assert!(crashed.service.logs().contains("damaged"));
}

/// A run whose worker is killed behind a step with a large value.
async fn with_large_value() -> (Service, String) {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let big = prints("big", 200, &service.folder().join("executed"), "");
    let flow = format!(
        "id: crashes\nsteps:\n{big}{}output: {{ bytes: \"{{{{ steps.big.value.stdout | length }}}}\" }}\n",
        waits("big", &gate),
    );
    admin.publish(&flow).await;
    let run = admin.start("crashes").await;
    gate.reached_by(1).await;
    service.workers[0].kill();
    gate.open();
    (service, run)
}

async fn output(service: &Service, run: &str) -> Value {
    assert_eq!(service.admin().end("crashes", run).await, "Succeeded");
    service.admin().output("crashes", run).await.json()
}

#[tokio::test]
async fn a_large_value_is_there_after_a_crash_and_its_step_is_not_executed_again() {
    let (mut service, run) = with_large_value().await;
    service.add_worker().await;
    assert_eq!(output(&service, &run).await, json!({ "bytes": 200_000 }));
    assert_eq!(executed(&service), 1);
}

#[tokio::test]
async fn a_large_value_that_is_lost_is_made_again() {
    let (mut service, run) = with_large_value().await;
    fs::remove_file(&ending(&service, ".value.json")[0]).unwrap();
    service.add_worker().await;
    assert_eq!(output(&service, &run).await, json!({ "bytes": 200_000 }));
    assert_eq!(executed(&service), 2);
}

#[tokio::test]
async fn a_worker_without_the_artifact_store_cannot_go_on_and_says_so() {
    let (mut service, run) = with_large_value().await;
    let without = [("MILLSTREAM_ARTIFACTS", String::new())];
    service.add_worker_with(&without).await;
    assert_eq!(service.admin().end("crashes", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "no_artifact_store");
    assert!(
        error.to_string().contains("MILLSTREAM_ARTIFACTS"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_lost_of_a_command_that_must_not_be_repeated_fails_the_run() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let big = prints("big", 200, &service.folder().join("executed"), "");
    let big = big.replace("command: {", "command: {\"on_crash\":\"hold\",");
    admin
        .publish(&format!("id: holds\nsteps:\n{big}{}", waits("big", &gate)))
        .await;
    let run = admin.start("holds").await;
    gate.reached_by(1).await;
    service.workers[0].kill();
    fs::remove_file(&ending(&service, ".value.json")[0]).unwrap();
    gate.open();
    service.add_worker().await;
    assert_eq!(admin.end("holds", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "held");
    assert!(error.to_string().contains("`big`"), "{error}");
    assert_eq!(executed(&service), 1);
}
