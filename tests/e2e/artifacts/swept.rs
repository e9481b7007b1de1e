//! Artifacts go with their run, and what nobody refers to goes sooner.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Passage, Proxy, SOON, Service, Setup, eventually};
use nix::sys::signal::Signal;

use super::{appears, artifacts, ending, large_output, prints, waits};

const OFTEN: (&str, &str) = ("MILLSTREAM_ARTIFACTS_SWEEP_EVERY", "100ms");

async fn gone(path: &Path) {
    let what = format!("{} to be deleted", path.display());
    eventually(SOON, &what, || async { (!path.exists()).then_some(()) }).await;
}

/// Puts something beside the artifacts of a run, and waits until it is deleted:
/// all artifacts have been looked at once then.
async fn looked_at_all(service: &Service, number: usize) {
    let beside = artifacts(service).pop().unwrap();
    let folder = beside.parent().unwrap().parent().unwrap();
    let folder = folder.join("018f0e7a-0000-7000-8000-000000000000");
    fs::create_dir_all(&folder).unwrap();
    let orphan = folder.join(format!("{number}.output.json"));
    fs::write(&orphan, "of a run that is gone").unwrap();
    gone(&orphan).await;
    gone(&folder).await;
}

#[tokio::test]
async fn artifacts_go_when_the_record_of_their_run_has_expired() {
    let service = Service::start(Setup {
        api: &[("MILLSTREAM_RETENTION", "2s")],
        worker: &[("MILLSTREAM_RETENTION", "2s"), OFTEN],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&large_output("large", 200, &service)).await;
    let run = admin.start("large").await;
    assert_eq!(admin.end("large", &run).await, "Succeeded");
    // Its record and what it refers to are there together for their time.
    assert_eq!(admin.output("large", &run).await.status, 200);
    eventually(SOON, "the artifacts to be deleted", || async {
        artifacts(&service).is_empty().then_some(())
    })
    .await;
    assert_eq!(admin.output("large", &run).await.code(), "unknown_run");
}

#[tokio::test]
async fn what_a_run_refers_to_stays_while_orphans_go() {
    let mut service = Service::start(Setup {
        worker: &[OFTEN],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let big = prints("big", 200, &service.folder().join("executed"), "");
    let flow = format!(
        "id: waits\nsteps:\n{big}{}output: \"{{{{ steps.big.value }}}}\"\n",
        waits("big", &gate)
    );
    admin.publish(&flow).await;
    let run = admin.start("waits").await;
    gate.reached_by(1).await;
    let value = ending(&service, ".value.json").pop().unwrap();
    let beside = |name: &str| value.with_file_name(name);
    // What a worker of before left, and what the owner may be about to refer to.
    let epoch = fs::read_dir(value.parent().unwrap()).unwrap().count();
    assert_eq!(epoch, 1);
    let owner = value.file_name().unwrap().to_string_lossy().into_owned();
    let owner = owner.split('.').next().unwrap().to_owned();
    let [old, new, draft] = [
        "1.other.1.table.arrow".to_owned(),
        format!("{owner}.other.1.table.arrow"),
        "1.output.json.draft".to_owned(),
    ]
    .map(|name| beside(&name));
    let foreign = beside("notes.txt");
    for path in [&old, &new, &draft, &foreign] {
        fs::write(path, "x").unwrap();
    }
    for path in [&old, &draft] {
        gone(path).await;
    }
    looked_at_all(&service, 1).await;
    for path in [&value, &new, &foreign] {
        assert!(path.exists(), "{}", path.display());
    }

    // After its end nothing is about to be referred to any more.
    service.workers[0].kill();
    gate.open();
    service.add_worker().await;
    assert_eq!(admin.end("waits", &run).await, "Succeeded");
    gone(&new).await;
    looked_at_all(&service, 2).await;
    assert_eq!(admin.output("waits", &run).await.status, 200);
    assert!(value.exists() && foreign.exists());
}

#[tokio::test]
async fn what_a_killed_worker_had_kept_but_not_stored_is_swept_and_the_run_goes_on() {
    let mut service = Service::start(Setup {
        workers: 0,
        worker: &[OFTEN],
        ..Setup::default()
    })
    .await;
    let way = Proxy::to(&service.redis).await;
    let through = [("MILLSTREAM_REDIS_URL", way.url())];
    service.add_worker_with(&through).await;
    let admin = service.admin();
    let gate = service.gate("gate");
    let executed = service.folder().join("executed");
    let big = prints("big", 200, &executed, "");
    let script = gate.script();
    let big = big.replacen("echo big", &format!("{script}; echo big"), 1);
    admin
        .publish(&format!(
            "id: large\nsteps:\n{big}output: \"{{{{ steps.big.value }}}}\"\n"
        ))
        .await;
    let run = admin.start("large").await;
    gate.reached_by(1).await;
    way.set(Passage::Silent);
    gate.open();
    let orphan: PathBuf = appears(&service, ".value.json").await;
    service.workers[0].signal(Signal::SIGKILL);
    service.add_worker().await;
    assert_eq!(admin.end("large", &run).await, "Succeeded");
    gone(&orphan).await;
    assert_eq!(admin.output("large", &run).await.status, 200);
    let values = ending(&service, ".value.json");
    assert_eq!(values.len(), 1, "{values:?}");
}

#[tokio::test]
async fn what_cannot_be_judged_stays_and_does_not_keep_the_rest() {
    let service = Service::start(Setup {
        worker: &[OFTEN],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&large_output("large", 200, &service)).await;
    let run = admin.start("large").await;
    assert_eq!(admin.end("large", &run).await, "Succeeded");
    let kept = artifacts(&service);
    let record = format!("ms:{{0}}:run:{run}");
    let _: i64 = service.redis.command(&["DEL", &record]).await;
    let _: String = service.redis.command(&["SET", &record, "no hash"]).await;
    for number in 1..4 {
        looked_at_all(&service, number).await;
    }
    assert_eq!(artifacts(&service), kept);

    // A Redis that was emptied, or is another one, knows of no run at all.
    let service_name: String = service.redis.command(&["HGET", "ms:meta", "service"]).await;
    let meta = ["HSET", "ms:meta", "service"];
    let _: i64 = service
        .redis
        .command(&[&meta[..], &["another"]].concat())
        .await;
    let _: i64 = service.redis.command(&["DEL", &record]).await;
    eventually(SOON, "the worker to see it", || async {
        let log = service.workers[0].log();
        (log.matches("redis was emptied or exchanged").count() >= 2).then_some(())
    })
    .await;
    assert_eq!(artifacts(&service), kept);
    let back = [&meta[..], &[&service_name]].concat();
    let _: i64 = service.redis.command(&back).await;
    gone(&kept[0]).await;
}
