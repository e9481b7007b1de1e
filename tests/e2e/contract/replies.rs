//! A start and a status answer with exactly two members.

use harness::{Answer, SOON, Service, Setup, eventually};
use serde_json::Value;

use crate::flows::{failing, gated, quick};

const GUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Checks that the body is the two members and nothing else, and returns the
/// run and the status.
fn two_members(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let Value::Object(members) = answer.json() else {
        panic!("not an object: {answer:?}");
    };
    let names: Vec<_> = members.keys().map(String::as_str).collect();
    assert_eq!(names, ["runId", "status"], "{answer:?}");
    let run = answer.run_id();
    let id = uuid::Uuid::parse_str(&run).unwrap();
    assert_eq!(id.get_version_num(), 7, "{run}");
    assert_eq!(id.to_string(), run, "the usual form of a UUID");
    (run, answer.run_status())
}

#[tokio::test]
async fn a_start_answers_run_and_status_for_plain_words_and_guids() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    for id in ["updatesales", GUID, "a.b_c-d", "7"] {
        admin.publish(&quick(id)).await;
        let answer = Answer::of(admin.start_request(id, "")).await;
        let (run, status) = two_members(&answer);
        assert_eq!(status, "Pending");

        let answer = Answer::of(admin.status_request(id, &run, "")).await;
        assert_eq!(two_members(&answer), (run, "Pending".to_owned()));
    }
}

#[tokio::test]
async fn a_start_says_in_its_head_where_the_run_is() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let answer = Answer::of(admin.start_request("hello", "")).await;
    let run = answer.run_id();
    assert_eq!(answer.header("x-run-id"), run);
    let location = answer.header("location");
    assert_eq!(
        location,
        format!("/api/pub/v1/dataflows/hello/runs/{run}/status")
    );
    let there = Answer::of(admin.request(reqwest::Method::GET, location)).await;
    assert_eq!(there.run_id(), run);
}

#[tokio::test]
async fn every_body_that_says_nothing_starts_the_flow() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    for body in ["", "{}", r#"{"inputs":{}}"#, r#"{"inputs":null}"#] {
        let request = admin.start_request("hello", "?await=true").body(body);
        let (_, status) = two_members(&Answer::of(request).await);
        assert_eq!(status, "Succeeded", "{body}");
    }
}

#[tokio::test]
async fn a_status_is_one_of_four_words() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("slow", &gate)).await;
    admin.publish(&failing("failing")).await;

    let run = admin.start("slow").await;
    assert_eq!(admin.status("slow", &run).await, "Pending");
    service.add_worker().await;
    gate.reached_by(1).await;
    assert_eq!(admin.status("slow", &run).await, "Running");
    gate.open();
    eventually(SOON, "the end of the run", || async {
        (admin.status("slow", &run).await == "Succeeded").then_some(())
    })
    .await;

    let failed = Answer::of(admin.start_request("failing", "?await=true")).await;
    let (run, status) = two_members(&failed);
    assert_eq!(status, "Failed");
    assert_eq!(admin.status("failing", &run).await, "Failed");
    assert_eq!(admin.end("failing", &run).await, "Failed");
}

#[tokio::test]
async fn everything_stands_under_the_base_path() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_BASE_PATH", "/invision")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let put = admin
        .request(
            reqwest::Method::PUT,
            "/invision/api/admin/v1/dataflows/hello",
        )
        .body(quick("hello"));
    assert_eq!(Answer::of(put).await.status, 201);
    let path = "/invision/api/pub/v1/dataflows/hello/start?await=true";
    let answer = Answer::of(admin.request(reqwest::Method::POST, path)).await;
    let (_, status) = two_members(&answer);
    assert_eq!(status, "Succeeded");
    let location = answer.header("location");
    assert!(location.starts_with("/invision/api/pub/v1/"), "{location}");
    let there = Answer::of(admin.request(reqwest::Method::GET, location)).await;
    assert_eq!(two_members(&there).1, "Succeeded");

    let outside = Answer::of(admin.start_request("hello", "")).await;
    assert_eq!(outside.status, 404);
}
