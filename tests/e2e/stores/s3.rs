//! Reading and writing objects of S3.

use futures::{StreamExt, stream};
use serde_json::json;

use super::{Place, rows};

/// The endings of every format, and of compressed ones.
const ENDINGS: [&str; 7] = [
    "csv",
    "csv.gz",
    "ndjson.zst",
    "json",
    "parquet",
    "arrow",
    "xlsx",
];

#[tokio::test]
async fn every_format_goes_to_a_store_and_comes_back() {
    let (place, s3) = Place::with_s3(1).await;
    place.put("rows.csv", &rows(1000));
    let mut steps = vec!["{ id: rows, read: { path: rows.csv } }".to_owned()];
    let mut sums = Vec::new();
    for (number, ending) in ENDINGS.iter().enumerate() {
        steps.push(format!(
            "{{ id: w{number}, write: {{ path: 's3://out/a b/rows.{ending}', from: rows }} }}"
        ));
        steps.push(format!(
            "{{ id: r{number}, needs: [w{number}], read: {{ path: 'a b/rows.{ending}', connection: out }} }}"
        ));
        sums.push(format!(
            "select count(*) as n, sum(id) as s, max(text) as t from r{number}"
        ));
    }
    steps.push(format!("{{ id: sums, sql: '{}' }}", sums.join(" union ")));
    steps.push("{ id: last, write: { path: sums.csv, from: sums } }".to_owned());
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    place.run("round", &steps).await.unwrap();
    let sums = place.written("sums.csv");
    assert!(sums.starts_with("n,s,t\n1000,499500,"), "{sums}");
    assert_eq!(sums.lines().count(), 2, "{sums}");
    let mut expected: Vec<String> = ENDINGS.iter().map(|e| format!("a b/rows.{e}")).collect();
    expected.sort();
    assert_eq!(s3.bucket("out").names().await, expected);
    assert_eq!(s3.open_uploads("out").await, 0);
}

#[tokio::test]
async fn a_pattern_of_many_objects_is_read_to_its_last_page() {
    let (place, s3) = Place::with_s3(1).await;
    let bucket = s3.bucket("raw");
    let put = |number: u32| {
        let bucket = &bucket;
        async move {
            let day = number % 7;
            let key = format!("orders/day={day}/{number:04}.csv");
            bucket.put(&key, format!("id\n{number}\n")).await;
        }
    };
    stream::iter((0..1100).map(put))
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    bucket.put("orders/day=1/notes.txt", "no rows").await;
    bucket.put("orders-old/day=1/0.csv", "id\n5000\n").await;
    let read = "{ id: last, read: { path: 's3://raw/orders/*/*.csv' } }";
    let output = place.run("many", &[read]).await.unwrap();
    assert_eq!(output["value"], json!({ "files": 1100 }));
    assert_eq!(output["rows"], 1100);
    let steps = [
        "{ id: orders, read: { path: 's3://raw/**/*.csv', columns: { id: integer, day: integer } } }",
        "{ id: days, sql: 'select day, count(*) as n from orders group by day order by day limit 2' }",
        "{ id: last, write: { path: 's3://out/days.csv', from: days } }",
    ];
    place.run("days", &steps).await.unwrap();
    let days = s3.bucket("out").text("days.csv").await;
    assert_eq!(days, "day,n\n0,158\n1,158\n");
}

#[tokio::test]
async fn a_table_is_spread_over_objects_that_replace_those_before() {
    let (place, s3) = Place::with_s3(1).await;
    let bucket = s3.bucket("out");
    place.put("rows.csv", &rows(9));
    let read = "{ id: rows, read: { path: rows.csv } }";
    let write = "{ id: last, write: { path: 's3://out/by/', from: rows, format: csv, partition_by: [country] } }";
    let output = place.run("spread", &[read, write]).await.unwrap();
    let parts = ["DK", "NO", "SE"].map(|country| format!("by/country={country}/part.csv"));
    assert_eq!(bucket.names().await, parts);
    let mut bytes = 0;
    for part in &parts {
        bytes += bucket.bytes(part).await.unwrap().len();
    }
    assert_eq!(output["bytes"], bytes);

    place.put("rows.csv", &rows(2));
    bucket.put("by2/other.csv", "x").await;
    place.run("spread", &[read, write]).await.unwrap();
    assert_eq!(
        bucket.names().await,
        [&parts[1], &parts[2], "by2/other.csv"]
    );
    let back = "{ id: last, read: { path: 's3://out/by/**/*.csv' } }";
    assert_eq!(place.run("back", &[back]).await.unwrap()["rows"], 2);

    bucket.put("by/notes.txt", "x").await;
    let error = place.run("spread", &[read, write]).await.unwrap_err();
    assert_eq!(error["code"], "file_refused");
    assert_eq!(
        error["message"],
        "`s3://out/by` cannot be replaced: it holds `notes.txt`, which is no part of what is written there"
    );
    // What cannot be written changes nothing, however late that shows.
    bucket.put("late/country=NO/part.xlsx", "old").await;
    let steps = [
        read,
        "{ id: late, sql: 'select country, id, case when id = 1 then 9007199254740993 end as n from rows order by id' }",
        "{ id: last, write: { path: 's3://out/late', from: late, format: excel, partition_by: [country] } }",
    ];
    let error = place.run("late", &steps).await.unwrap_err();
    assert_eq!(error["code"], "unwritable", "{error}");
    let part = bucket.text("late/country=NO/part.xlsx").await;
    assert_eq!(part, "old");
    assert_eq!(s3.open_uploads("out").await, 0);
}

/// The most memory that a process has had so far, in MiB.
fn memory_peak(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn a_large_object_takes_little_memory_while_it_is_read() {
    let (place, s3) = Place::with_s3(1).await;
    let bucket = s3.bucket("raw");
    bucket.put("small.csv", rows(10)).await;
    let large = rows(1_400_000);
    assert!(large.len() > 100 << 20, "{}", large.len());
    bucket.put("large.csv", large).await;
    let read = async |file: &str| {
        let columns = "columns: { id: integer }";
        let step = format!("{{ id: last, read: {{ path: 's3://raw/{file}', {columns} }} }}");
        place.run("large", &[&step]).await.unwrap()["rows"].clone()
    };
    assert_eq!(read("small.csv").await, 10);
    let worker = place.service.workers[0].id();
    let before = memory_peak(worker);
    assert_eq!(read("large.csv").await, 1_400_000);
    let grown = memory_peak(worker) - before;
    assert!(grown < 64, "grew by {grown} MiB");
}
