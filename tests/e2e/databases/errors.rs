//! What is wrong is named, and no secret with it.

use std::time::Duration;

use harness::{Database, PrivatePostgres};
use serde_json::{Value, json};
use sqlx::Executor;

use super::{On, Place};

const READ: &str = "{ id: rows, read: { path: rows.csv } }";

async fn refused(place: &Place, step: &str) -> (String, String) {
    let error = place.run("refused", &[READ, step]).await.unwrap_err();
    let member = |name: &str| error[name].as_str().unwrap().to_owned();
    assert!(!error.to_string().contains("canary"), "{error}");
    (member("code"), member("message"))
}

fn query(connection: &str, sql: &str) -> String {
    format!("{{ id: last, query: {{ connection: {connection}, sql: \"{sql}\" }} }}")
}

fn load(table: &str, further: &str) -> String {
    format!("{{ id: last, load: {{ connection: db, table: {table}, from: rows, {further} }} }}")
}

/// Errors that every database has.
async fn errors_are_told_apart(on: On) {
    let place = Place::new(on).await;
    place.put("rows.csv", "id,name\n1,one\nx,two\n");
    place
        .database
        .run("create table there (id integer not null, name varchar(100))")
        .await;
    for (step, code, message) in [
        (
            query("nowhere", "select 1"),
            "unknown_connection",
            "`nowhere`",
        ),
        (query("db", "select * from gone"), "unknown_table", "gone"),
        (
            query("db", "select gone from there"),
            "unknown_column",
            "gone",
        ),
        (query("db", "select * frm there"), "syntax_error", ""),
        (load("gone", "mode: append"), "unknown_table", "gone"),
        (
            load("there", "mode: upsert, keys: [name]"),
            "no_unique_index",
            "`name`",
        ),
        (
            load("there", "mode: upsert, keys: [gone]"),
            "unknown_column",
            "`gone`",
        ),
        (
            load("there", "mode: append"),
            "type_mismatch",
            "column `id`, row 2",
        ),
        (
            "{ id: last, execute: { connection: db, sql: commit } }".to_owned(),
            "statement_refused",
            "`commit`",
        ),
    ] {
        let (found, told) = refused(&place, &step).await;
        assert_eq!(found, code, "{step}: {told}");
        assert!(told.contains(message), "{told}");
    }
    place.put("rows.csv", "id,more\n1,x\n");
    let (code, _) = refused(&place, &load("there", "mode: append")).await;
    assert_eq!(code, "unknown_column");
    assert!(
        place
            .database
            .texts("select id from there")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn the_errors_of_postgresql_are_told_apart() {
    errors_are_told_apart(On::Postgres).await;
}

#[tokio::test]
async fn the_errors_of_sqlite_are_told_apart() {
    errors_are_told_apart(On::Sqlite).await;
}

#[tokio::test]
async fn sqlite_holds_only_what_fits_and_a_file_within_the_folders() {
    let place = Place::new(On::Sqlite).await;
    place.put("rows.csv", "id,name\n1,one\n");
    place
        .connect(
            "other",
            &json!({ "kind": "sqlite", "path": "../outside.sqlite" }),
        )
        .await;
    let (code, _) = refused(&place, &query("other", "select 1 as x")).await;
    assert_eq!(code, "file_refused");
    place
        .connect("other", &json!({ "kind": "sqlite", "path": "gone.sqlite" }))
        .await;
    let (code, _) = refused(&place, &query("other", "select 1 as x")).await;
    assert_eq!(code, "unknown_database");
    place
        .database
        .run("create table t (n integer); insert into t values (1), ('x')")
        .await;
    let (code, told) = refused(&place, &query("db", "select n from t")).await;
    assert_eq!(code, "value_cannot_be_carried");
    assert!(
        told.starts_with("connection `db`: column `n`, row 2: "),
        "{told}"
    );
    let (code, _) = refused(&place, &query("db", "delete from t returning n")).await;
    assert_eq!(code, "read_only");
    let several = "{ id: last, execute: { connection: db, sql: 'delete from t; commit' } }";
    let (code, _) = refused(&place, several).await;
    assert_eq!(code, "statement_refused");

    let Database::Sqlite(file) = &place.database else {
        unreachable!("it is SQLite")
    };
    let mut locking = file.connect().await;
    locking.execute("begin immediate").await.unwrap();
    let (code, _) = refused(&place, &load("t", "mode: append, create: true")).await;
    assert_eq!(code, "lock_timeout");
}

async fn servers_that_cannot_be_used_are_named(place: &Place, good: Value) {
    for (change, code) in [
        (json!({ "password": "canary-wrong" }), "access_denied"),
        (json!({ "database": "nowhere" }), "unknown_database"),
        (json!({ "port": 1 }), "database_unreachable"),
        (json!({ "host": "nowhere.invalid" }), "database_unreachable"),
        (json!({ "tls": "verify" }), "tls_failed"),
    ] {
        let mut connection = good.clone();
        for (name, value) in change.as_object().unwrap() {
            connection[name] = value.clone();
        }
        place.connect("other", &connection).await;
        let (found, told) = refused(place, &query("other", "select 1 as x")).await;
        assert_eq!(found, code, "{change}: {told}");
        assert!(told.starts_with("connection `other`: "), "{told}");
    }
    place
        .connect("other", &json!({ "kind": "http", "url": "https://x" }))
        .await;
    let (code, told) = refused(place, &query("other", "select 1 as x")).await;
    assert_eq!(code, "wrong_connection");
    assert!(told.contains("`http`"), "{told}");
}

#[tokio::test]
async fn a_postgresql_that_cannot_be_used_is_named() {
    let place = Place::new(On::Postgres).await;
    place.put("rows.csv", "id,name\n1,one\n");
    servers_that_cannot_be_used_are_named(&place, place.database.connection()).await;
}

#[tokio::test]
async fn a_mariadb_that_cannot_be_used_is_named() {
    let mut place = Place::new(On::Mariadb).await;
    place.put("rows.csv", "id,name\n1,one\n");
    servers_that_cannot_be_used_are_named(&place, place.database.connection()).await;
    place
        .database
        .run("create table there (id integer, name text); create table old (id integer, name text) engine = MyISAM")
        .await;
    let (code, _) = refused(&place, &load("old", "mode: append")).await;
    assert_eq!(code, "not_transactional");
    let Database::Mariadb(server) = &place.database else {
        unreachable!("it is MariaDB")
    };
    let mut locking = server.connect().await;
    locking.execute("lock tables there write").await.unwrap();
    let (code, told) = refused(&place, &load("there", "mode: append")).await;
    assert_eq!(code, "lock_timeout");
    assert!(
        told.starts_with("connection `db`, table `there`: "),
        "{told}"
    );
    kill(&mut place.database);
    let (code, _) = refused(&place, &load("there", "mode: append")).await;
    assert_eq!(code, "database_unreachable");
}

#[tokio::test]
async fn the_errors_of_mariadb_are_told_apart() {
    errors_are_told_apart(On::Mariadb).await;
}

#[tokio::test]
async fn a_worker_without_the_key_says_so() {
    let place = Place::with(On::Sqlite, 1, &[]).await;
    place.put("rows.csv", "id,name\n1,one\n");
    let (code, _) = refused(&place, &query("db", "select 1 as x")).await;
    assert_eq!(code, "no_secrets_key");
    let key = super::SECRETS_KEY;
    assert!(!place.service.logs().contains(key));
}

#[tokio::test]
async fn a_locked_table_of_postgresql_is_waited_for_and_then_named() {
    let mut place = Place::new(On::Postgres).await;
    place.put("rows.csv", "id,name\n1,one\n");
    place
        .database
        .run("create table there (id integer, name text)")
        .await;
    let Database::Postgres(server) = &place.database else {
        unreachable!("it is PostgreSQL")
    };
    let mut locking = server.connect().await;
    locking.execute("begin").await.unwrap();
    locking.execute("lock table there").await.unwrap();
    let (code, told) = refused(&place, &load("there", "mode: append")).await;
    assert_eq!(code, "lock_timeout");
    assert!(
        told.starts_with("connection `db`, table `there`: "),
        "{told}"
    );
    // With another attempt it goes well.
    let retry = "{ id: last, load: { connection: db, table: there, from: rows, mode: append }, \
                 retry: { attempts: 20, backoff: constant, initial: 100ms } }";
    let steps = [READ, retry];
    let (loaded, ()) = tokio::join!(place.run("patient", &steps), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        locking.execute("commit").await.unwrap();
    });
    assert_eq!(loaded.unwrap()["rows"], 1);

    kill(&mut place.database);
    let (code, _) = refused(&place, &load("there", "mode: append")).await;
    assert_eq!(code, "database_unreachable");
}

fn kill(database: &mut Database) {
    match database {
        Database::Postgres(server) => PrivatePostgres::kill(server),
        Database::Mariadb(server) => server.kill(),
        Database::Sqlite(_) => {}
    }
}
