//! The routes of administration that scripts rely on.

use harness::{Answer, Service, Setup};
use reqwest::Method;
use serde_json::json;

use crate::flows::quick;

async fn service() -> Service {
    Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn publishing_a_flow_answers_its_id_and_version() {
    let service = service().await;
    let admin = service.admin();
    let first = admin.put_flow("sales", &quick("sales")).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.json(), json!({ "id": "sales", "version": 1 }));

    let changed = format!("{}description: changed\n", quick("sales"));
    let second = admin.put_flow("sales", &changed).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(second.json(), json!({ "id": "sales", "version": 2 }));
    let same = admin.put_flow("sales", &changed).await;
    assert_eq!(same.json(), json!({ "id": "sales", "version": 2 }));

    let flow = json!({ "id": "wages", "steps": [{ "id": "a", "set": { "x": 1 } }] });
    let as_json = admin.put_flow("wages", &flow.to_string()).await;
    assert_eq!(as_json.status, 201, "{as_json:?}");
}

#[tokio::test]
async fn a_flow_that_is_not_valid_is_422_and_says_where() {
    let service = service().await;
    let admin = service.admin();
    let text = "id: sales
steps:
  - id: one
    set: { x: 1 }
  - id: two
    needs: [nobody]
    set: { x: 1 }
    stray: 5
";
    let answer = admin.put_flow("sales", text).await;
    assert_eq!((answer.status, &*answer.code()), (422, "invalid_flow"));
    let told = answer.json();
    let errors = told["errors"].as_array().unwrap();
    assert!(!errors.is_empty());
    for error in errors {
        assert!(error["path"].is_string(), "{error}");
        assert!(error["line"].as_u64().unwrap() >= 5, "{error}");
        assert!(error["column"].as_u64().unwrap() >= 1, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
    }
    assert!(answer.body.contains("stray"), "{answer:?}");
    for text in ["", "id: [", "just text", "id: sales\nsteps: []\n"] {
        let answer = admin.put_flow("sales", text).await;
        assert_eq!(answer.status, 422, "{text}: {answer:?}");
    }
    let unpublished = Answer::of(admin.start_request("sales", "")).await;
    assert_eq!(unpublished.status, 404);
}

#[tokio::test]
async fn a_flow_is_published_under_its_own_id_only() {
    let service = service().await;
    let answer = service.admin().put_flow("wages", &quick("sales")).await;
    assert_eq!(answer.status, 422, "{answer:?}");
}

#[tokio::test]
async fn a_key_is_shown_once_and_deleted_by_its_id() {
    let service = service().await;
    let admin = service.admin();
    let key = json!({
        "name": "nightly", "set": "execution", "rights": ["start", "read"], "flows": ["sales"],
        "expires_at": "2099-01-01T00:00:00Z",
    });
    let request = admin.request(Method::POST, "/api/admin/v1/keys").json(&key);
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let told = answer.json();
    assert_eq!(told.as_object().unwrap().len(), 2, "{answer:?}");
    let (id, text) = (told["id"].as_str().unwrap(), told["key"].as_str().unwrap());
    assert!(text.starts_with(&format!("ms_{id}_")), "{answer:?}");

    let deleted = admin.delete_key(id).await;
    assert_eq!((deleted.status, &*deleted.body), (204, ""));
    let again = admin.delete_key(id).await;
    assert_eq!((again.status, &*again.code()), (404, "unknown_key"));
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_refused_by_member() {
    let service = service().await;
    let admin = service.admin();
    for (key, named) in [
        (json!({ "set": "execution", "flows": ["*"] }), "name"),
        (
            json!({ "name": "k", "set": "everything", "flows": ["*"] }),
            "set",
        ),
        (
            json!({ "name": "k", "set": "execution", "flows": ["a b"] }),
            "flows",
        ),
        (
            json!({ "name": "k", "set": "execution", "rights": ["fly"], "flows": ["*"] }),
            "rights",
        ),
        (
            json!({ "name": "k", "set": "monitoring", "rights": ["start"], "flows": ["*"] }),
            "rights",
        ),
        (
            json!({ "name": "k", "set": "execution", "flows": ["*"], "expires_at": "soon" }),
            "expires_at",
        ),
        (
            json!({ "name": "k", "set": "execution", "flows": ["*"], "stray": 1 }),
            "stray",
        ),
    ] {
        let request = admin.request(Method::POST, "/api/admin/v1/keys").json(&key);
        let answer = Answer::of(request).await;
        assert!(matches!(answer.status, 400 | 422), "{key}: {answer:?}");
        assert!(answer.body.contains(named), "{key}: {answer:?}");
    }
}
