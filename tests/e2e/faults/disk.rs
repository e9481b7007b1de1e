//! A Redis that cannot store what it was given.

use std::{cell::RefCell, fs, process::Command};

use harness::{Answer, Gate, RedisSetup, SOON, Service, eventually};

use super::{ONE_SLOT, assert_all_succeed, assert_unavailable, busy};

/// Lets the step go on that waits, and waits until its worker has found that
/// its end cannot be stored.
async fn end_in_vain(service: &Service, gate: &Gate) {
    gate.open();
    eventually(SOON, "the worker to see that it cannot write", || async {
        let log = service.workers[0].log();
        log.contains("redis did not take it").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_cannot_save_refuses_starts_until_it_can() {
    let (service, gate, waits) = busy(ONE_SLOT, RedisSetup::default()).await;
    let redis = &service.redis;
    // A folder that is not empty cannot be replaced by the file.
    let file = redis.folder().join("dump.rdb");
    fs::create_dir_all(file.join("in-the-way")).unwrap();
    let _: String = redis
        .command(&["CONFIG", "SET", "save", "3600 1000000"])
        .await;
    let saved = async |wanted: &str| {
        let _: Result<String, _> = {
            let mut connection = redis.connection().await;
            redis::cmd("BGSAVE").query_async(&mut connection).await
        };
        let info: String = redis.command(&["INFO", "persistence"]).await;
        info.contains(&format!("rdb_last_bgsave_status:{wanted}"))
            .then_some(())
    };
    eventually(SOON, "saving to fail", || saved("err")).await;
    let admin = service.admin();
    assert_unavailable(&Answer::of(admin.start_request("hello", "")).await);
    end_in_vain(&service, &gate).await;

    fs::remove_dir_all(&file).unwrap();
    eventually(SOON, "saving to work", || saved("ok")).await;
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.run("hello").await, "Succeeded");
}

/// Limits how long the files of a process may become.
fn limit_files(process: u32, soft: &str) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={process}"))
        .arg(format!("--fsize={soft}:"))
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn a_full_disk_refuses_starts_until_there_is_room() {
    let (service, gate, mut waits) = busy(
        ONE_SLOT,
        RedisSetup {
            // A write beyond the limit fails as it does on a full disk, where the
            // process survives the signal.
            launcher: ["env", "--ignore-signal=XFSZ"].map(str::to_owned).into(),
            ..RedisSetup::default()
        },
    )
    .await;
    let admin = service.admin();
    limit_files(service.redis.id(), "1");
    // Redis answers the first ones before it finds out; they are kept.
    let accepted = RefCell::new(Vec::new());
    eventually(SOON, "a start to be refused", || async {
        let answer = Answer::of(admin.start_request("hello", "")).await;
        if answer.status == 200 {
            accepted.borrow_mut().push(answer.run_id());
            return None;
        }
        assert_unavailable(&answer);
        Some(())
    })
    .await;
    end_in_vain(&service, &gate).await;

    limit_files(service.redis.id(), "unlimited");
    for run in accepted.into_inner() {
        let admin = admin.clone();
        waits.push(tokio::spawn(async move {
            Answer::of(admin.status_request("hello", &run, "?await=true")).await
        }));
    }
    assert_all_succeed(waits).await;
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.run("hello").await, "Succeeded");
}

/// What a disk lost of the end of the append-only file is gone, and nothing
/// else: neither is anybody left to wait for it.
#[tokio::test]
async fn a_torn_end_of_the_append_only_file_costs_no_more_than_what_stood_there() {
    let always = RedisSetup::with(&["--appendfsync", "always"]);
    let (mut service, gate, waits) = busy(ONE_SLOT, always).await;
    let admin = service.admin();
    // Nobody else writes, so that the start stands at the end.
    service.workers[0].freeze();
    let last = admin.start("hello").await;
    service.redis.kill();
    let folder = service.redis.folder().join("appendonlydir");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let file = files.filter(|file| file.extension().is_some_and(|end| end == "aof"));
    let file = file
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    let length = file.metadata().unwrap().len();
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_len(length - 2).unwrap();
    service.redis.restart();
    service.workers[0].thaw();

    gate.open();
    assert_all_succeed(waits).await;
    let gone = Answer::of(admin.status_request("hello", &last, "")).await;
    assert_eq!((gone.status, &*gone.code()), (404, "unknown_run"));
    assert_eq!(gate.arrivals().len(), 1);
    assert_eq!(admin.run("hello").await, "Succeeded");
    service.open_runs(0).await;
}
