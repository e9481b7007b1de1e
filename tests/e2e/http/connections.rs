//! Steps reach services by the connections that an administrator keeps.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{HttpServer, Reply, Service};
use serde_json::{Value, json};

use super::{fail, service, service_with, succeed};
use crate::{
    keys::stored,
    secrets::{WITH_KEY, keep},
};

#[tokio::test]
async fn a_connection_brings_address_headers_and_who_asks() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|_| Reply::json(&json!({}))).await;
    let connections = [
        (
            "basic",
            json!({ "user": "ada", "password": "canarypass" }),
            "authorization",
            "Basic YWRhOmNhbmFyeXBhc3M=",
        ),
        (
            "bearer",
            json!({ "token": "canarytoken" }),
            "authorization",
            "Bearer canarytoken",
        ),
        (
            "key",
            json!({ "api_key": "canarykey", "api_key_header": "X-Key" }),
            "x-key",
            "canarykey",
        ),
    ];
    for (name, members, header, expected) in connections {
        let mut connection = json!({ "kind": "http", "url": server.url("/api/v2"),
                                     "headers": { "X-Tenant": "nord", "Accept": "text/csv" } });
        connection
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        keep(&admin, &format!("connections/{name}"), connection).await;
        let flow = json!({ "id": name, "steps": [{ "id": "ask", "http": {
            "connection": name, "url": "/orders", "headers": { "accept": "application/json" } } }] });
        succeed(&service, &admin, flow).await;
        let asked = server.seen().pop().unwrap();
        assert_eq!(asked.target, "/api/v2/orders");
        assert_eq!(asked.header("x-tenant"), Some("nord"));
        assert_eq!(asked.header("accept"), Some("application/json"));
        assert_eq!(asked.header(header), Some(expected));
    }
    let query = json!({ "kind": "http", "url": server.url("/api"), "api_key": "canary key",
                        "api_key_query": "key" });
    keep(&admin, "connections/query", query).await;
    let flow = json!({ "id": "query", "steps": [{ "id": "ask", "http": {
        "connection": "query", "url": "orders?a=1" } }] });
    succeed(&service, &admin, flow).await;
    assert_eq!(
        server.seen().pop().unwrap().target,
        "/api/orders?a=1&key=canary+key"
    );
    assert_hidden(&service).await;
}

#[tokio::test]
async fn no_step_leaves_the_address_of_its_connection() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|_| Reply::json(&json!({}))).await;
    let connection = json!({ "kind": "http", "url": server.url("/api"), "token": "canarytoken" });
    keep(&admin, "connections/shop", connection).await;
    keep(
        &admin,
        "connections/db",
        json!({ "kind": "sqlite", "path": "x.db" }),
    )
    .await;
    for (connection, url, code) in [
        ("shop", "../admin".to_owned(), "http_request"),
        ("shop", server.url("/other"), "http_request"),
        (
            "shop",
            "https://evil.example/api".to_owned(),
            "http_request",
        ),
        ("db", "/x".to_owned(), "wrong_connection"),
        ("none", "/x".to_owned(), "unknown_connection"),
    ] {
        let flow = json!({ "id": "leave", "steps": [{ "id": "ask", "http": {
            "connection": connection, "url": url } }] });
        fail(&service, &admin, flow, code).await;
    }
    assert!(server.seen().is_empty());
    assert_hidden(&service).await;
}

/// An authority and a service that takes its tokens, but each only so often.
async fn guarded(uses: usize) -> HttpServer {
    let (handed_out, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    HttpServer::start(move |asked| {
        if asked.path() == "/token" {
            used.store(0, Ordering::SeqCst);
            let number = handed_out.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(&json!({ "access_token": format!("canarytoken{number}"),
                                        "token_type": "bearer", "expires_in": 3600 }));
        }
        let number = handed_out.load(Ordering::SeqCst);
        let expected = format!("Bearer canarytoken{number}");
        let is_known = asked.header("authorization") == Some(&expected);
        if !is_known || used.fetch_add(1, Ordering::SeqCst) >= uses {
            return Reply::new(401, format!("not {expected}"));
        }
        // A service that tells what it should not.
        Reply::json(&json!({ "you": asked.header("authorization") }))
    })
    .await
}

fn oauth(server: &HttpServer) -> Value {
    json!({ "kind": "http", "url": server.url("/api"), "client_id": "me",
            "client_secret": "canarysecret", "token_url": server.url("/token"),
            "scope": "orders", "audience": "shop" })
}

#[tokio::test]
async fn a_token_is_fetched_once_renewed_when_refused_and_shown_nowhere() {
    let service = service().await;
    let admin = service.admin();
    let server = guarded(4).await;
    keep(&admin, "connections/shop", oauth(&server)).await;
    let step = |id: usize| json!({ "id": format!("s{id}"), "http": { "connection": "shop", "url": "/x" } });
    let flow = json!({ "id": "many", "steps": (0..4).map(step).collect::<Value>(),
                       "output": "{{ steps.s0.value.body }}" });
    succeed(&service, &admin, flow.clone()).await;
    let tokens = || {
        let seen = server.seen();
        seen.iter().filter(|asked| asked.path() == "/token").count()
    };
    assert_eq!(tokens(), 1);
    // The token is used up: the service refuses it, and gets a new one.
    succeed(
        &service,
        &admin,
        json!({ "id": "again", "steps": [step(0)] }),
    )
    .await;
    assert_eq!(tokens(), 2);
    let asked = server.seen().remove(0);
    assert_eq!(
        asked.header("authorization"),
        Some("Basic bWU6Y2FuYXJ5c2VjcmV0")
    );
    assert_eq!(
        asked.text(),
        "grant_type=client_credentials&scope=orders&audience=shop"
    );
    // A service that refuses also the new one.
    let strict = guarded(0).await;
    keep(&admin, "connections/strict", oauth(&strict)).await;
    let flow = json!({ "id": "strict", "steps": [{ "id": "ask", "http": {
        "connection": "strict", "url": "/x" } }] });
    let told = fail(&service, &admin, flow, "http_status").await;
    assert!(
        told.ends_with("answered 401 Unauthorized: not Bearer ***"),
        "{told}"
    );
    assert_eq!(strict.seen().len(), 4);
    assert_hidden(&service).await;
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    const WORKER: &[(&str, &str)] = &[
        WITH_KEY[0],
        ("http_proxy", "http://127.0.0.1:1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    let service = service_with(WORKER).await;
    let admin = service.admin();
    let server = HttpServer::start(|_| Reply::json(&json!({}))).await;
    let flow =
        json!({ "id": "direct", "steps": [{ "id": "ask", "http": { "url": server.url("/") } }] });
    succeed(&service, &admin, flow).await;
}

/// No credential shows in Redis or in a log.
async fn assert_hidden(service: &Service) {
    let (stored, logs) = (stored(service).await, service.logs());
    for (place, text) in [("Redis", stored), ("logs", logs)] {
        for canary in ["canary", "Y2FuYXJ5", "NhbmFyeX"] {
            let at = text.find(canary);
            let around = at.map(|at| &text[text.floor_char_boundary(at.saturating_sub(100))..]);
            assert_eq!(
                around.map(|text| text.chars().take(200).collect::<String>()),
                None,
                "in {place}"
            );
        }
    }
}
