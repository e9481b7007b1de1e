//! Steps that work on databases: what is loaded is what is asked for, errors
//! say what is wrong, and every change happens once.

mod crash;
mod errors;
mod kills;
mod modes;
mod streams;
mod tls;
mod trouble;
mod values;

use std::{fs, time::Duration};

use harness::{Database, PrivateMariadb, PrivatePostgres, Service, Setup, SqliteFile};
use millstream_shared::{
    connection::{Connection, SecretsKeys},
    process::RedisSettings,
    store::{Store, Vault},
};
use serde_json::Value;

/// The key that the connections of tests are sealed with.
const SECRETS_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Settings of every worker here: it opens connections, and is not patient.
const WORKER: &[(&str, &str)] = &[
    ("MILLSTREAM_SECRETS_KEY", SECRETS_KEY),
    ("MILLSTREAM_DATABASE_LOCK_WAIT", "1s"),
];

/// A kind of database to test on.
#[derive(Clone, Copy, Debug)]
enum On {
    Postgres,
    Mariadb,
    Sqlite,
}

/// A service and a database that its flows know as `db`.
struct Place {
    service: Service,
    database: Database,
}

impl Place {
    async fn new(on: On) -> Self {
        Self::with(on, 1, WORKER).await
    }

    async fn with(on: On, workers: usize, worker: &'static [(&'static str, &'static str)]) -> Self {
        let service = Service::start(Setup {
            workers,
            worker,
            ..Setup::default()
        })
        .await;
        let database = match on {
            On::Postgres => Database::Postgres(PrivatePostgres::start().await),
            On::Mariadb => Database::Mariadb(PrivateMariadb::start().await),
            On::Sqlite => Database::Sqlite(SqliteFile::at(service.files().join("flows.sqlite"))),
        };
        let place = Self { service, database };
        place.connect("db", &place.database.connection()).await;
        place
    }

    /// Keeps a connection, as an administrator does.
    async fn connect(&self, name: &str, connection: &Value) {
        let settings = RedisSettings {
            url: self.service.redis.url(),
            timeout: Duration::from_secs(5),
            partitions: None,
        };
        let store = Store::connect(&settings).await.unwrap();
        let keys: SecretsKeys = SECRETS_KEY.parse().unwrap();
        let vault = Vault {
            store: &store,
            keys: &keys,
        };
        let connection = Connection::parse(connection).unwrap();
        let name = name.parse().unwrap();
        vault.put_connection(&name, &connection).await.unwrap();
    }

    /// Puts a file where steps can read it.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.service.files().join(name), text).unwrap();
    }

    /// A file that a step has written.
    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.service.files().join(name)).unwrap()
    }

    /// Publishes a flow of these steps, each one line of YAML, and runs it.
    async fn run(&self, id: &str, steps: &[&str]) -> Result<Value, Value> {
        let admin = self.service.admin();
        admin.publish(&flow(id, "default", steps)).await;
        let run = admin.start(id).await;
        match admin.end(id, &run).await.as_str() {
            "Succeeded" => Ok(self.output(&run).await),
            _ => Err(self.service.run_error(&run).await),
        }
    }

    /// What the last step of a run handed on.
    async fn output(&self, run: &str) -> Value {
        self.service.run_output(run).await
    }
}

/// A flow of these steps, each one line of YAML. Its output is what the last
/// one, `last`, handed on.
fn flow(id: &str, tag: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("id: {id}\nworker_tag: {tag}\nsteps:\n{steps}output: \"{{{{ steps.last }}}}\"\n")
}
