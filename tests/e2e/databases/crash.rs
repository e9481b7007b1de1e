//! Workers that die or fall asleep between any two effects: the data is as
//! after one clean run.

use harness::{SOON, eventually};
use serde_json::json;

use super::{On, Place, SECRETS_KEY, WORKER, flow};

/// Where a worker dies.
const POINTS: [&str; 5] = [
    "before_begin",
    "after_marker",
    "mid_copy",
    "before_commit",
    "after_commit",
];

/// The steps of a flow that changes the table `table`, and whether it copies.
fn steps(mode: &str, table: &str) -> [String; 2] {
    let read = "{ id: rows, read: { path: rows.csv } }".to_owned();
    let last = if mode == "execute" {
        format!(
            "{{ id: last, needs: [rows], execute: {{ connection: db, sql: 'update {table} set name = concat_ws(''+'', name, name)' }} }}"
        )
    } else {
        let keys = if mode == "upsert" { ", keys: [id]" } else { "" };
        format!(
            "{{ id: last, load: {{ connection: db, table: {table}, from: rows, mode: {mode}{keys} }} }}"
        )
    };
    [read, last]
}

/// The tag of the workers that take the runs of a case.
fn tag(case: &str) -> String {
    case.replace('_', "-")
}

async fn content(place: &Place, table: &str) -> Vec<String> {
    let sql = format!("select concat_ws('|', id, name) from {table} order by id");
    place.database.texts(&sql).await
}

/// Makes the table of a case as it is before.
async fn prepare(place: &Place, table: &str) {
    place
        .database
        .run(&format!(
            "create table {table} (id integer not null primary key, name varchar(100)); \
             insert into {table} values (1, 'old'), (100000, 'old')"
        ))
        .await;
}

async fn every_change_happens_once(on: On, modes: &[&str]) {
    let mut place = Place::with(on, 0, WORKER).await;
    let from = if modes.contains(&"append") { 2 } else { 1 };
    let rows: String = (from..3000).map(|id| format!("{id},name {id}\n")).collect();
    place.put("rows.csv", &format!("id,name\n{rows}"));
    let admin = place.service.admin();
    for mode in modes {
        let points = POINTS
            .into_iter()
            .filter(|point| *mode != "execute" || *point != "mid_copy");
        let points: Vec<&str> = points.collect();
        let mut runs = Vec::new();
        for point in &points {
            let case = format!("{mode}_{point}");
            prepare(&place, &case).await;
            let steps = steps(mode, &case);
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            admin.publish(&flow(&case, &tag(&case), &steps)).await;
            let settings = [
                ("MILLSTREAM_FAULT", format!("{point}:1")),
                ("MILLSTREAM_TAGS", tag(&case)),
            ];
            place.service.add_worker_with(&settings).await;
            runs.push((case.clone(), admin.start(&case).await));
        }
        for worker in &mut place.service.workers {
            worker.ended().await;
        }
        let tags: Vec<String> = runs.iter().map(|(case, _)| tag(case)).collect();
        let clean = format!("{mode}_clean");
        prepare(&place, &clean).await;
        let steps = steps(mode, &clean);
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        admin.publish(&flow(&clean, &tag(&clean), &steps)).await;
        let settings = [(
            "MILLSTREAM_TAGS",
            format!("{},{}", tags.join(","), tag(&clean)),
        )];
        place.service.add_worker_with(&settings).await;
        let run = admin.start(&clean).await;
        assert_eq!(admin.end(&clean, &run).await, "Succeeded");
        let (expected, output) = (content(&place, &clean).await, place.output(&run).await);
        assert!(!expected.is_empty());
        for (case, run) in &runs {
            assert_eq!(admin.end(case, run).await, "Succeeded", "{case}");
            assert!(content(&place, case).await == expected, "{case}");
            // What the repeated step hands on is the same as well.
            let again = place.output(run).await;
            for member in ["rows", "value"] {
                assert_eq!(again[member], output[member], "{case}");
            }
        }
        place.service.workers.pop().unwrap().kill();
    }
}

#[tokio::test]
async fn every_change_in_postgresql_happens_once() {
    every_change_happens_once(On::Postgres, &["append", "execute"]).await;
}

#[tokio::test]
async fn every_change_of_known_rows_in_postgresql_happens_once() {
    every_change_happens_once(On::Postgres, &["replace", "upsert"]).await;
}

/// A worker falls asleep at a point, another one takes its run over, and the
/// first one wakes up.
async fn a_late_commit_changes_nothing_twice(on: On, point: &str) {
    let mut place = Place::with(
        on,
        0,
        &[
            ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
            ("MILLSTREAM_DATABASE_LOCK_WAIT", "60s"),
        ],
    )
    .await;
    place.put("rows.csv", "id,name\n2,two\n3,three\n");
    prepare(&place, "late").await;
    let admin = place.service.admin();
    let steps = steps("append", "late");
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    admin.publish(&flow("late", "default", &steps)).await;
    let fault = ("MILLSTREAM_FAULT", format!("{point}:1:freeze"));
    place.service.add_worker_with(&[fault]).await;
    let run = admin.start("late").await;
    let first = place.service.workers[0].id();
    eventually(SOON, "the worker to fall asleep", || async {
        let status = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
        status.contains(") T ").then_some(())
    })
    .await;
    place.service.add_worker().await;
    let second = &place.service.workers[1];
    if point == "before_begin" {
        // Nothing is locked: the second one does it all.
        assert_eq!(admin.end("late", &run).await, "Succeeded");
    } else {
        eventually(SOON, "the other worker to begin", || async {
            let log = second.log();
            log.contains("goes on from its last finished step")
                .then_some(())
        })
        .await;
    }
    place.service.workers[0].thaw();
    assert_eq!(admin.end("late", &run).await, "Succeeded");
    eventually(
        SOON,
        "the first worker to say that it lost the run",
        || async {
            let log = place.service.workers[0].log();
            log.contains("lease").then_some(())
        },
    )
    .await;
    assert_eq!(
        content(&place, "late").await,
        ["1|old", "2|two", "3|three", "100000|old"]
    );
    let value = json!({ "rows": 2, "inserted": 2 });
    assert_eq!(place.output(&run).await["value"], value);
}

#[tokio::test]
async fn a_late_commit_in_postgresql_changes_nothing_twice() {
    a_late_commit_changes_nothing_twice(On::Postgres, "before_commit").await;
}

#[tokio::test]
async fn a_late_beginning_in_postgresql_changes_nothing_twice() {
    a_late_commit_changes_nothing_twice(On::Postgres, "before_begin").await;
}

#[tokio::test]
async fn every_change_in_sqlite_happens_once() {
    every_change_happens_once(On::Sqlite, &["append", "execute"]).await;
}

#[tokio::test]
async fn every_change_of_known_rows_in_sqlite_happens_once() {
    every_change_happens_once(On::Sqlite, &["replace", "upsert"]).await;
}

#[tokio::test]
async fn a_late_commit_in_sqlite_changes_nothing_twice() {
    a_late_commit_changes_nothing_twice(On::Sqlite, "before_commit").await;
}

#[tokio::test]
async fn every_change_in_mariadb_happens_once() {
    every_change_happens_once(On::Mariadb, &["append", "execute"]).await;
}

#[tokio::test]
async fn every_change_of_known_rows_in_mariadb_happens_once() {
    every_change_happens_once(On::Mariadb, &["replace", "upsert"]).await;
}

#[tokio::test]
async fn a_late_commit_in_mariadb_changes_nothing_twice() {
    a_late_commit_changes_nothing_twice(On::Mariadb, "before_commit").await;
}
