//! What a busy service asks for is given to it, and what a lost worker has
//! begun is asked for again.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use harness::{HttpServer, Reply, SOON, eventually};
use serde_json::{Value, json};

use super::{fail, service};

#[tokio::test]
async fn a_service_is_left_alone_for_as_long_as_it_asks() {
    let service = service().await;
    let admin = service.admin();
    let asked = AtomicUsize::new(0);
    let server = HttpServer::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "too many").with("retry-after", "2"),
        _ => Reply::new(200, ""),
    })
    .await;
    let retry = json!({ "attempts": 2, "initial": "10ms", "max": "10ms" });
    let flow = json!({ "id": "busy", "steps": [
        { "id": "ask", "http": { "url": server.url("/") }, "retry": retry },
    ] });
    admin.publish_json(&flow).await;
    let started = Instant::now();
    let run = admin.start("busy").await;
    // The run holds no slot while it waits.
    eventually(SOON, "the run to be delayed", || async {
        let key = format!("ms:{{0}}:run:{run}");
        let state: String = service.redis.command(&["HGET", &key, "state"]).await;
        (state == "delayed").then_some(())
    })
    .await;
    assert_eq!(admin.end("busy", &run).await, "Succeeded");
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "it was asked too early"
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn only_what_may_pass_is_tried_again() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|asked| {
        let status = asked.path().trim_start_matches('/').parse().unwrap();
        Reply::new(status, "").with("retry-after", "0")
    })
    .await;
    let retry = json!({ "attempts": 2, "initial": "10ms", "max": "10ms" });
    for (status, attempts) in [(503, 2), (408, 2), (501, 1), (404, 1), (409, 1)] {
        let flow = json!({ "id": "refused", "steps": [
            { "id": "ask", "http": { "url": server.url(&format!("/{status}")) }, "retry": retry },
        ] });
        fail(&service, &admin, flow, "http_status").await;
        let path = format!("/{status}");
        let seen = server.seen();
        let asked = seen.iter().filter(|asked| asked.path() == path);
        assert_eq!(asked.count(), attempts, "{status}");
    }
}

#[tokio::test]
async fn a_request_ends_with_its_time() {
    let service = service().await;
    let admin = service.admin();
    // Nobody accepts: the system does, and nothing ever comes.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slow", listener.local_addr().unwrap());
    let flow = json!({ "id": "slow", "steps": [
        { "id": "ask", "http": { "url": url, "request_timeout": "300ms" } },
    ] });
    let told = fail(&service, &admin, flow, "http_timeout").await;
    assert!(told.ends_with("/slow took longer than 300ms"), "{told}");
}

#[tokio::test]
async fn a_step_whose_worker_died_sends_the_same_keys_again() {
    let mut service = service().await;
    let admin = service.admin();
    let asked = AtomicUsize::new(0);
    let server = HttpServer::start(move |request| {
        let body: Value = serde_json::from_str(request.text()).unwrap();
        let row = if body["after"].is_null() { 1 } else { 2 };
        if asked.fetch_add(1, Ordering::SeqCst) == 1 {
            return Reply::never();
        }
        let next = (row == 1).then_some("x");
        Reply::json(&json!({ "rows": [{ "id": row }], "next": next }))
    })
    .await;
    let flow = json!({ "id": "search", "steps": [
        { "id": "rows", "http": {
            "method": "POST", "url": server.url("/search"), "json": {},
            "pages": { "cursor": { "at": "/next", "json": "/after" } },
            "extract": { "at": "/rows", "to": "table" } } },
        { "id": "write", "write": { "path": "rows.csv", "from": "rows" } },
    ] });
    admin.publish_json(&flow).await;
    let run = admin.start("search").await;
    eventually(SOON, "the second page to be asked for", || async {
        (server.seen().len() == 2).then_some(())
    })
    .await;
    service.add_worker().await;
    service.workers[0].kill();
    assert_eq!(admin.end("search", &run).await, "Succeeded");
    let written = fs::read_to_string(service.files().join("rows.csv")).unwrap();
    assert_eq!(written, "id\n1\n2\n");
    let seen = server.seen();
    let keys: Vec<_> = seen
        .iter()
        .map(|asked| asked.header("idempotency-key").unwrap())
        .collect();
    let (first, second) = (format!("{run}-rows"), format!("{run}-rows-2"));
    assert_eq!(keys, [&first, &second, &first, &second]);
}
