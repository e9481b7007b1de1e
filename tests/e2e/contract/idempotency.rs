//! One Idempotency-Key, one run.

use futures::future::join_all;
use harness::{Answer, Client, Service, Setup};
use serde_json::{Value, json};

use crate::flows::quick;

async fn service() -> Service {
    let service = Service::start(Setup::default()).await;
    for id in ["sales", "wages"] {
        service.admin().publish(&quick(id)).await;
    }
    service
}

async fn start(caller: &Client, flow: &str, key: &str, body: Value) -> Answer {
    let request = caller
        .start_request(flow, "")
        .header("Idempotency-Key", key);
    Answer::of(request.json(&body)).await
}

#[tokio::test]
async fn the_same_key_flow_and_caller_get_the_same_run_back() {
    let service = service().await;
    let admin = service.admin();
    let body = json!({ "inputs": { "name": "a" } });
    let first = start(&admin, "sales", "order-7", body.clone()).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("idempotency-replayed"), "");
    admin.end("sales", &first.run_id()).await;

    let again = start(&admin, "sales", "order-7", body.clone()).await;
    assert_eq!(again.run_id(), first.run_id());
    assert_eq!(again.run_status(), "Succeeded");
    assert_eq!(again.header("idempotency-replayed"), "true");
    let request = admin.start_request("sales", "?await=true").json(&body);
    let waited = Answer::of(request.header("idempotency-key", "order-7")).await;
    assert_eq!(waited.run_id(), first.run_id());
    assert_eq!(waited.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn another_key_flow_or_caller_starts_another_run() {
    let service = service().await;
    let admin = service.admin();
    let (_, key) = admin
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"] }))
        .await;
    let answers = [
        start(&admin, "sales", "order-7", json!({})).await,
        start(&admin, "sales", "order-8", json!({})).await,
        start(&admin, "wages", "order-7", json!({})).await,
        start(&admin.with_key(&key), "sales", "order-7", json!({})).await,
    ];
    let mut runs: Vec<_> = answers.iter().map(Answer::run_id).collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 4);
    for answer in &answers {
        assert_eq!(answer.header("idempotency-replayed"), "");
    }
}

#[tokio::test]
async fn the_same_key_with_another_body_is_422() {
    let service = service().await;
    let admin = service.admin();
    let first = json!({ "inputs": { "name": "a" } });
    start(&admin, "sales", "order-7", first.clone()).await;
    let other = start(
        &admin,
        "sales",
        "order-7",
        json!({ "inputs": { "name": "b" } }),
    )
    .await;
    assert_eq!(
        (other.status, &*other.code()),
        (422, "idempotency_mismatch")
    );
    assert_eq!(start(&admin, "sales", "order-7", first).await.status, 200);
}

#[tokio::test]
async fn a_key_has_at_most_255_characters() {
    let service = service().await;
    let admin = service.admin();
    let longest = "x".repeat(255);
    assert_eq!(
        start(&admin, "sales", &longest, json!({})).await.status,
        200
    );
    for bad in ["x".repeat(256), String::new()] {
        let answer = start(&admin, "sales", &bad, json!({})).await;
        assert_eq!((answer.status, &*answer.code()), (400, "invalid_parameter"));
    }
}

#[tokio::test]
async fn many_starts_at_once_with_one_key_are_one_run() {
    let service = service().await;
    let admin = service.admin();
    let starts = (0..20).map(|_| start(&admin, "sales", "order-7", json!({})));
    let answers = join_all(starts).await;
    for answer in &answers {
        assert_eq!(answer.run_id(), answers[0].run_id());
    }
    let fresh = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_empty());
    assert_eq!(fresh.count(), 1);
}

/// The key is remembered for a day, which a service may keep runs for less long.
#[tokio::test]
async fn a_key_whose_run_is_no_longer_kept_starts_another_run() {
    let service = service().await;
    let admin = service.admin();
    let first = start(&admin, "sales", "order-7", json!({})).await;
    admin.end("sales", &first.run_id()).await;
    let key = format!("ms:{{0}}:run:{}", first.run_id());
    let _: u64 = service.redis.command(&["DEL", &key]).await;
    let again = start(&admin, "sales", "order-7", json!({})).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, "")
    );
    assert_ne!(again.run_id(), first.run_id());
}
