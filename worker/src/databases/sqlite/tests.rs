//! Files as they are found.

use std::{fs, path::Path, time::Duration};

use millstream_shared::{connection::Connection, id::RunId};
use rusqlite::OpenFlags;
use serde_json::json;

use crate::{
    databases::{Around, Marker, error::DatabaseError, rows::Rows, statement::Statement},
    tables::{
        Files,
        tests::{new_engine, settings},
    },
};

const AROUND: Around = Around {
    lock_wait: Duration::from_secs(1),
};

/// The connection to `flows.sqlite` in `folder`.
fn connection(folder: &Path) -> (Connection, Files) {
    let connection = json!({ "kind": "sqlite", "path": "flows.sqlite" });
    let files = Files::new(&[folder.to_owned()]).unwrap();
    (Connection::parse(&connection).unwrap(), files)
}

/// Asks it for whole numbers.
async fn ask(folder: &Path, sql: &str) -> Result<Vec<String>, DatabaseError> {
    let (connection, files) = connection(folder);
    let statement = Statement { sql, params: &[] };
    let engine = new_engine(&settings());
    let answer = AROUND.query(&connection, &statement, &engine, &files);
    let table = answer.await?;
    let mut found = Vec::new();
    let mut reader = table.open()?;
    while let Some(batch) = reader.next() {
        let rows = Rows::of(&batch?)?;
        let shown = |row| format!("{:?}", rows.row(row).collect::<Vec<_>>());
        found.extend((0..rows.count()).map(shown));
    }
    Ok(found)
}

/// A folder with `flows.sqlite` as a process left it that died in the middle of
/// a transaction, when some of its pages had been written.
fn left_by_a_crash() -> tempfile::TempDir {
    let (writing, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = writing.path().join("flows.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "create table t (n integer, filling text); \
             with recursive c (i) as (select 1 union all select i + 1 from c where i < 2000) \
             insert into t select 1, hex(randomblob(100)) from c; \
             pragma cache_size = 2; begin; update t set n = 2",
        )
        .unwrap();
    for name in ["flows.sqlite", "flows.sqlite-journal"] {
        fs::copy(writing.path().join(name), left.path().join(name)).unwrap();
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_writer_left_half_done_is_taken_back_before_anything_is_read() {
    let folder = left_by_a_crash();
    // It is one that a reader alone cannot use.
    let path = folder.path().join("flows.sqlite");
    let reader =
        rusqlite::Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert!(reader.prepare("select n from t").is_err());
    drop(reader);

    let sql = "select n, count(*) as c from t group by n";
    let found = ask(folder.path(), sql).await.unwrap();
    assert_eq!(found, ["[Ok(Integer(1)), Ok(Integer(2000))]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_writer_left_half_done_is_taken_back_before_anything_is_changed() {
    let folder = left_by_a_crash();
    let (connection, files) = connection(folder.path());
    let statement = Statement {
        sql: "update t set n = n + 10",
        params: &[],
    };
    let marker = Marker {
        run: RunId::new(),
        step: "change".parse().unwrap(),
    };
    let changed = AROUND.execute(&connection, &marker, &statement, &files);
    assert_eq!(changed.await.unwrap().rows, 2000);
    let found = ask(folder.path(), "select distinct n from t")
        .await
        .unwrap();
    assert_eq!(found, ["[Ok(Integer(11))]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = ask(folder.path(), "select 1 as n").await.unwrap_err();
    assert_eq!(refused.code, "unknown_database");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
