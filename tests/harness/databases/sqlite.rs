//! A file of SQLite.

use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions,
};

/// A file of SQLite in the folder that file steps may touch.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
}

impl SqliteFile {
    /// The file `path`, which need not be there.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The connection to it, as an administrator would write it.
    pub fn connection(&self) -> Value {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        json!({ "kind": "sqlite", "path": name })
    }

    /// A connection of an administrator's own.
    pub async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true);
        options.connect().await.unwrap()
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
        connection.close().await.unwrap();
        let text = |row: &sqlx::sqlite::SqliteRow| {
            let text: Option<String> = row.try_get_unchecked(0).unwrap();
            text.unwrap_or_else(|| "∅".to_owned())
        };
        rows.iter().map(text).collect()
    }
}
