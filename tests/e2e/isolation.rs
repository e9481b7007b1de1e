//! What is broken fails alone: every other run goes on.

use std::fs;

use harness::{Answer, SOON, Service, Setup, eventually};

use crate::flows::quick;

const QUEUE: &str = "ms:{0}:queue:default:normal";

/// A service without a worker, so that runs stay queued while the test breaks
/// something.
async fn service() -> Service {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    service.admin().publish(&quick("hello")).await;
    service
}

fn run_key(run: &str) -> String {
    format!("ms:{{0}}:run:{run}")
}

#[tokio::test]
async fn entries_that_are_no_runs_are_set_aside() {
    let mut service = service().await;
    let admin = service.admin();
    let before = admin.start("hello").await;
    for entry in [
        ["stray", "1"],
        ["run", "not-a-uuid"],
        ["run", ""],
        ["run", "018f0e7a-0000-7000-8000-000000000000"],
        ["run", &before],
    ] {
        let [name, value] = entry;
        let add = ["XADD", QUEUE, "*", name, value];
        let _: String = service.redis.command(&add).await;
    }
    let after = admin.start("hello").await;
    service.add_worker().await;
    assert_eq!(admin.end("hello", &before).await, "Succeeded");
    assert_eq!(admin.end("hello", &after).await, "Succeeded");
    eventually(SOON, "the queue to be empty", || async {
        let length: u64 = service.redis.command(&["XLEN", QUEUE]).await;
        (length == 0).then_some(())
    })
    .await;
    let pending: Vec<redis::Value> = service.redis.command(&["XPENDING", QUEUE, "workers"]).await;
    assert_eq!(pending[0], redis::Value::Int(0));
}

#[tokio::test]
async fn a_queue_that_somebody_deleted_is_made_again() {
    let mut service = service().await;
    service.add_worker().await;
    let admin = service.admin();
    assert_eq!(admin.run("hello").await, "Succeeded");
    let _: u64 = service.redis.command(&["DEL", QUEUE]).await;
    assert_eq!(admin.run("hello").await, "Succeeded");
}

#[tokio::test]
async fn a_flow_deleted_under_a_queued_run_fails_that_run() {
    let mut service = service().await;
    let admin = service.admin();
    admin.publish(&quick("gone")).await;
    let lost = admin.start("gone").await;
    let other = admin.start("hello").await;
    let deleted: u64 = service.redis.command(&["DEL", "ms:{0}:flow:gone"]).await;
    assert_eq!(deleted, 1);
    service.add_worker().await;
    assert_eq!(admin.end("gone", &lost).await, "Failed");
    assert_eq!(admin.end("hello", &other).await, "Succeeded");
    let error = service.run_error(&lost).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("gone"), "{error}");
}

#[tokio::test]
async fn a_record_of_the_wrong_type_fails_its_run_alone() {
    let mut service = service().await;
    let admin = service.admin();
    let broken = admin.start("hello").await;
    let waiting = tokio::spawn(Answer::of(admin.status_request(
        "hello",
        &broken,
        "?await=true",
    )));
    let key = run_key(&broken);
    eventually(SOON, "the wait to be registered", || async {
        let waiters: Option<String> = service.redis.command(&["HGET", &key, "waiters"]).await;
        waiters.filter(|waiters| !waiters.is_empty())
    })
    .await;
    let other = admin.start("hello").await;
    let _: String = service.redis.command(&["SET", &key, "no record"]).await;
    service.add_worker().await;

    assert_eq!(admin.end("hello", &other).await, "Succeeded");
    let told = Answer::of(admin.status_request("hello", &broken, "")).await;
    assert_eq!((told.status, &*told.code()), (500, "corrupt_record"));
    let told = told.body.to_lowercase();
    assert!(
        !told.contains("redis") && !told.contains("wrongtype"),
        "{told}"
    );
    let waited = waiting.await.unwrap();
    assert_eq!((waited.status, &*waited.run_status()), (200, "Failed"));
}

#[tokio::test]
async fn a_record_that_does_not_decode_fails_its_run_alone() {
    let mut service = service().await;
    let admin = service.admin();
    let broken = admin.start("hello").await;
    let other = admin.start("hello").await;
    let set = ["HSET", &run_key(&broken), "request", "no json"];
    let _: u64 = service.redis.command(&set).await;
    service.add_worker().await;
    assert_eq!(admin.end("hello", &broken).await, "Failed");
    assert_eq!(admin.end("hello", &other).await, "Succeeded");
}

#[tokio::test]
async fn an_unreadable_row_fails_its_run_and_names_file_and_line() {
    let mut service = service().await;
    service.add_worker().await;
    let admin = service.admin();
    fs::write(
        service.files().join("rows.csv"),
        "id,amount\n1,10\n2,ten\n3,30\n",
    )
    .unwrap();
    admin
        .publish(
            "id: rows
steps:
  - id: rows
    read: { path: rows.csv, columns: { id: integer, amount: integer } }
",
        )
        .await;
    let run = admin.start("rows").await;
    assert_eq!(admin.end("rows", &run).await, "Failed");
    assert_eq!(admin.run("hello").await, "Succeeded");
    let error = service.run_error(&run).await;
    let message = error["message"].as_str().unwrap();
    for expected in ["rows.csv", "3", "amount", "ten"] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(error["step"], "rows");
}
