//! Administration of connections and secrets.

use harness::{Answer, Client, Redis, Service, Setup};
use reqwest::Method;
use serde_json::{Value, json};

const OLD_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const BOTH_KEYS: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=,\
                         MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

const WITH_OLD: &[(&str, &str)] = &[("MILLSTREAM_SECRETS_KEY", OLD_KEY)];
const WITH_NEW: &[(&str, &str)] = &[("MILLSTREAM_SECRETS_KEY", NEW_KEY)];
const WITH_BOTH: &[(&str, &str)] = &[("MILLSTREAM_SECRETS_KEY", BOTH_KEYS)];

/// The Redis of another service.
struct Shared(String);

impl Redis for Shared {
    fn url(&self) -> String {
        self.0.clone()
    }
}

fn setup(api: &'static [(&'static str, &'static str)]) -> Setup {
    Setup {
        workers: 0,
        api,
        ..Setup::default()
    }
}

async fn call(caller: &Client, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = caller.request(method, &format!("/api/admin/v1/{path}"));
    Answer::of(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

async fn put(caller: &Client, path: &str, body: Value) -> Answer {
    call(caller, Method::PUT, path, Some(&body)).await
}

async fn get(caller: &Client, path: &str) -> Answer {
    call(caller, Method::GET, path, None).await
}

async fn delete(caller: &Client, path: &str) -> Answer {
    call(caller, Method::DELETE, path, None).await
}

async fn reseal(caller: &Client) -> Answer {
    call(caller, Method::POST, "secrets/reseal", None).await
}

fn crm(password: Option<&str>) -> Value {
    let mut crm = json!({ "kind": "postgres", "host": "db", "database": "crm", "user": "u" });
    if let Some(password) = password {
        crm["password"] = json!(password);
    }
    crm
}

#[tokio::test]
async fn a_connection_is_kept_whole_and_shown_without_its_secrets() {
    let service = Service::start(setup(WITH_OLD)).await;
    let admin = service.admin();
    let made = put(&admin, "connections/crm", crm(Some("hush-hush"))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let shown = json!({ "name": "crm", "kind": "postgres", "host": "db", "database": "crm",
                        "user": "u", "tls": "prefer", "secrets": ["password"] });
    assert_eq!(made.json(), shown);
    let again = put(&admin, "connections/crm", crm(Some("hush-hush"))).await;
    assert_eq!((again.status, again.json()), (200, shown.clone()));
    assert_eq!(get(&admin, "connections/crm").await.json(), shown);

    let file = json!({ "kind": "sqlite", "path": "a.db" });
    assert_eq!(put(&admin, "connections/a-file", file).await.status, 201);
    let list = get(&admin, "connections").await;
    let file = json!({ "name": "a-file", "kind": "sqlite", "path": "a.db", "secrets": [] });
    assert_eq!(list.json(), json!({ "connections": [file, shown] }));

    // What a body leaves out is not taken from what was there.
    let without = put(&admin, "connections/crm", crm(None)).await;
    assert_eq!(without.json()["secrets"], json!([]));

    assert_eq!(delete(&admin, "connections/crm").await.status, 204);
    for answer in [
        delete(&admin, "connections/crm").await,
        get(&admin, "connections/crm").await,
        get(&admin, "connections/a%20b").await,
        delete(&admin, "connections/a%20b").await,
    ] {
        assert_eq!(
            (answer.status, &*answer.code()),
            (404, "unknown_connection")
        );
    }
}

#[tokio::test]
async fn a_connection_that_makes_no_sense_is_refused_by_member_and_without_its_secrets() {
    let service = Service::start(setup(WITH_OLD)).await;
    let admin = service.admin();
    for (body, named) in [
        (json!({ "kind": "canary" }), "kind"),
        (json!({ "kind": "postgres", "password": "canary" }), "host"),
        (json!({ "kind": "sqlite", "path": ["canary"] }), "path"),
        (
            json!({ "kind": "sqlite", "path": "a", "pasword": "canary" }),
            "pasword",
        ),
        (
            json!({ "kind": "http", "url": "https://u:canary@h" }),
            "url",
        ),
        (
            json!({ "kind": "http", "url": "https://h", "token": 5 }),
            "token",
        ),
        (json!(["canary"]), "body"),
    ] {
        let answer = put(&admin, "connections/c", body.clone()).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (422, "invalid_connection")
        );
        assert_eq!(answer.json()["errors"][0]["name"], named, "{answer:?}");
        assert!(!answer.body.contains("canary"), "{answer:?}");
    }
    let named = put(&admin, "connections/1st", crm(None)).await;
    assert_eq!((named.status, &*named.code()), (422, "invalid_connection"));
    assert_eq!(named.json()["errors"][0]["name"], "name");
    for body in [
        r#"{"kind": "postgres", "password": "canary"#,
        r#"{"password": canary}"#,
        "canary",
        "",
    ] {
        for path in ["connections/c", "secrets/s"] {
            let request = admin.request(Method::PUT, &format!("/api/admin/v1/{path}"));
            let answer = Answer::of(request.body(body)).await;
            assert_eq!((answer.status, &*answer.code()), (400, "invalid_json"));
            assert!(!answer.body.contains("canary"), "{answer:?}");
        }
    }
    assert_eq!(
        get(&admin, "connections").await.json(),
        json!({ "connections": [] })
    );
    assert!(!service.logs().contains("canary"));
}

#[tokio::test]
async fn of_secrets_only_the_names_are_told() {
    let service = Service::start(setup(WITH_OLD)).await;
    let admin = service.admin();
    let value = |value: &str| json!({ "value": value });
    let made = put(&admin, "secrets/token", value("hush-hush")).await;
    assert_eq!(
        (made.status, made.json()),
        (201, json!({ "name": "token" }))
    );
    let again = put(&admin, "secrets/token", value("hush-hush")).await;
    assert_eq!(
        (again.status, again.json()),
        (200, json!({ "name": "token" }))
    );
    // A secret may be called what stands for an action.
    let longest = "x".repeat(64 * 1024);
    let longest = put(&admin, "secrets/reseal", value(&longest)).await;
    assert_eq!(longest.status, 201, "{longest:?}");
    let list = get(&admin, "secrets").await;
    assert_eq!(list.json(), json!({ "secrets": ["reseal", "token"] }));
    let read = get(&admin, "secrets/token").await;
    assert_eq!(
        (read.status, read.header("allow")),
        (405, "PUT,DELETE,POST")
    );

    for (path, body, named) in [
        ("secrets/a-b", value("hush-hush"), "name"),
        ("secrets/s", value("cnr"), "value"),
        ("secrets/s", value(&"canary".repeat(11_000)), "value"),
        ("secrets/s", json!({ "value": ["canary"] }), "value"),
        ("secrets/s", json!({}), "value"),
        (
            "secrets/s",
            json!({ "value": "canary", "stray": "canary" }),
            "stray",
        ),
    ] {
        let answer = put(&admin, path, body).await;
        assert_eq!((answer.status, &*answer.code()), (422, "invalid_secret"));
        assert_eq!(answer.json()["errors"][0]["name"], named, "{answer:?}");
        let is_told = answer.body.contains("canary") || answer.body.contains("cnr");
        assert!(!is_told, "{answer:?}");
    }
    assert_eq!(delete(&admin, "secrets/token").await.status, 204);
    for path in ["secrets/token", "secrets/a-b"] {
        let gone = delete(&admin, path).await;
        assert_eq!((gone.status, &*gone.code()), (404, "unknown_secret"));
    }
    let elsewhere = call(&admin, Method::POST, "secrets/token", None).await;
    assert_eq!((elsewhere.status, &*elsewhere.code()), (404, "not_found"));
}

#[tokio::test]
async fn without_a_key_for_secrets_every_route_says_so() {
    let service = Service::start(setup(&[])).await;
    let admin = service.admin();
    for answer in [
        put(&admin, "connections/crm", crm(None)).await,
        get(&admin, "connections/crm").await,
        get(&admin, "connections").await,
        delete(&admin, "connections/crm").await,
        put(&admin, "secrets/token", json!({ "value": "hush-hush" })).await,
        get(&admin, "secrets").await,
        delete(&admin, "secrets/token").await,
        reseal(&admin).await,
    ] {
        assert_eq!((answer.status, &*answer.code()), (409, "no_secrets_key"));
        assert!(answer.body.contains("MILLSTREAM_SECRETS_KEY"), "{answer:?}");
    }
}

#[tokio::test]
async fn only_a_key_of_administration_may_ask() {
    let service = Service::start(setup(WITH_OLD)).await;
    let admin = service.admin();
    let key = json!({ "name": "k", "set": "execution", "flows": ["*"] });
    let (_, key) = admin.create_key(key).await;
    for (caller, status) in [(admin.with_key(&key), 403), (admin.without_key(), 401)] {
        for answer in [
            put(&caller, "connections/crm", crm(None)).await,
            get(&caller, "connections/crm").await,
            get(&caller, "connections").await,
            delete(&caller, "connections/crm").await,
            put(&caller, "secrets/token", json!({ "value": "hush-hush" })).await,
            get(&caller, "secrets").await,
            delete(&caller, "secrets/token").await,
            reseal(&caller).await,
        ] {
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn the_key_for_secrets_is_replaced_step_by_step() {
    let service = Service::start(setup(WITH_OLD)).await;
    let old = service.admin();
    put(&old, "connections/crm", crm(Some("hush-hush"))).await;
    put(&old, "secrets/token", json!({ "value": "hush-hush" })).await;
    let at = |api| Service::start_on(Shared(service.redis.url()), setup(api));

    let too_early = at(WITH_NEW).await;
    let answer = get(&too_early.admin(), "connections/crm").await;
    assert_eq!((answer.status, &*answer.code()), (409, "other_secrets_key"));
    let list = get(&too_early.admin(), "connections").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.json()["connections"][0]["name"], "crm");
    assert!(
        list.json()["connections"][0]["error"].is_string(),
        "{list:?}"
    );
    assert_eq!(reseal(&too_early.admin()).await.code(), "other_secrets_key");

    let both = at(WITH_BOTH).await;
    assert_eq!(reseal(&both.admin()).await.json(), json!({ "resealed": 2 }));
    assert_eq!(reseal(&both.admin()).await.json(), json!({ "resealed": 0 }));
    let moved = get(&too_early.admin(), "connections/crm").await;
    assert_eq!(moved.json()["secrets"], json!(["password"]), "{moved:?}");
    assert_eq!(
        get(&old, "connections/crm").await.code(),
        "other_secrets_key"
    );
}

#[tokio::test]
async fn a_sealed_value_that_somebody_changed_is_a_fault() {
    let service = Service::start(setup(WITH_OLD)).await;
    let admin = service.admin();
    put(&admin, "connections/crm", crm(Some("hush-hush"))).await;
    // A value that was sealed under another name does not open.
    let hash = "ms:{0}:connections";
    let sealed: String = service.redis.command(&["HGET", hash, "crm"]).await;
    let _: i64 = service
        .redis
        .command(&["HSET", hash, "other", &sealed])
        .await;
    let answer = get(&admin, "connections/other").await;
    assert_eq!((answer.status, &*answer.code()), (500, "corrupt_record"));
    assert_eq!(get(&admin, "connections/crm").await.status, 200);
}
