//! How safe an accepted start is, where a caller asks for more.

use std::process::Command;

use harness::{
    Answer, RedisNode, RedisSetup, SOON, Service, Setup, eventually, free_port, redis_servers,
};

use crate::flows::quick;

async fn service(redis: RedisSetup) -> Service {
    let service = Service::start(Setup {
        redis,
        ..Setup::default()
    })
    .await;
    service.admin().publish(&quick("hello")).await;
    service
}

async fn start(service: &Service, durability: &str) -> Answer {
    let query = format!("?durability={durability}");
    Answer::of(service.admin().start_request("hello", &query)).await
}

#[tokio::test]
async fn what_a_server_cannot_promise_is_refused_before_it_is_accepted() {
    let service = service(RedisSetup::default()).await;
    let open = "ms:{0}:ended:*";
    for durability in ["fsync", "replicated"] {
        let refused = start(&service, durability).await;
        assert_eq!((refused.status, &*refused.code()), (400, "not_supported"));
    }
    let ended: Vec<String> = service.redis.command(&["KEYS", open]).await;
    assert!(ended.is_empty(), "a refused start was executed");
    let plain = start(&service, "memory").await;
    assert_eq!(plain.header("x-durability"), "memory");
    let told = service.apis[0].readiness().await;
    assert!(told.contains("appendfsync everysec"), "{told}");
}

#[tokio::test]
async fn a_server_that_always_syncs_promises_it() {
    let service = service(RedisSetup::with(&["--appendfsync", "always"])).await;
    let answer = start(&service, "fsync").await;
    assert_eq!(
        (answer.status, answer.header("x-durability")),
        (200, "fsync")
    );
    let told = service.workers[0].readiness().await;
    assert!(told.contains("appendfsync always"), "{told}");
    // Who sends a start again, since the answer was lost, is told as much.
    for replayed in ["", "true"] {
        let start = service.admin().start_request("hello", "?durability=fsync");
        let answer = Answer::of(start.header("idempotency-key", "once")).await;
        assert_eq!(answer.header("idempotency-replayed"), replayed);
        assert_eq!(answer.header("x-durability"), "fsync");
    }
}

#[tokio::test]
async fn a_replica_that_has_the_start_is_told_of_and_one_that_is_silent_too() {
    let service = service(RedisSetup::with(&["--port", "0"])).await;
    let port = free_port();
    let listen = ["CONFIG", "SET", "port", &port.to_string()];
    let _: String = service.redis.command(&listen).await;
    let master = port.to_string();
    let replica = RedisNode::start(&["--replicaof", "127.0.0.1", &master]).await;
    let answer = eventually(SOON, "a start to be replicated", || async {
        let answer = start(&service, "replicated").await;
        (answer.header("x-durability") == "replicated").then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200);
    replica.freeze();
    let answer = start(&service, "replicated").await;
    assert_eq!(
        (answer.status, answer.header("x-durability")),
        (200, "memory")
    );
}

/// On every server at hand that has `WAITAOF`; `./dev test` gets some.
#[tokio::test]
async fn a_server_that_can_say_when_a_write_is_on_disk_is_asked() {
    for program in redis_servers() {
        // The last one leaves its writes to the operating system.
        for (appendfsync, reached) in [("everysec", "fsync"), ("no", "memory")] {
            let redis = RedisSetup {
                program: Some(program.clone()),
                ..RedisSetup::with(&["--appendfsync", appendfsync])
            };
            let service = service(redis).await;
            let ask = ["COMMAND", "INFO", "WAITAOF"];
            let known: Vec<redis::Value> = service.redis.command(&ask).await;
            let has_it = !matches!(known.first(), None | Some(redis::Value::Nil));
            let answer = start(&service, "fsync").await;
            let version = Command::new(&program).arg("--version").output().unwrap();
            let version = String::from_utf8_lossy(&version.stdout).into_owned();
            let expected = if has_it { (200, reached) } else { (400, "") };
            let told = (answer.status, answer.header("x-durability"));
            assert_eq!(told, expected, "{version} with appendfsync {appendfsync}");
        }
    }
}
