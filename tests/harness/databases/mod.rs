//! Databases of a test's own, as flows reach them.

mod certificates;
mod mariadb;
mod postgres;
mod sqlite;

use std::{
    os::unix::fs::MetadataExt,
    process::{Child, Command},
};

use serde_json::Value;

pub use certificates::{Authority, ServerCertificate};
pub use mariadb::PrivateMariadb;
pub use postgres::PrivatePostgres;
pub use sqlite::SqliteFile;

/// A database of a test's own. Everything in it goes with the test.
#[derive(Debug)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres(PrivatePostgres),
    /// A MariaDB server.
    Mariadb(PrivateMariadb),
    /// A file of SQLite.
    Sqlite(SqliteFile),
}

impl Database {
    /// The connection to it, as an administrator would write it.
    pub fn connection(&self) -> Value {
        match self {
            Self::Postgres(server) => server.connection(),
            Self::Mariadb(server) => server.connection(),
            Self::Sqlite(file) => file.connection(),
        }
    }

    /// Executes statements, separated by semicolons.
    pub async fn run(&self, sql: &str) {
        match self {
            Self::Postgres(server) => server.run(sql).await,
            Self::Mariadb(server) => server.run(sql).await,
            Self::Sqlite(file) => file.run(sql).await,
        }
    }

    /// The texts in the only column of what a statement answers.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Postgres(server) => server.texts(sql).await,
            Self::Mariadb(server) => server.texts(sql).await,
            Self::Sqlite(file) => file.texts(sql).await,
        }
    }
}

/// A server process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess(pub(crate) Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs as this user where the test itself is root: such servers
/// refuse to be root. It dies with the test.
fn as_user(user: &str, program: &std::path::Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .args(["--clear-groups", "--pdeathsig", "KILL", "--"])
        .arg(program);
    command
}

/// Gives a folder to the user that [`as_user`] would run a server as.
fn give(folder: &std::path::Path, user: &str) {
    if is_root() {
        let status = Command::new("chown")
            .arg("-R")
            .arg(user)
            .arg(folder)
            .status();
        assert!(
            status.unwrap().success(),
            "{} cannot be given to {user}",
            folder.display()
        );
    }
}

fn is_root() -> bool {
    let own = tempfile::tempfile().unwrap();
    own.metadata().unwrap().uid() == 0
}

/// Runs a command to its end.
fn finish(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
