//! What each mode of a load does to the rows that are there.

use super::{On, Place};

const READ: &str = "{ id: rows, read: { path: rows.csv } }";

fn load(mode: &str) -> String {
    format!("{{ id: last, load: {{ connection: db, table: kept, from: rows, {mode} }} }}")
}

async fn modes_do_what_they_say(on: On) {
    let place = Place::new(on).await;
    let all = "select concat_ws('|', id, name) from kept order by id";
    place.put("rows.csv", "id,name\n1,one\n2,two\n");
    let create = load("mode: upsert, keys: [id], create: true");
    let output = place.run("first", &[READ, &create]).await.unwrap();
    let value = serde_json::json!({ "rows": 2, "inserted": 2, "updated": 0 });
    assert_eq!(output["value"], value);
    assert_eq!(place.database.texts(all).await, ["1|one", "2|two"]);

    place.put("rows.csv", "name,id\nzwei,2\ndrei,3\n");
    let output = place.run("second", &[READ, &create]).await.unwrap();
    let value = serde_json::json!({ "rows": 2, "inserted": 1, "updated": 1 });
    assert_eq!(output["value"], value);
    assert_eq!(
        place.database.texts(all).await,
        ["1|one", "2|zwei", "3|drei"]
    );

    place.put("rows.csv", "id,name\n4,vier\n");
    place
        .run("third", &[READ, &load("mode: append")])
        .await
        .unwrap();
    assert_eq!(place.database.texts(all).await.len(), 4);

    let output = place
        .run("fourth", &[READ, &load("mode: replace")])
        .await
        .unwrap();
    assert_eq!(output["rows"], 1);
    assert_eq!(place.database.texts(all).await, ["4|vier"]);

    // A row that the table does not take: everything is as it was.
    place.put("rows.csv", "id,name\n5,fünf\n5,again\n");
    let error = place
        .run("fifth", &[READ, &load("mode: replace")])
        .await
        .unwrap_err();
    assert_eq!(error["code"], "constraint_violation", "{error}");
    assert_eq!(place.database.texts(all).await, ["4|vier"]);
    let upsert = load("mode: upsert, keys: [id]");
    let error = place.run("sixth", &[READ, &upsert]).await.unwrap_err();
    assert_eq!(error["code"], "duplicate_keys", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(": 5"),
        "{error}"
    );
    place.put("rows.csv", "id,name\n6,six\n,none\n");
    let error = place.run("seventh", &[READ, &upsert]).await.unwrap_err();
    assert_eq!(error["code"], "no_key");
    assert_eq!(
        error["message"],
        "connection `db`, table `kept`: column `id`, row 2: a key has no value"
    );
    assert_eq!(place.database.texts(all).await, ["4|vier"]);

    let statement = "{ id: last, execute: { connection: db, sql: 'delete from kept' } }";
    let output = place.run("eighth", &[statement]).await.unwrap();
    assert_eq!(
        (&output["rows"], &output["value"]["rows"]),
        (&1.into(), &1.into())
    );
    assert!(place.database.texts(all).await.is_empty());
    let marked = place
        .database
        .texts("select step from millstream_steps")
        .await;
    assert_eq!(marked.len(), 5, "{marked:?}");
}

#[tokio::test]
async fn the_modes_of_a_load_into_postgresql_do_what_they_say() {
    modes_do_what_they_say(On::Postgres).await;
}

#[tokio::test]
async fn the_modes_of_a_load_into_sqlite_do_what_they_say() {
    modes_do_what_they_say(On::Sqlite).await;
}

#[tokio::test]
async fn the_modes_of_a_load_into_mariadb_do_what_they_say() {
    modes_do_what_they_say(On::Mariadb).await;
}

#[tokio::test]
async fn a_definition_in_mariadb_is_executed_and_marked() {
    let place = Place::new(On::Mariadb).await;
    let statement =
        "{ id: last, execute: { connection: db, sql: 'create table made (id integer)' } }";
    place.run("define", &[statement]).await.unwrap();
    assert!(place.database.texts("select id from made").await.is_empty());
    let marked = place
        .database
        .texts("select step from millstream_steps")
        .await;
    assert_eq!(marked, ["last"]);
}
