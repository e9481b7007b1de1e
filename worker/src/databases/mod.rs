//! Databases: rows out of them, and changes in them that happen once however
//! often a step is executed.
//!
//! Each attempt of a step has a connection of its own. One that is given up
//! closes it, which rolls back what was not committed.

mod answer;
mod cell;
mod column;
mod decimal;
mod error;
mod kind;
mod marker;
mod mysql;
mod names;
mod postgres;
#[cfg(test)]
mod round_trip_tests;
mod rows;
mod session;
mod sqlite;
#[cfg(feature = "sqlserver")]
mod sqlserver;
mod statement;
mod texts;

use std::time::Duration;

use millstream_shared::{connection::Connection, flow::step::LoadStep, id::ConnectionName};
use serde_json::Value;

pub(crate) use error::DatabaseError;
pub(crate) use marker::{Change, Marker};

use crate::{
    connections::Connections,
    tables::{Engine, Feed, Files, Table},
};
use session::Load;
use statement::Statement;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long taking leave may take.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// The databases that steps can reach.
pub(crate) struct Databases {
    connections: Connections,
    around: Around,
}

/// What holds for every connection.
#[derive(Clone, Copy, Debug)]
struct Around {
    /// How long a statement waits for what another one has locked.
    lock_wait: Duration,
}

impl Databases {
    /// The databases that `connections` lead to.
    pub(crate) fn new(connections: Connections, lock_wait: Duration) -> Self {
        Self {
            connections,
            around: Around { lock_wait },
        }
    }

    /// The rows that a statement answers. It can change nothing.
    pub(crate) async fn query(
        &self,
        name: &ConnectionName,
        (sql, params): (&str, &[Value]),
        engine: &Engine,
        files: &Files,
    ) -> Result<Table, DatabaseError> {
        let statement = Statement { sql, params };
        let connection = self.connections.named(name).await?;
        let answered = self.around.query(&connection, &statement, engine, files);
        let what = format!("connection `{name}`");
        answered
            .await
            .map_err(|error| told(error, &what, &connection))
    }

    /// Brings a table into a database, once for each marker.
    pub(crate) async fn load(
        &self,
        marker: Marker,
        step: &LoadStep,
        from: &Feed,
        files: &Files,
    ) -> Result<(Change, u64), DatabaseError> {
        names::refuse_own(&step.table)?;
        let load = Load::new(marker, step, from).await?;
        let connection = self.connections.named(&step.connection).await?;
        let loading = self.around.load(&connection, &load, files);
        let what = format!("connection `{}`, table `{}`", step.connection, step.table);
        let change = loading.await;
        let change = change.map_err(|error| told(error, &what, &connection))?;
        let (_, bytes) = load.taken().await;
        Ok((change, bytes))
    }

    /// Executes a statement, once for each marker.
    pub(crate) async fn execute(
        &self,
        marker: Marker,
        name: &ConnectionName,
        (sql, params): (&str, &[Value]),
        files: &Files,
    ) -> Result<Change, DatabaseError> {
        let statement = Statement { sql, params };
        let connection = self.connections.named(name).await?;
        let executing = self.around.execute(&connection, &marker, &statement, files);
        let what = format!("connection `{name}`");
        executing
            .await
            .map_err(|error| told(error, &what, &connection))
    }
}

/// The one place that knows every kind of database.
impl Around {
    async fn query(
        self,
        connection: &Connection,
        statement: &Statement<'_>,
        engine: &Engine,
        files: &Files,
    ) -> Result<Table, DatabaseError> {
        match connection {
            Connection::Postgres(server) => postgres::query(server, statement, engine, self).await,
            Connection::Mysql(server) => mysql::query(server, statement, engine, self).await,
            Connection::Sqlite(file) => sqlite::query(file, files, statement, engine, self).await,
            #[cfg(feature = "sqlserver")]
            Connection::Sqlserver(server) => {
                sqlserver::query(server, statement, engine, self).await
            }
            other => Err(unavailable(other)),
        }
    }

    async fn load(
        self,
        connection: &Connection,
        load: &Load<'_>,
        files: &Files,
    ) -> Result<Change, DatabaseError> {
        match connection {
            Connection::Postgres(server) => {
                names::fit_postgres(&load.table, load.columns.iter().map(|(name, _)| &**name))?;
                session::load(postgres::Postgres::connect(server, self).await?, load).await
            }
            Connection::Mysql(server) => {
                session::load(mysql::Mysql::connect(server, self).await?, load).await
            }
            Connection::Sqlite(file) => {
                session::load(sqlite::Sqlite::connect(file, files, self).await?, load).await
            }
            #[cfg(feature = "sqlserver")]
            Connection::Sqlserver(server) => {
                session::load(sqlserver::SqlServer::connect(server, self).await?, load).await
            }
            other => Err(unavailable(other)),
        }
    }

    async fn execute(
        self,
        connection: &Connection,
        marker: &Marker,
        statement: &Statement<'_>,
        files: &Files,
    ) -> Result<Change, DatabaseError> {
        // In T-SQL, `begin` also opens a block, so its own check looks closer.
        if !matches!(connection, Connection::Sqlserver(_)) {
            statement::refuse_transactions(statement.sql)?;
        }
        match connection {
            Connection::Postgres(server) => {
                let session = postgres::Postgres::connect(server, self).await?;
                session::execute(session, marker, statement).await
            }
            Connection::Mysql(server) => {
                let session = mysql::Mysql::connect(server, self).await?;
                session::execute(session, marker, statement).await
            }
            Connection::Sqlite(file) => {
                let session = sqlite::Sqlite::connect_for(statement, file, files, self).await?;
                session::execute(session, marker, statement).await
            }
            #[cfg(feature = "sqlserver")]
            Connection::Sqlserver(server) => {
                sqlserver::refuse_transactions(statement.sql)?;
                let session = sqlserver::SqlServer::connect(server, self).await?;
                session::execute(session, marker, statement).await
            }
            other => Err(unavailable(other)),
        }
    }
}

/// An error as people read it: of what it is, and without any secret.
fn told(error: DatabaseError, what: &str, connection: &Connection) -> DatabaseError {
    error.of(what).without(&connection.secret_values())
}

fn unavailable(connection: &Connection) -> DatabaseError {
    let kind = connection.kind();
    let message = if connection.is_database() {
        format!(
            "this program was built without databases of the kind `{kind}`: \
             `cargo build --release --features {kind}` builds one that has them"
        )
    } else {
        format!("the connection is of the kind `{kind}`, which is no database")
    };
    DatabaseError::refused("wrong_connection", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_that_is_of_no_use_says_what_is_missing() {
        let connection = |value| Connection::parse(&value).unwrap();
        let server = json!({ "kind": "sqlserver", "host": "h", "database": "d", "user": "u" });
        let missing = unavailable(&connection(server));
        assert_eq!(missing.code, "wrong_connection");
        let hint = "`cargo build --release --features sqlserver`";
        assert!(missing.message.contains(hint), "{missing}");
        let bucket = json!({ "kind": "s3", "bucket": "b", "access": "public" });
        let other = unavailable(&connection(bucket));
        assert!(other.message.ends_with("which is no database"), "{other}");
    }
}
