//! Every refusal is a problem document with the status that fits, unless the
//! callers know only one status.

use harness::{Answer, PrivateRedis, SOON, Service, Setup, eventually};
use reqwest::Method;
use serde_json::json;

use crate::flows::quick;

/// Checks the members that every problem has.
fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let told = answer.json();
    assert_eq!(told["status"], status, "{answer:?}");
    assert_eq!(told["code"], code, "{answer:?}");
    for member in ["type", "title", "detail"] {
        assert!(told[member].is_string(), "{answer:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_404() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    admin.publish(&quick("wages")).await;
    let run = admin.start("sales").await;
    let never = "018f0e7a-0000-7000-8000-000000000000";

    let answer = Answer::of(admin.start_request("no-such-flow", "")).await;
    problem(&answer, 404, "unknown_flow");
    for (flow, run, query) in [
        ("sales", never, ""),
        ("sales", never, "?await=true"),
        ("wages", &*run, ""),
        ("wages", &*run, "?await=true"),
        ("no-such-flow", &*run, ""),
    ] {
        let answer = Answer::of(admin.status_request(flow, run, query)).await;
        problem(&answer, 404, "unknown_run");
    }
    for path in [
        "/",
        "/api/pub/v1/dataflows/sales",
        "/api/pub/v1/dataflows/sales/runs/not-a-uuid/status",
        "/api/pub/v1/dataflows/-sales/runs/018f0e7a-0000-7000-8000-000000000000/status",
        "/api/pub/v2/dataflows/sales/start",
    ] {
        let answer = Answer::of(admin.request(Method::GET, path)).await;
        problem(&answer, 404, "not_found");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_and_names_the_right_one() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    let run = admin.start("sales").await;
    let start = "/api/pub/v1/dataflows/sales/start".to_owned();
    let status = format!("/api/pub/v1/dataflows/sales/runs/{run}/status");
    let key = "/api/admin/v1/keys/some".to_owned();
    for (method, path, allowed) in [
        (Method::GET, &start, "POST"),
        (Method::PUT, &start, "POST"),
        (Method::POST, &status, "GET"),
        (Method::GET, &key, "DELETE"),
    ] {
        let answer = Answer::of(admin.request(method, path)).await;
        problem(&answer, 405, "method_not_allowed");
        assert!(answer.header("allow").contains(allowed), "{answer:?}");
    }
}

#[tokio::test]
async fn a_parameter_that_makes_no_sense_is_400_and_named() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    for (query, name) in [
        ("?await=perhaps", "`await`"),
        ("?await=true&timeout=soon", "`timeout`"),
        ("?await=true&timeout=-1", "`timeout`"),
        ("?delay=later", "`delay`"),
        ("?at=tomorrow", "`at`"),
        ("?delay=1&at=2030-01-01T00:00:00Z", "`at`"),
        ("?priority=urgent", "`priority`"),
    ] {
        let answer = Answer::of(admin.start_request("sales", query)).await;
        problem(&answer, 400, "invalid_parameter");
        assert!(answer.body.contains(name), "{answer:?}");
    }
}

#[tokio::test]
async fn in_legacy_mode_every_refusal_is_500() {
    let service = Service::start(Setup {
        api: &[
            ("MILLSTREAM_ERROR_MODE", "legacy"),
            ("MILLSTREAM_BODY_LIMIT", "1KiB"),
        ],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    assert_eq!(admin.run("sales").await, "Succeeded");
    let nobody = admin.without_key();
    for request in [
        nobody.start_request("sales", ""),
        admin.start_request("no-such-flow", ""),
        admin.start_request("sales", "?api_key=another"),
        admin.start_request("sales", "").body("{"),
        admin.start_request("sales", "").body("x".repeat(2000)),
        admin
            .start_request("sales", "")
            .json(&json!({ "inputs": { "stray": 1 } })),
        admin.request(Method::GET, "/api/pub/v1/dataflows/sales/start"),
        admin.request(Method::GET, "/no/such/route"),
    ] {
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(answer.json()["status"], 500, "{answer:?}");
        assert!(!answer.code().is_empty());
    }
}

#[tokio::test]
async fn a_service_without_redis_is_500_says_when_to_come_back_and_recovers() {
    let mut service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    let run = admin.start("sales").await;
    admin.end("sales", &run).await;

    service.redis.kill();
    for request in [
        admin.start_request("sales", ""),
        admin.start_request("sales", "?await=true"),
        admin.status_request("sales", &run, ""),
    ] {
        let answer = Answer::of(request).await;
        problem(&answer, 500, "unavailable");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        let told = answer.body.to_lowercase();
        assert!(!told.contains("redis") && !told.contains("sock"), "{told}");
    }
    let api = &service.apis[0];
    eventually(SOON, "the API to say that it is not ready", || async {
        (!api.is_ready().await).then_some(())
    })
    .await;

    service.redis.restart();
    eventually(SOON, "the service to recover", || async {
        let answer = Answer::of(admin.start_request("sales", "?await=true&timeout=5")).await;
        (answer.status == 200 && answer.run_status() == "Succeeded").then_some(())
    })
    .await;
    assert_eq!(admin.status("sales", &run).await, "Succeeded");
    let (api, worker) = (&service.apis[0], &service.workers[0]);
    eventually(SOON, "API and worker to be ready again", || async {
        (api.is_ready().await && worker.is_ready().await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_program_refuses_a_redis_that_may_forget_runs() {
    let redis = PrivateRedis::start();
    let set = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    redis.command::<String>(&set).await;
    let folder = tempfile::tempdir().unwrap();
    for program in ["millstream-api", "millstream-worker"] {
        let settings = [
            ("MILLSTREAM_REDIS_URL", redis.url()),
            ("MILLSTREAM_LISTEN", "127.0.0.1:0".to_owned()),
            ("MILLSTREAM_OPS_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let mut process = harness::Process::start(program, program, folder.path(), &[], &settings);
        assert!(!process.ended().await.success());
        assert!(process.log().contains("noeviction"), "{}", process.log());
    }
}

#[tokio::test]
async fn a_bad_setting_stops_the_start_with_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for (program, setting, value) in [
        ("millstream-api", "MILLSTREAM_LISTEN", "nowhere"),
        ("millstream-api", "MILLSTREAM_AWAIT_KEEPALIVE", "ten"),
        ("millstream-worker", "MILLSTREAM_LEASE", "long"),
        ("millstream-worker", "MILLSTREAM_SLOTS", "many"),
        ("millstream-worker", "MILLSTREAM_HTTP_ALLOW", "10.0.0.0/99"),
    ] {
        let settings = [(setting, value.to_owned())];
        let mut process = harness::Process::start(program, setting, folder.path(), &[], &settings);
        assert!(!process.ended().await.success());
        let log = process.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains(value), "{log}");
    }
}
