//! Rows that go from step to step while they are made: no table is kept, each
//! step says what it did, and a failure of one is not the failure of another.

use harness::{SOON, eventually};
use serde_json::json;
use sqlx::Executor;

use super::{On, Place, SECRETS_KEY, flow};
use harness::Database;

/// Many more rows than fit into the memory of a worker with `SMALL`.
const ROWS: u64 = 120_000;

/// A worker that has room for no table: neither in memory nor on disk.
const SMALL: &[(&str, &str)] = &[
    ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
    ("MILLSTREAM_MEMORY", "4MiB"),
    ("MILLSTREAM_SPILL_SIZE", "4KiB"),
];

fn numbers(count: u64) -> String {
    let rows: String = (0..count)
        .map(|n| format!("{n},{},{}\n", n % 7, "x".repeat(60)))
        .collect();
    format!("n,seven,text\n{rows}")
}

const READ: &str = "{ id: numbers, read: { path: numbers.csv } }";
const EVEN: &str = "{ id: even, sql: 'select n, text from numbers where n % 2 = 0' }";

#[tokio::test]
async fn rows_pass_through_a_worker_that_has_no_room_for_them() {
    let place = Place::with(On::Sqlite, 1, SMALL).await;
    place.put("numbers.csv", &numbers(ROWS));
    let write = "{ id: last, write: { path: even.csv, from: even } }";
    let output = place.run("through", &[READ, EVEN, write]).await.unwrap();
    assert_eq!(output["rows"], ROWS / 2);
    assert_eq!(output["rows_in"], ROWS / 2);
    let written = place.written("even.csv");
    assert_eq!(output["bytes"], written.len());
    assert_eq!(written.lines().count() as u64, ROWS / 2 + 1);
    let last = format!("{},{}", ROWS - 2, "x".repeat(60));
    assert!(written.lines().any(|line| line == last));

    // Each of the others said what it did as well.
    let steps = format!(
        "{}output: {{ read: \"{{{{ steps.numbers }}}}\", sql: \"{{{{ steps.even }}}}\" }}\n",
        flow("told", "default", &[READ, EVEN, write]).replace("output: \"{{ steps.last }}\"\n", "")
    );
    let admin = place.service.admin();
    admin.publish(&steps).await;
    let run = admin.start("told").await;
    assert_eq!(admin.end("told", &run).await, "Succeeded");
    let told = place.output(&run).await;
    assert_eq!(told["read"]["rows"], ROWS);
    assert_eq!(told["read"]["bytes"], numbers(ROWS).len());
    assert_eq!(told["sql"]["rows_in"], ROWS);
    assert_eq!(told["sql"]["rows"], ROWS / 2);

    // Where two steps take them, they have to be kept, and there is no room.
    let other = "{ id: other, write: { path: other.csv, from: even } }";
    let error = place.run("kept", &[READ, EVEN, write, other]).await;
    assert_eq!(error.unwrap_err()["code"], "memory_full");
}

#[tokio::test]
async fn a_bad_row_is_the_failure_of_the_step_that_reads_it() {
    let place = Place::new(On::Sqlite).await;
    place.put("numbers.csv", &format!("{}1,2\n", numbers(30_000)));
    place.put("even.csv", "as it was");
    let read =
        "{ id: numbers, read: { path: numbers.csv, columns: { n: integer, text: string } } }";
    let write = "{ id: last, write: { path: even.csv, from: even } }";
    let error = place.run("bad", &[read, EVEN, write]).await.unwrap_err();
    assert_eq!(error["step"], "numbers");
    assert_eq!(
        error["message"],
        "numbers.csv, line 30002: expected 3 fields, found 2"
    );
    assert_eq!(place.written("even.csv"), "as it was");

    let query = "{ id: even, sql: 'select n / (n - 29000) as x from numbers' }";
    place.put("numbers.csv", &numbers(30_000));
    let error = place.run("zero", &[read, query, write]).await.unwrap_err();
    assert_eq!(error["step"], "even", "{error}");
    assert_eq!(place.written("even.csv"), "as it was");
}

/// The last of three steps has to be tried again: the others make their rows
/// once more, and have not failed.
#[tokio::test]
async fn a_step_that_is_tried_again_gets_its_rows_again() {
    let place = Place::with(
        On::Sqlite,
        1,
        &[
            ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
            ("MILLSTREAM_DATABASE_LOCK_WAIT", "1s"),
        ],
    )
    .await;
    place.put("numbers.csv", &numbers(20_000));
    place.database.run("create table t (n integer)").await;
    let Database::Sqlite(file) = &place.database else {
        unreachable!("it was asked for");
    };
    let mut locking = file.connect().await;
    locking.execute("begin immediate").await.unwrap();
    let even = "{ id: even, sql: 'select n from numbers where n % 2 = 0' }";
    for (id, pause) in [("soon", "200ms"), ("later", "1500ms")] {
        let load = format!(
            "{{ id: last, load: {{ connection: db, table: t, from: even, mode: replace }}, retry: {{ attempts: 50, backoff: constant, initial: {pause}, max: {pause} }} }}"
        );
        let admin = place.service.admin();
        admin
            .publish(&flow(id, "default", &[READ, even, &load]))
            .await;
        let run = admin.start(id).await;
        let steps = format!("ms:{{0}}:run:{run}:steps");
        eventually(SOON, "the second attempt to fail", || async {
            let redis = &place.service.redis;
            let noted: u64 = redis.command(&["HEXISTS", &steps, "last:attempt:2"]).await;
            (noted == 1).then_some(())
        })
        .await;
        locking.execute("rollback").await.unwrap();
        assert_eq!(admin.end(id, &run).await, "Succeeded");
        assert_eq!(place.output(&run).await["value"]["rows"], 10_000);
        for step in ["numbers", "even"] {
            let record: String = place.service.redis.command(&["HGET", &steps, step]).await;
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            assert_eq!(record["attempts"], json!(1), "{record}");
        }
        locking.execute("begin immediate").await.unwrap();
    }
}

/// Rows that flow into a load, of which there are none.
async fn a_load_of_no_rows_is_a_load(on: On) {
    let place = Place::new(on).await;
    place.put("numbers.csv", "n,text\n");
    let columns = "columns: { n: integer, text: string }";
    let read = format!("{{ id: numbers, read: {{ path: numbers.csv, {columns} }} }}");
    let none = "{ id: even, sql: 'select n, text from numbers where n > 5' }";
    place
        .database
        .run(
            "create table kept (n integer primary key, text varchar(9)); \
             insert into kept values (1, 'old')",
        )
        .await;
    let all = "select concat_ws('|', n, text) from kept";
    for (mode, left) in [
        ("append", &["1|old"][..]),
        ("upsert, keys: [n]", &["1|old"]),
        ("replace", &[]),
        ("append, create: true", &[]),
    ] {
        for (from, steps) in [("numbers", &[&*read][..]), ("even", &[&*read, none])] {
            let load = format!(
                "{{ id: last, load: {{ connection: db, table: kept, from: {from}, mode: {mode} }} }}"
            );
            let steps = [steps, &[&*load]].concat();
            let output = place.run("none", &steps).await.unwrap();
            assert_eq!(output["rows"], 0, "{mode} from {from}");
            assert_eq!(place.database.texts(all).await, left, "{mode} from {from}");
        }
    }
}

#[tokio::test]
async fn a_load_of_no_rows_into_postgresql_is_a_load() {
    a_load_of_no_rows_is_a_load(On::Postgres).await;
}

#[tokio::test]
async fn a_load_of_no_rows_into_mariadb_is_a_load() {
    a_load_of_no_rows_is_a_load(On::Mariadb).await;
}

#[tokio::test]
async fn a_load_of_no_rows_into_sqlite_is_a_load() {
    a_load_of_no_rows_is_a_load(On::Sqlite).await;
}
