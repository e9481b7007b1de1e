//! A MariaDB server of a test's own.

use std::{fs::File, path::Path, process::Stdio};

use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};
use tempfile::TempDir;

use super::{ServerCertificate, ServerProcess, as_user, finish, give};
use crate::{SOON, eventually, redis_node::free_port};

const USER: &str = "millstream";
const PASSWORD: &str = "canary-of-mariadb";
const DATABASE: &str = "flows";

/// A server in a folder of its own, reached by TCP with a password.
#[derive(Debug)]
pub struct PrivateMariadb {
    // The server ends before its folder goes.
    server: ServerProcess,
    folder: TempDir,
    port: u16,
}

impl PrivateMariadb {
    /// Starts a server with an empty database, and waits until it answers.
    ///
    /// # Panics
    /// Panics where there is no MariaDB.
    pub async fn start() -> Self {
        Self::started(None).await
    }

    /// The same for a server that encrypts, with this certificate.
    ///
    /// # Panics
    /// Panics where there is no MariaDB.
    pub async fn start_with(certificate: &ServerCertificate) -> Self {
        Self::started(Some(certificate)).await
    }

    async fn started(certificate: Option<&ServerCertificate>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-mariadb-")
            .tempdir()
            .unwrap();
        let data = folder.path().join("data");
        // Servers that start clear away what others have in a folder for temporary
        // tables that they share.
        let temporary = folder.path().join("temporary");
        for made in [&data, &temporary] {
            std::fs::create_dir(made).unwrap();
        }
        if let Some(certificate) = certificate {
            certificate.put(folder.path());
        }
        give(folder.path(), "mysql");
        let data = format!("--datadir={}", data.display());
        finish(
            as_user("mysql", Path::new("mariadb-install-db"))
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(["--skip-test-db", &data])
                .env("TMPDIR", &temporary)
                .current_dir(folder.path()),
        );
        let port = free_port();
        let started = Self {
            server: spawn(folder.path(), port),
            folder,
            port,
        };
        let socket = started.folder.path().join("socket");
        let root = MySqlConnectOptions::new()
            .socket(&socket)
            .username("root")
            .ssl_mode(MySqlSslMode::Disabled);
        let mut root = eventually(SOON, "MariaDB to answer", || async {
            root.connect().await.ok()
        })
        .await;
        let sql = format!(
            "create database {DATABASE} character set utf8mb4; \
             create user {USER}@'%' identified by '{PASSWORD}'; \
             grant all on *.* to {USER}@'%'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut root)
            .await
            .unwrap();
        started
    }

    /// The connection to it, as an administrator would write it.
    pub fn connection(&self) -> Value {
        json!({
            "kind": "mysql", "host": "127.0.0.1", "port": self.port,
            "database": DATABASE, "user": USER, "password": PASSWORD,
        })
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server.0.kill().unwrap();
        self.server.0.wait().unwrap();
    }

    /// Starts it again after [`PrivateMariadb::kill`].
    pub async fn restart(&mut self) {
        self.server = spawn(self.folder.path(), self.port);
        let options = self.options();
        eventually(SOON, "MariaDB to answer", || async {
            options.connect().await.ok()
        })
        .await;
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A connection of an administrator's own.
    pub async fn connect(&self) -> MySqlConnection {
        self.options().connect().await.unwrap()
    }

    fn options(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username(USER)
            .password(PASSWORD)
            .database(DATABASE)
            .ssl_mode(MySqlSslMode::Disabled)
    }

    pub(super) async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let ran = statements.execute(&mut connection).await;
        ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.unwrap();
    }

    pub(super) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let asked = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let rows = asked.fetch_all(&mut connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = |row: &sqlx::mysql::MySqlRow| {
            let text: Option<String> = row.try_get_unchecked(0).unwrap();
            text.unwrap_or_else(|| "∅".to_owned())
        };
        rows.iter().map(text).collect()
    }
}

fn spawn(folder: &Path, port: u16) -> ServerProcess {
    let log = File::options()
        .append(true)
        .create(true)
        .open(folder.join("log"))
        .unwrap();
    let mut command = as_user("mysql", Path::new("mariadbd"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1"]);
    if folder.join("server.pem").exists() {
        let file = |name: &str| folder.join(name).display().to_string();
        command
            .arg(format!("--ssl-cert={}", file("server.pem")))
            .arg(format!("--ssl-key={}", file("server.key")));
    }
    let server = command
        .args([
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
        ])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--port={port}"))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .env("TMPDIR", folder.join("temporary"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("mariadbd must be there, `apt-get install mariadb-server` brings it: {error}")
        });
    ServerProcess(server)
}
