//! The way to a database is encrypted as its connection says.

use harness::{Authority, Database, PrivateMariadb, PrivatePostgres};
use serde_json::{Value, json};

use super::{On, Place};

/// What asks whether its own way is encrypted.
fn question(database: &Database) -> &'static str {
    match database {
        Database::Mariadb(_) => {
            "select case when variable_value = '''' then ''plain'' else ''encrypted'' end as way \
             from information_schema.session_status where variable_name = ''Ssl_cipher''"
        }
        _ => {
            "select case when ssl then ''encrypted'' else ''plain'' end as way \
             from pg_stat_ssl where pid = pg_backend_pid()"
        }
    }
}

/// What a step says of the way to a database, or its error.
async fn way(place: &Place, database: &Database, change: Value) -> Result<String, Value> {
    let mut connection = database.connection();
    connection["host"] = json!("localhost");
    for (name, value) in change.as_object().unwrap() {
        connection[name] = value.clone();
    }
    place.connect("db", &connection).await;
    let steps = [
        format!(
            "{{ id: asked, query: {{ connection: db, sql: '{}' }} }}",
            question(database)
        ),
        "{ id: last, write: { path: way.csv, from: asked } }".to_owned(),
    ];
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    place.run("way", &steps).await?;
    let written = place.written("way.csv");
    Ok(written.lines().nth(1).unwrap().to_owned())
}

async fn the_way_is_as_the_connection_says(secure: Database, plain: Database, own: &Authority) {
    let place = Place::new(On::Sqlite).await;
    let (ca, other) = (own.pem(), Authority::new().pem());
    for (change, expected) in [
        (json!({ "tls": "disable" }), "plain"),
        (json!({ "tls": "prefer" }), "encrypted"),
        (json!({ "tls": "require" }), "encrypted"),
        (json!({ "tls": "verify", "ca": ca }), "encrypted"),
    ] {
        let way = way(&place, &secure, change.clone()).await;
        assert_eq!(way.as_deref(), Ok(expected), "{change}");
    }
    assert_eq!(
        way(&place, &plain, json!({ "tls": "prefer" }))
            .await
            .as_deref(),
        Ok("plain")
    );
    for (database, change, told) in [
        (
            &secure,
            json!({ "tls": "verify" }),
            "no authority that is trusted",
        ),
        (
            &secure,
            json!({ "tls": "verify", "ca": other }),
            "no authority that is trusted",
        ),
        (
            &secure,
            json!({ "tls": "verify", "ca": ca, "host": "127.0.0.1" }),
            "is for another host than `127.0.0.1`",
        ),
        (
            &secure,
            json!({ "tls": "verify", "ca": "no certificate" }),
            "`ca`",
        ),
        (&plain, json!({ "tls": "require" }), "does not support TLS"),
        (
            &plain,
            json!({ "tls": "verify", "ca": ca }),
            "does not support TLS",
        ),
    ] {
        let error = way(&place, database, change.clone()).await.unwrap_err();
        assert_eq!(error["code"], "tls_failed", "{change}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("connection `db`: "), "{error}");
        assert!(message.contains(told), "{change}: {error}");
    }
}

#[tokio::test]
async fn the_way_to_postgresql_is_as_the_connection_says() {
    let own = Authority::new();
    let secure = PrivatePostgres::start_with(&own.certify("localhost")).await;
    let plain = PrivatePostgres::start().await;
    the_way_is_as_the_connection_says(Database::Postgres(secure), Database::Postgres(plain), &own)
        .await;
}

#[tokio::test]
async fn the_way_to_mariadb_is_as_the_connection_says() {
    let own = Authority::new();
    let secure = PrivateMariadb::start_with(&own.certify("localhost")).await;
    let plain = PrivateMariadb::start().await;
    the_way_is_as_the_connection_says(Database::Mariadb(secure), Database::Mariadb(plain), &own)
        .await;
}
