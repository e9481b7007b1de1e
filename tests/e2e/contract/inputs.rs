//! The body of a start: inputs, checked against what the flow declares.

use harness::{Answer, Client, Service, Setup};
use serde_json::{Value, json};

const FLOW: &str = "id: typed
inputs:
  day: { type: date, required: true }
  count: { type: integer, default: 1 }
  share: { type: number }
  full: { type: boolean, default: false }
  region: { type: string, enum: [north, south], default: north }
steps:
  - id: all
    set: { all: \"{{ inputs }}\" }
";

async fn service(api: &'static [(&'static str, &'static str)]) -> Service {
    let service = Service::start(Setup {
        workers: 0,
        api,
        ..Setup::default()
    })
    .await;
    service.admin().publish(FLOW).await;
    service
}

async fn start(caller: &Client, body: impl Into<String>) -> Answer {
    Answer::of(caller.start_request("typed", "").body(body.into())).await
}

/// The members that a refusal names.
fn named(answer: &Answer) -> Vec<String> {
    let told = answer.json();
    let errors = told["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer:?}"));
    let name = |error: &Value| error["name"].as_str().unwrap().to_owned();
    errors.iter().map(name).collect()
}

#[tokio::test]
async fn values_that_fit_are_taken_also_where_they_are_spelled_as_text() {
    let service = service(&[]).await;
    let admin = service.admin();
    for inputs in [
        json!({ "day": "2026-11-24" }),
        json!({ "day": "2026-11-24", "count": 5, "share": 0.5, "full": true, "region": "south" }),
        json!({ "day": "2026-11-24", "count": "5", "share": "0.5", "full": "true" }),
    ] {
        let answer = start(&admin, json!({ "inputs": inputs }).to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn each_input_that_does_not_fit_is_named() {
    let service = service(&[]).await;
    let admin = service.admin();
    for (inputs, wrong) in [
        (json!({}), "day"),
        (json!({ "day": "24.11.2026" }), "day"),
        (json!({ "day": "2026-11-24", "count": 1.5 }), "count"),
        (json!({ "day": "2026-11-24", "count": "many" }), "count"),
        (json!({ "day": "2026-11-24", "share": "half" }), "share"),
        (json!({ "day": "2026-11-24", "full": "perhaps" }), "full"),
        (json!({ "day": "2026-11-24", "region": "east" }), "region"),
        (json!({ "day": "2026-11-24", "stray": 1 }), "stray"),
    ] {
        let answer = start(&admin, json!({ "inputs": inputs }).to_string()).await;
        assert_eq!((answer.status, &*answer.code()), (400, "invalid_inputs"));
        let named = named(&answer);
        assert_eq!(named.len(), 1, "{answer:?}");
        assert!(named[0].contains(wrong), "{answer:?}");
    }
    let many = json!({ "inputs": { "count": "x", "stray": 1 } });
    let answer = start(&admin, many.to_string()).await;
    let mut names = named(&answer);
    names.sort();
    assert_eq!(names.len(), 3, "{answer:?}");
    for (name, wrong) in names.iter().zip(["count", "day", "stray"]) {
        assert!(name.contains(wrong), "{names:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_of_known_members_is_400() {
    let service = service(&[]).await;
    let admin = service.admin();
    for body in ["{", "inputs", "{\"inputs\": }", "{} {}", "\u{1}"] {
        let answer = start(&admin, body).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "invalid_json"),
            "{body}"
        );
    }
    for body in [
        "[]",
        "1",
        "\"text\"",
        r#"{"inputs": []}"#,
        r#"{"stray": 1}"#,
    ] {
        let answer = start(&admin, body).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "invalid_body"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_or_not_it_says_its_length() {
    let service = service(&[("MILLSTREAM_BODY_LIMIT", "2KiB")]).await;
    let admin = service.admin();
    let body = |length: usize| {
        let body = json!({ "inputs": { "day": "2026-11-24" } }).to_string();
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    assert_eq!(start(&admin, body(2048)).await.status, 200);
    let over = start(&admin, body(2049)).await;
    assert_eq!((over.status, &*over.code()), (413, "body_too_large"));
    let large = start(&admin, body(4_000_000)).await;
    assert_eq!(large.status, 413);

    let parts = (0..100).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    let unsaid = Answer::of(admin.start_request("typed", "").body(stream)).await;
    assert_eq!((unsaid.status, &*unsaid.code()), (413, "body_too_large"));
}
