//! What a run hands back, however large: the route gives it, and Redis does not
//! hold what is large.

use harness::{Answer, Service, Setup};
use serde_json::json;

use super::{artifacts, ending, large_output};
use crate::flows::{failing, gated, quick};

#[tokio::test]
async fn a_large_output_streams_from_the_artifact_store() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&large_output("large", 200, &service)).await;
    let answer = Answer::of(admin.start_request("large", "?await=true")).await;
    let run = answer.run_id();
    // The answer to a wait is what it always was.
    assert_eq!(
        answer.json(),
        json!({ "runId": run, "status": "Succeeded" })
    );

    let output = admin.output("large", &run).await;
    assert_eq!(output.status, 200, "{output:?}");
    assert_eq!(output.json(), json!({ "text": "x".repeat(200_000) }));
    assert_eq!(output.header("content-type"), "application/json");
    assert_eq!(
        output.header("content-length"),
        output.body.len().to_string()
    );
    let known = admin.output_request("large", &run);
    let known = known.header("if-none-match", output.header("etag"));
    let known = Answer::of(known).await;
    assert_eq!((known.status, &*known.body), (304, ""));

    // Redis holds neither the output nor the value that it came from.
    for key in ["", ":steps"].map(|end| format!("ms:{{0}}:run:{run}{end}")) {
        let bytes: u64 = service.redis.command(&["MEMORY", "USAGE", &key]).await;
        assert!(bytes < 10_000, "{key} takes {bytes} bytes");
    }
    assert_eq!(ending(&service, ".output.json").len(), 1);
    assert_eq!(ending(&service, ".big.1.value.json").len(), 1);
}

#[tokio::test]
async fn a_small_output_stays_in_redis_and_is_had_the_same_way() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let flow = quick("hello") + "output: { said: \"{{ steps.greet.value.text }}\" }\n";
    admin.publish(&flow).await;
    let run = admin.start("hello").await;
    admin.end("hello", &run).await;
    let output = admin.output("hello", &run).await;
    assert_eq!(output.json(), json!({ "said": "hello world" }));
    assert_eq!(
        output.header("content-length"),
        output.body.len().to_string()
    );
    assert!(!output.header("etag").is_empty());
    assert_eq!(artifacts(&service).len(), 0);
}

#[tokio::test]
async fn an_output_that_is_not_there_is_told_apart() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    admin.publish(&gated("waits", &gate)).await;
    admin.publish(&failing("fails")).await;
    admin.publish(&large_output("large", 200, &service)).await;
    let refused = async |flow: &str, run: &str| {
        let answer = admin.output(flow, run).await;
        (answer.status, answer.code())
    };
    let waits = admin.start("waits").await;
    assert_eq!(refused("waits", &waits).await, (404, "not_ended".into()));
    gate.open();
    admin.end("waits", &waits).await;
    assert_eq!(refused("waits", &waits).await, (404, "no_output".into()));
    let fails = admin.start("fails").await;
    admin.end("fails", &fails).await;
    assert_eq!(refused("fails", &fails).await, (404, "no_output".into()));
    assert_eq!(refused("large", &fails).await, (404, "unknown_run".into()));

    let large = admin.start("large").await;
    admin.end("large", &large).await;
    let (_, key) = admin
        .create_key(json!({ "name": "k", "set": "execution", "rights": ["start"], "flows": ["*"] }))
        .await;
    let starter = admin.with_key(&key).output("large", &large).await;
    assert_eq!(starter.status, 403);

    let artifact = ending(&service, ".output.json").pop().unwrap();
    let mut bytes = std::fs::read(&artifact).unwrap();
    bytes[100_000] = b'y';
    std::fs::write(&artifact, &bytes).unwrap();
    // What is damaged is never taken for whole.
    let broken = admin.output_request("large", &large).send().await;
    let broken = match broken.unwrap() {
        answer if answer.status() == 410 => None,
        answer => Some(answer.text().await),
    };
    assert!(broken.is_none_or(|text| text.is_err()));
    std::fs::write(&artifact, &bytes[..50_000]).unwrap();
    assert_eq!(refused("large", &large).await, (410, "output_gone".into()));
    std::fs::remove_file(&artifact).unwrap();
    assert_eq!(refused("large", &large).await, (410, "output_gone".into()));
}

#[tokio::test]
async fn without_an_artifact_store_what_fits_into_redis_works_and_the_rest_names_the_setting() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_ARTIFACTS", "")],
        worker: &[("MILLSTREAM_ARTIFACTS", "")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&large_output("fits", 200, &service)).await;
    let run = admin.start("fits").await;
    assert_eq!(admin.end("fits", &run).await, "Succeeded");
    let output = admin.output("fits", &run).await;
    assert_eq!(output.json(), json!({ "text": "x".repeat(200_000) }));

    let twice = "{ text: \"{{ steps.big.value.stdout ~ steps.big.value.stdout }}\" }";
    let flow = large_output("too_large", 200, &service);
    let flow = flow.replace("{ text: \"{{ steps.big.value.stdout }}\" }", twice);
    admin.publish(&flow).await;
    let run = admin.start("too_large").await;
    assert_eq!(admin.end("too_large", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "output_too_large");
    assert!(
        error.to_string().contains("MILLSTREAM_ARTIFACTS"),
        "{error}"
    );

    std::fs::write(service.files().join("in.csv"), "a\n1\n").unwrap();
    let flow = "id: keeps\nsteps:\n  - { id: rows, keep: true, read: { path: in.csv } }\n";
    admin.publish(flow).await;
    let run = admin.start("keeps").await;
    assert_eq!(admin.end("keeps", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "no_artifact_store");
    assert_eq!(error["step"], "rows");
    assert!(
        error.to_string().contains("MILLSTREAM_ARTIFACTS"),
        "{error}"
    );
}

#[tokio::test]
async fn an_output_or_value_over_its_size_is_refused_by_the_name_of_the_setting() {
    let service = Service::start(Setup {
        worker: &[
            ("MILLSTREAM_VALUE_SIZE", "150KiB"),
            ("MILLSTREAM_OUTPUT_SIZE", "80KiB"),
        ],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    for (kilobytes, code, setting) in [
        (200, "value_too_large", "--value-size"),
        (100, "output_too_large", "--output-size"),
    ] {
        let flow = large_output("large", kilobytes, &service);
        admin.publish(&flow).await;
        let run = admin.start("large").await;
        assert_eq!(admin.end("large", &run).await, "Failed");
        let error = service.run_error(&run).await;
        assert_eq!(error["code"], code);
        assert!(error.to_string().contains(setting), "{error}");
    }
}
