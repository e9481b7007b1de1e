//! Secrets reach the services and programs that a flow names them for, and
//! nobody else.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use harness::{Answer, Client, Service, Setup};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::keys::stored;

pub(crate) const WITH_KEY: &[(&str, &str)] = &[(
    "MILLSTREAM_SECRETS_KEY",
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
)];

/// What must show up nowhere: the beginning of each secret, also in base64.
const CANARIES: &[&str] = &[
    "canarysecret",
    "Y2FuYXJ5c2VjcmV0",
    "canarypassword",
    "canaryline",
];

/// A secret with all that is written differently in JSON, addresses and forms.
const SECRET: &str = "canarysecret \"9\"/?&+\\";

async fn service() -> Service {
    Service::start(Setup {
        api: WITH_KEY,
        worker: WITH_KEY,
        ..Setup::default()
    })
    .await
}

pub(crate) async fn keep(admin: &Client, path: &str, body: Value) -> String {
    let request = admin.request(Method::PUT, &format!("/api/admin/v1/{path}"));
    let answer = Answer::of(request.json(&body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body
}

/// A server that answers with the very request, as 200, or 404 below `/gone`.
struct Echo {
    url: String,
    seen: Arc<Mutex<String>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(String::new()));
        let remembered = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 64 * 1024];
                let mut length = 0;
                // The requests here are short, and end with `}` or with their head.
                while !bytes[..length].ends_with(b"}") && !bytes[..length].ends_with(b"\r\n\r\n") {
                    match stream.read(&mut bytes[length..]).await.unwrap() {
                        0 => break,
                        count => length += count,
                    }
                }
                let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let gone = request.contains(" /gone");
                let status = if gone { "404 Not Found" } else { "200 OK" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{request}",
                    request.len()
                );
                remembered.lock().unwrap().push_str(&request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, seen }
    }
}

/// Flows that do with secrets whatever a flow can.
fn flows(echo: &str, file: &str) -> Vec<Value> {
    let script = format!(
        "printf %s \"$TOKEN\" > '{file}'; printf '%s\\n' \"$TOKEN\"; printf %s \"$TOKEN\" | base64 -w0; \
         cat; echo \"on stderr $TOKEN\" >&2; printf '%s\\n' \"$LINES\" >&2"
    );
    let env = json!({ "TOKEN": "{{ secrets.token }}", "LINES": "{{ secrets.lines }}" });
    let command = |script: &str| {
        json!({ "program": "sh", "args": ["-c", script], "env": env,
                                         "stdin": ["{{ secrets.token }}", "{{ secrets.lines }}"] })
    };
    let request = |path: &str| {
        json!({ "method": "POST", "url": format!("{echo}{path}/{{{{ secrets.token }}}}"),
                "headers": { "X-Token": "t={{ secrets.token }}" },
                "query": { "q": "{{ secrets.token }}" },
                "json": { "lines": "{{ secrets.lines }}", "token": "{{ secrets.token }}" },
                "auth": { "basic": { "username": "ada", "password": "{{ secrets.token }}" } } })
    };
    let retry = json!({ "attempts": 2, "initial": "10ms", "max": "10ms" });
    vec![
        json!({ "id": "succeeds", "steps": [
            { "id": "send", "http": request("/fine") },
            { "id": "run", "command": command(&script) },
            { "id": "copy", "set": { "all": "{{ [steps.send.value, steps.run.value] }}" } },
        ], "output": "{{ steps.copy.value }}" }),
        json!({ "id": "exits", "steps": [
            { "id": "run", "command": command(&format!("{script}; exit 3")), "retry": retry },
        ], "on_failure": [{ "id": "tell", "set": { "why": "{{ run.error.message }}" } }] }),
        json!({ "id": "refused", "steps": [{ "id": "send", "http": request("/gone") }] }),
        json!({ "id": "unreachable", "steps": [
            { "id": "send", "http": { "url": "http://127.0.0.1:1/{{ secrets.token }}" } },
        ] }),
        json!({ "id": "no-address", "steps": [
            { "id": "send", "http": { "url": "{{ secrets.token }}" } },
        ] }),
        json!({ "id": "no-value", "steps": [
            { "id": "send", "http": { "url": "http://h/{{ secrets.token | strftime('%Y') }}" } },
        ] }),
    ]
}

#[tokio::test]
async fn no_secret_shows_anywhere_outside_of_where_it_is_sealed() {
    let service = service().await;
    let admin = service.admin();
    let echo = Echo::start().await;
    let file = service.folder().join("given");
    let lines = "canaryline one\n}\ncanaryline two\n";
    let crm = json!({ "kind": "postgres", "host": "db", "database": "d", "user": "u",
                      "password": "canarypassword" });
    let mut told = keep(&admin, "secrets/token", json!({ "value": SECRET })).await;
    told += &keep(&admin, "secrets/lines", json!({ "value": lines })).await;
    told += &keep(&admin, "connections/crm", crm).await;
    for path in ["connections", "connections/crm", "secrets"] {
        let request = admin.request(Method::GET, &format!("/api/admin/v1/{path}"));
        told += &Answer::of(request).await.body;
    }
    let mut shown = String::new();
    for flow in flows(&echo.url, file.to_str().unwrap()) {
        admin.publish_json(&flow).await;
        let id = flow["id"].as_str().unwrap();
        let run = admin.start(id).await;
        let ended = Answer::of(admin.status_request(id, &run, "?await=true")).await;
        let expected = if id == "succeeds" {
            "Succeeded"
        } else {
            "Failed"
        };
        if ended.run_status() == "Failed" {
            shown += &service.run_error(&run).await.to_string();
        }
        assert_eq!(ended.run_status(), expected, "{id} {shown}");
        told += &ended.body;
    }

    // They got where they were meant to be, ...
    assert_eq!(fs::read_to_string(&file).unwrap(), SECRET);
    let seen = echo.seen.lock().unwrap().clone();
    assert!(
        seen.contains("t=canarysecret") && seen.contains("canaryline two"),
        "{seen}"
    );
    // ... what was printed of them shows as such, ...
    let stored = stored(&service).await;
    let logs = service.logs();
    assert!(
        stored.contains("***") && logs.contains("on stderr ***"),
        "{logs}"
    );
    assert!(shown.contains("***"), "{shown}");
    // ... and they are nowhere else.
    let mut metrics = service.apis[0].metrics().await;
    metrics += &service.workers[0].metrics().await;
    for (place, text) in [
        ("answers", &told),
        ("metrics", &metrics),
        ("Redis", &stored),
        ("logs", &logs),
    ] {
        for canary in CANARIES {
            let at = text.find(canary);
            let around = at.map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..]);
            assert_eq!(
                around.map(|text| &text[..text.len().min(300)]),
                None,
                "in {place}"
            );
        }
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_fails_the_step_by_name() {
    let mut service = service().await;
    let admin = service.admin();
    let flow = |id: &str, tag: &str| {
        let command = json!({ "program": "true", "env": { "X": "{{ secrets.missing }}" } });
        json!({ "id": id, "worker_tag": tag, "steps": [
            { "id": "a", "command": command,
              "retry": { "attempts": 5, "initial": "1s", "max": "1s" } },
        ] })
    };
    admin.publish_json(&flow("unknown", "default")).await;
    let run = admin.start("unknown").await;
    assert_eq!(admin.end("unknown", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "unknown_secret", "{error}");
    assert_eq!(error["message"], "there is no secret `missing`");

    let other = |key: &str, tag: &str| {
        [
            ("MILLSTREAM_TAGS", tag.to_owned()),
            ("MILLSTREAM_SECRETS_KEY", key.to_owned()),
        ]
    };
    keep(&admin, "secrets/missing", json!({ "value": "not-missing" })).await;
    assert_eq!(admin.run("unknown").await, "Succeeded");
    let key = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    service.add_worker_with(&other(key, "other")).await;
    admin.publish_json(&flow("other", "other")).await;
    let run = admin.start("other").await;
    assert_eq!(admin.end("other", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "sealed_secret", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("missing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_worker_without_a_key_for_secrets_says_so() {
    let service = Service::start(Setup {
        api: WITH_KEY,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    keep(&admin, "secrets/token", json!({ "value": SECRET })).await;
    let command = json!({ "program": "true", "env": { "X": "{{ secrets.token }}" } });
    let flow = json!({ "id": "f", "steps": [{ "id": "a", "command": command }] });
    admin.publish_json(&flow).await;
    let run = admin.start("f").await;
    assert_eq!(admin.end("f", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "no_secrets_key", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("`token`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_secret_where_it_would_be_kept_is_refused_with_its_place() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let text = "id: f
steps:
  - id: a
    command: { program: x, args: [\"{{ secrets.token }}\"] }
  - id: b
    set: { x: \"{{ secrets.token }}\" }
output: \"{{ secrets.token }}\"
";
    let answer = service.admin().put_flow("f", text).await;
    assert_eq!((answer.status, &*answer.code()), (422, "invalid_flow"));
    let errors = answer.json()["errors"].clone();
    let places = errors.as_array().unwrap().iter().map(|error| {
        assert!(
            error["message"].as_str().unwrap().contains("secret"),
            "{error}"
        );
        (
            error["line"].as_u64().unwrap(),
            error["column"].as_u64().unwrap(),
        )
    });
    assert_eq!(places.collect::<Vec<_>>(), [(4, 35), (6, 15), (7, 9)]);
}
