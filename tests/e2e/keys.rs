//! Keys: a revocation takes effect everywhere at once, and no key is ever
//! written down.

use std::time::{Duration, Instant};

use harness::{Answer, SOON, Service, Setup, eventually};
use serde_json::json;

use crate::flows::{failing, quick};

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_api_within_a_second() {
    let service = Service::start(Setup {
        apis: 2,
        workers: 0,
        ..Setup::default()
    })
    .await;
    let (one, other) = (service.admin_at(0), service.admin_at(1));
    one.publish(&quick("hello")).await;
    for _ in 0..5 {
        let (id, key) = one
            .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"] }))
            .await;
        let (here, there) = (one.with_key(&key), other.with_key(&key));
        // Both have the key at hand by now.
        for caller in [&here, &there, &here, &there] {
            caller.start("hello").await;
        }
        assert_eq!(one.delete_key(&id).await.status, 204);
        let revoked = Instant::now();
        for caller in [&here, &there] {
            let left = Duration::from_secs(1).saturating_sub(revoked.elapsed());
            eventually(left, "the key to be refused", || async {
                let answer = Answer::of(caller.start_request("hello", "")).await;
                (answer.status == 401).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_revocation_also_reaches_an_api_that_had_lost_its_subscription() {
    let service = Service::start(Setup {
        apis: 2,
        workers: 0,
        ..Setup::default()
    })
    .await;
    let (one, other) = (service.admin_at(0), service.admin_at(1));
    one.publish(&quick("hello")).await;
    let (id, key) = one
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"] }))
        .await;
    let there = other.with_key(&key);
    there.start("hello").await;
    let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
    let _: i64 = service.redis.command(&kill).await;
    assert_eq!(one.delete_key(&id).await.status, 204);
    eventually(SOON, "the key to be refused", || async {
        let answer = Answer::of(there.start_request("hello", "")).await;
        (answer.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_key_reaches_a_log_an_error_a_metric_or_redis() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    admin.publish(&failing("failing")).await;
    let (_, key) = admin
        .create_key(json!({ "name": "canary", "set": "execution", "flows": ["hello", "failing"] }))
        .await;
    let secret = key.rsplit('_').next().unwrap().to_owned();
    let wrong = "canary-that-is-no-key";
    let caller = admin.without_key();
    let mut told = String::new();
    for key in [&*key, wrong] {
        for query in [
            format!("?api_key={key}&await=true"),
            format!("?API_KEY={key}&await=perhaps"),
            format!("?api_key={key}&api_key=other"),
        ] {
            for flow in ["hello", "failing", "no-such-flow"] {
                told += &Answer::of(caller.start_request(flow, &query)).await.body;
            }
        }
        let path = format!("/no/such/route?api_key={key}");
        told += &Answer::of(caller.request(reqwest::Method::GET, &path))
            .await
            .body;
        told += &Answer::of(caller.with_key(key).start_request("hello", ""))
            .await
            .body;
    }
    let metrics = service.apis[0].metrics().await;
    assert!(metrics.contains("millstream"), "{metrics}");
    let stored = stored(&service).await;
    assert!(stored.contains("canary"), "the name of the key is stored");
    let logs = service.logs();
    for text in [&told, &metrics, &stored, &logs] {
        for shown in [&*secret, wrong, service.admin_key()] {
            assert!(!text.contains(shown), "`{shown}` is in:\n{text}");
        }
    }
}

/// Every key and value in Redis.
pub(crate) async fn stored(service: &Service) -> String {
    let keys: Vec<String> = service.redis.command(&["KEYS", "*"]).await;
    let mut stored = String::new();
    for key in keys {
        let kind: String = service.redis.command(&["TYPE", &key]).await;
        let words: &[&str] = match &*kind {
            "string" => &["GET", &key],
            "hash" => &["HGETALL", &key],
            "stream" => &["XRANGE", &key, "-", "+"],
            "zset" => &["ZRANGE", &key, "0", "-1"],
            "set" => &["SMEMBERS", &key],
            "list" => &["LRANGE", &key, "0", "-1"],
            other => panic!("`{key}` is a {other}"),
        };
        let value: redis::Value = service.redis.command(words).await;
        stored += &format!("{key} {}\n", readable(&value));
    }
    stored
}

fn readable(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(values) => values.iter().map(|v| readable(v) + " ").collect(),
        other => format!("{other:?}"),
    }
}
