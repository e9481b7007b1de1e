//! Servers that fall silent or die: a clear error, and nothing half done.

use std::net::TcpListener;

use harness::{Database, SOON, eventually};
use serde_json::json;

use super::{On, Place, SECRETS_KEY, flow};

/// A worker that keeps its runs while it stands still.
const STEADY: &[(&str, &str)] = &[
    ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
    ("MILLSTREAM_DATABASE_LOCK_WAIT", "10s"),
    ("MILLSTREAM_LEASE", "2m"),
];

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() {
    let place = Place::new(On::Sqlite).await;
    // The system accepts, and nobody looks.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let asking = ["postgres", "mysql"].map(|kind| {
        let place = &place;
        async move {
            let connection = json!({
                "kind": kind, "host": "127.0.0.1", "port": port, "database": "d", "user": "u",
            });
            place.connect(kind, &connection).await;
            let step = format!("{{ id: last, query: {{ connection: {kind}, sql: select 1 }} }}");
            let error = place.run(kind, &[&step]).await.unwrap_err();
            assert_eq!(error["code"], "database_unreachable", "{error}");
            assert_eq!(error["step"], "last", "{error}");
            let message = error["message"].as_str().unwrap();
            let wanted = format!("connection `{kind}`: 127.0.0.1:{port} did not answer within 10s");
            assert_eq!(message, wanted);
        }
    });
    futures::future::join_all(asking).await;
}

/// The server dies while rows are on their way. Nothing of them is there when it
/// is back, and another attempt brings all of them.
async fn a_server_that_dies_halfway_has_nothing_or_all(on: On) {
    let mut place = Place::with(on, 0, STEADY).await;
    let rows: String = (2..6000).map(|id| format!("{id},name {id}\n")).collect();
    place.put("rows.csv", &format!("id,name\n{rows}"));
    place
        .database
        .run(
            "create table kept (id integer, name varchar(100)); insert into kept values (1, 'old')",
        )
        .await;
    let steps = [
        "{ id: rows, read: { path: rows.csv } }",
        "{ id: last, load: { connection: db, table: kept, from: rows, mode: replace } }",
    ];
    let admin = place.service.admin();
    admin.publish(&flow("load", "default", &steps)).await;
    let fault = ("MILLSTREAM_FAULT", "mid_copy:1:freeze".to_owned());
    let worker = place.service.add_worker_with(&[fault]).await.id();
    let run = admin.start("load").await;
    eventually(SOON, "the worker to stand still", || async {
        let status = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        status.contains(") T ").then_some(())
    })
    .await;
    kill(&mut place.database);
    place.service.workers[0].thaw();
    assert_eq!(admin.end("load", &run).await, "Failed");
    let error = place.service.run_error(&run).await;
    assert_eq!(error["code"], "connection_lost", "{error}");
    let message = error["message"].as_str().unwrap();
    let named = "connection `db`, table `kept`: the connection was lost";
    assert!(message.starts_with(named), "{error}");

    restart(&mut place.database).await;
    let all = "select concat_ws('|', id, name) from kept order by id";
    assert_eq!(place.database.texts(all).await, ["1|old"]);
    let again = place.run("again", &steps).await.unwrap();
    assert_eq!(again["rows"], 5998);
    assert_eq!(place.database.texts(all).await.len(), 5998);
}

#[tokio::test]
async fn a_postgresql_that_dies_halfway_has_nothing_or_all() {
    a_server_that_dies_halfway_has_nothing_or_all(On::Postgres).await;
}

#[tokio::test]
async fn a_mariadb_that_dies_halfway_has_nothing_or_all() {
    a_server_that_dies_halfway_has_nothing_or_all(On::Mariadb).await;
}

#[tokio::test]
async fn a_copy_that_needs_another_end_is_refused_in_a_sentence() {
    let place = Place::new(On::Postgres).await;
    place.database.run("create table kept (id integer)").await;
    for sql in ["copy kept from stdin", "copy kept to stdout"] {
        let step = format!("{{ id: last, execute: {{ connection: db, sql: {sql} }} }}");
        let error = place.run("copy", &[&step]).await.unwrap_err();
        assert_eq!(error["code"], "statement_refused", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("have `load` or `query` bring the rows"),
            "{error}"
        );
    }
    let marked = "select run from millstream_steps";
    assert!(place.database.texts(marked).await.is_empty());
}

fn kill(database: &mut Database) {
    match database {
        Database::Postgres(server) => server.kill(),
        Database::Mariadb(server) => server.kill(),
        Database::Sqlite(_) => {}
    }
}

async fn restart(database: &mut Database) {
    match database {
        Database::Postgres(server) => server.restart().await,
        Database::Mariadb(server) => server.restart().await,
        Database::Sqlite(_) => {}
    }
}
