//! An artifact store that cannot take what is to be kept.

use std::{fs, process::Command};

use harness::{PrivateRedis, Process, RedisSetup, SOON, Service, Setup, eventually};

use super::{artifacts, executed, large_output, prints};
use crate::flows::quick;

/// Limits how long the files of a worker may become: a write beyond that fails
/// as it does on a full disk, where the process survives the signal.
fn limit_files(process: &Process, soft: &str) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", process.id()))
        .arg(format!("--fsize={soft}:"))
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn a_full_disk_is_waited_for_with_the_lease_kept() {
    let service = Service::start(Setup {
        workers: 1,
        launcher: &["env", "--ignore-signal=XFSZ"],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&large_output("large", 250, &service)).await;
    admin.publish(&quick("hello")).await;
    limit_files(&service.workers[0], "200000");
    let run = admin.start("large").await;
    eventually(SOON, "the worker to try more than once", || async {
        let log = service.workers[0].log();
        (log.matches("has no room").count() >= 3).then_some(())
    })
    .await;
    // Longer than its lease, and the worker does other work.
    assert_eq!(admin.status("large", &run).await, "Running");
    assert_eq!(admin.run("hello").await, "Succeeded");
    assert_eq!(artifacts(&service).len(), 0, "nothing half is left");
    limit_files(&service.workers[0], "unlimited");
    assert_eq!(admin.end("large", &run).await, "Succeeded");
    assert_eq!(executed(&service), 1);
    assert_eq!(admin.output("large", &run).await.status, 200);
}

#[tokio::test]
async fn a_disk_that_stays_full_fails_the_step_that_did_what_it_should() {
    let service = Service::start(Setup {
        worker: &[("MILLSTREAM_ARTIFACTS_PATIENCE", "1s")],
        launcher: &["env", "--ignore-signal=XFSZ"],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let retry = ", retry: { attempts: 3, initial: 20ms }";
    let flow = prints("big", 250, &service.folder().join("executed"), retry);
    admin.publish(&format!("id: large\nsteps:\n{flow}")).await;
    limit_files(&service.workers[0], "200000");
    let run = admin.start("large").await;
    assert_eq!(admin.end("large", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "artifact_store_full");
    assert_eq!(error["step"], "big");
    assert!(
        error.to_string().contains("MILLSTREAM_ARTIFACTS"),
        "{error}"
    );
    assert_eq!(executed(&service), 1, "it is not executed again");
}

#[tokio::test]
async fn a_place_that_refuses_fails_the_run_at_once_and_names_itself() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&large_output("large", 250, &service)).await;
    // Nobody, whatever rights it has, can make a folder below a file.
    fs::remove_dir_all(service.artifacts()).unwrap();
    fs::write(service.artifacts(), "").unwrap();
    let run = admin.start("large").await;
    assert_eq!(admin.end("large", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "artifact_store_refused");
    let message = error["message"].as_str().unwrap();
    let place = service.artifacts().display().to_string();
    assert!(message.contains(&place), "{message}");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_waited_for_and_then_named() {
    let mut service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let setting = |name, value: &str| (name, value.to_owned());
    service
        .add_worker_with(&[
            setting("MILLSTREAM_ARTIFACTS", "s3://kept/runs"),
            setting("MILLSTREAM_ARTIFACTS_PATIENCE", "3s"),
            setting("AWS_ENDPOINT", "http://127.0.0.1:1"),
            setting("AWS_ALLOW_HTTP", "true"),
            setting("AWS_ACCESS_KEY_ID", "id"),
            setting("AWS_SECRET_ACCESS_KEY", "canary"),
            setting("AWS_REGION", "nowhere"),
        ])
        .await;
    admin.publish(&large_output("large", 250, &service)).await;
    let run = admin.start("large").await;
    assert_eq!(admin.end("large", &run).await, "Failed");
    let error = service.run_error(&run).await;
    assert_eq!(error["code"], "artifact_store_unavailable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("s3://kept/runs"), "{message}");
    assert_eq!(executed(&service), 1, "its lease was kept meanwhile");
    let log = service.logs();
    assert!(log.contains("trying again") && !log.contains("canary"));
}

#[tokio::test]
async fn a_place_that_cannot_be_used_stops_the_start_with_one_line() {
    let redis = PrivateRedis::start_as(RedisSetup::default());
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    for (place, told) in [(&*path, "MILLSTREAM_ARTIFACTS"), ("ftp://x", "--artifacts")] {
        for program in ["millstream-worker", "millstream-api"] {
            let ended = Command::new(harness::built_program(program))
                .args(["--artifacts", place, "--redis-url", &redis.url()])
                .args(["--ops-listen", "127.0.0.1:0"])
                .output()
                .unwrap();
            assert!(!ended.status.success());
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(said.contains(told), "{program} {place}: {said}");
        }
    }
}
