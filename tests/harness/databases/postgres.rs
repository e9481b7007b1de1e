//! A PostgreSQL server of a test's own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, ValueRef,
    postgres::{PgConnectOptions, PgSslMode},
};
use tempfile::TempDir;

use super::{ServerCertificate, ServerProcess, as_user, finish, give};
use crate::{SOON, eventually, redis_node::free_port};

const USER: &str = "millstream";
const PASSWORD: &str = "canary-of-postgres";

/// A server in a folder of its own, reached by TCP with a password.
#[derive(Debug)]
pub struct PrivatePostgres {
    // The server ends before its folder goes.
    server: ServerProcess,
    folder: TempDir,
    port: u16,
}

impl PrivatePostgres {
    /// Starts a server with an empty database, and waits until it answers.
    ///
    /// # Panics
    /// Panics where there is no PostgreSQL.
    pub async fn start() -> Self {
        Self::started(None).await
    }

    /// The same for a server that encrypts, with this certificate.
    ///
    /// # Panics
    /// Panics where there is no PostgreSQL.
    pub async fn start_with(certificate: &ServerCertificate) -> Self {
        Self::started(Some(certificate)).await
    }

    async fn started(certificate: Option<&ServerCertificate>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-postgres-")
            .tempdir()
            .unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        if let Some(certificate) = certificate {
            certificate.put(folder.path());
        }
        give(folder.path(), "postgres");
        let data = folder.path().join("data");
        finish(
            as_user("postgres", &program("initdb"))
                .args(["--username", USER, "--auth", "scram-sha-256", "--no-sync"])
                .args(["--encoding", "UTF8", "--no-locale", "--pwfile"])
                .arg(folder.path().join("password"))
                .arg(&data)
                .current_dir(folder.path()),
        );
        let port = free_port();
        let mut started = Self {
            server: spawn(folder.path(), port),
            folder,
            port,
        };
        started.answers().await;
        started
    }

    /// Waits until it answers. A server that ends at its start is started again:
    /// parts of the one before may still be there.
    async fn answers(&mut self) {
        let started = std::cell::RefCell::new(self);
        eventually(SOON, "PostgreSQL to answer", || async {
            let options = {
                let mut started = started.borrow_mut();
                if started.server.0.try_wait().unwrap().is_some() {
                    started.server = spawn(started.folder.path(), started.port);
                }
                started.options()
            };
            options.connect().await.ok()
        })
        .await;
    }

    /// Starts it again after [`PrivatePostgres::kill`].
    pub async fn restart(&mut self) {
        self.server = spawn(self.folder.path(), self.port);
        self.answers().await;
    }

    /// The connection to it, as an administrator would write it.
    pub fn connection(&self) -> Value {
        json!({
            "kind": "postgres", "host": "127.0.0.1", "port": self.port,
            "database": "postgres", "user": USER, "password": PASSWORD,
        })
    }

    /// Kills it as a loss of power does: with those of its processes that serve
    /// connections, which would go on without it for a moment.
    pub fn kill(&mut self) {
        let server = self.server.0.id();
        let path = format!("/proc/{server}/task/{server}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        self.server.0.kill().unwrap();
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap());
            // One that has ended meanwhile needs no killing.
            let _ = kill(child, Signal::SIGKILL);
        }
        self.server.0.wait().unwrap();
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A connection of an administrator's own.
    pub async fn connect(&self) -> PgConnection {
        self.options().connect().await.unwrap()
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
        let text = |row: &sqlx::postgres::PgRow| {
            let value = row.try_get_raw(0).unwrap();
            let is_null = value.is_null();
            if is_null {
                "∅".to_owned()
            } else {
                value.as_str().unwrap().to_owned()
            }
        };
        rows.iter().map(text).collect()
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(USER)
            .password(PASSWORD)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
    }
}

fn spawn(folder: &Path, port: u16) -> ServerProcess {
    let log = File::options()
        .append(true)
        .create(true)
        .open(folder.join("log"));
    let log = log.unwrap();
    let mut command = as_user("postgres", &program("postgres"));
    if folder.join("server.pem").exists() {
        let file = |name: &str| folder.join(name).display().to_string();
        command
            .args(["-c", "ssl=on"])
            .args(["-c", &format!("ssl_cert_file={}", file("server.pem"))])
            .args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
    }
    let server = command
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
        .args(["-p", &port.to_string(), "-D"])
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    ServerProcess(server.unwrap())
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let mut found: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin").join(name))
        .filter(|program| program.exists())
        .collect();
    found.sort();
    let found = found.pop().or_else(|| on_search_path(name));
    found.unwrap_or_else(|| panic!("{name} must be there: `apt-get install postgresql` brings it"))
}

fn on_search_path(name: &str) -> Option<PathBuf> {
    let found = Command::new("which").arg(name).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?;
    let path = Path::new(path.trim()).to_owned();
    path.exists().then_some(path)
}
