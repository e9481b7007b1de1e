//! Workers and stores that die while objects are written: what was there stands
//! until all of the new is there.

use harness::{SOON, eventually};

use super::{Place, flow, rows};

const WRITE: &str = "{ id: last, write: { path: 's3://out/rows.csv', from: rows } }";
const READ: &str = "{ id: rows, read: { path: rows.csv } }";

/// How many rows take several parts of an object.
const SEVERAL_PARTS: u32 = 300_000;

#[tokio::test]
async fn the_old_object_stands_until_another_worker_has_written_the_new_one() {
    let (mut place, s3) = Place::with_s3(0).await;
    let bucket = s3.bucket("out");
    let text = rows(SEVERAL_PARTS);
    place.put("rows.csv", &text);
    let admin = place.service.admin();
    admin.publish(&flow("write", &[READ, WRITE])).await;
    for point in ["mid_upload", "before_appearance"] {
        bucket.put("rows.csv", "old").await;
        let fault = ("MILLSTREAM_FAULT", format!("{point}:1"));
        place.service.add_worker_with(&[fault]).await;
        let run = admin.start("write").await;
        place.service.workers.last_mut().unwrap().ended().await;
        assert_eq!(bucket.text("rows.csv").await, "old", "{point}");
        place.service.add_worker().await;
        assert_eq!(admin.end("write", &run).await, "Succeeded", "{point}");
        assert!(bucket.text("rows.csv").await == text, "{point}");
        place.service.workers.pop().unwrap().kill();
    }
}

#[tokio::test]
async fn a_set_of_objects_is_whole_after_a_crash_in_its_middle() {
    let (mut place, s3) = Place::with_s3(0).await;
    let bucket = s3.bucket("out");
    place.put("rows.csv", &rows(30));
    let admin = place.service.admin();
    let write = "{ id: last, write: { path: 's3://out/by', from: rows, format: csv, partition_by: [country] } }";
    admin.publish(&flow("spread", &[READ, write])).await;
    for point in ["before_appearance", "mid_appearance", "after_appearance"] {
        bucket.put("by/country=XX/part.csv", "stale").await;
        bucket.put("by/country=NO/part.csv", "old").await;
        let fault = ("MILLSTREAM_FAULT", format!("{point}:1"));
        place.service.add_worker_with(&[fault]).await;
        let run = admin.start("spread").await;
        place.service.workers.last_mut().unwrap().ended().await;
        if point == "before_appearance" {
            assert_eq!(bucket.text("by/country=NO/part.csv").await, "old");
        }
        place.service.add_worker().await;
        assert_eq!(admin.end("spread", &run).await, "Succeeded", "{point}");
        let parts = ["DK", "NO", "SE"].map(|country| format!("by/country={country}/part.csv"));
        assert_eq!(bucket.names().await, parts, "{point}");
        for part in parts {
            let text = bucket.text(&part).await;
            assert_eq!(text.lines().count(), 11, "{point} {part}");
        }
        place.service.workers.pop().unwrap().kill();
    }
}

async fn asleep(process: i32) {
    eventually(SOON, "the worker to fall asleep", || async {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        status.contains(") T ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_lost_its_run_midway_leaves_no_parts_behind() {
    let (mut place, s3) = Place::with_s3(0).await;
    let text = rows(SEVERAL_PARTS);
    place.put("rows.csv", &text);
    let admin = place.service.admin();
    admin.publish(&flow("write", &[READ, WRITE])).await;
    let fault = ("MILLSTREAM_FAULT", "mid_upload:1:freeze".to_owned());
    let first = place.service.add_worker_with(&[fault]).await.id();
    let run = admin.start("write").await;
    asleep(first).await;
    assert_eq!(s3.open_uploads("out").await, 1);
    place.service.add_worker().await;
    assert_eq!(admin.end("write", &run).await, "Succeeded");
    assert_eq!(s3.open_uploads("out").await, 1);
    place.service.workers[0].thaw();
    eventually(SOON, "the parts to be taken back", || async {
        (s3.open_uploads("out").await == 0).then_some(())
    })
    .await;
    assert!(s3.bucket("out").text("rows.csv").await == text);
}

#[tokio::test]
async fn a_store_that_dies_midway_fails_the_step() {
    let (mut place, mut s3) = Place::with_s3(0).await;
    place.put("rows.csv", &rows(SEVERAL_PARTS));
    let admin = place.service.admin();
    admin.publish(&flow("write", &[READ, WRITE])).await;
    let settings = [
        ("MILLSTREAM_FAULT", "mid_upload:1:freeze".to_owned()),
        ("MILLSTREAM_LEASE", "60s".to_owned()),
    ];
    let worker = place.service.add_worker_with(&settings).await.id();
    let run = admin.start("write").await;
    asleep(worker).await;
    s3.kill();
    place.service.workers[0].thaw();
    assert_eq!(admin.end("write", &run).await, "Failed");
    let error = place.service.run_error(&run).await;
    assert_eq!(error["code"], "store_unreachable", "{error}");
    let told = error["message"].as_str().unwrap();
    let start = "writing `s3://out/rows.csv` failed: the store cannot be reached: ";
    assert!(told.starts_with(start), "{told}");
}
