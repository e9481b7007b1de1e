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
mod rows;
mod session;
mod sqlite;
mod texts;

use std::time::Duration;

use millstream_shared::{connection::Connection, flow::step::LoadStep, id::ConnectionName};
use serde_json::Value;

pub(crate) use error::DatabaseError;
pub(crate) use marker::{Change, Marker};

use crate::{
    connections::Connections,
    fault,
    tables::{Engine, Feed, Files, Table},
};
use session::{Load, Statement};

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
        connection: &ConnectionName,
        (sql, params): (&str, &[Value]),
        engine: &Engine,
        files: &Files,
    ) -> Result<Table, DatabaseError> {
        let statement = Statement { sql, params };
        let connection = self.connections.named(connection).await?;
        let answered = match &connection {
            Connection::Postgres(server) => {
                postgres::query(server, &statement, engine, self.around).await
            }
            Connection::Mysql(server) => {
                mysql::query(server, &statement, engine, self.around).await
            }
            Connection::Sqlite(file) => {
                sqlite::query(file, files, &statement, engine, self.around).await
            }
            other => Err(unavailable(other)),
        };
        answered.map_err(|error| error.without(&connection.secret_values()))
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
        let loading = async {
            match &connection {
                Connection::Postgres(server) => {
                    names::fit_postgres(&step.table, load.names().iter().map(String::as_str))?;
                    let session = postgres::Postgres::connect(server, self.around).await?;
                    session::load(session, &load).await
                }
                Connection::Mysql(server) => {
                    let session = mysql::Mysql::connect(server, self.around).await?;
                    session::load(session, &load).await
                }
                Connection::Sqlite(file) => {
                    let session = sqlite::Sqlite::connect(file, files, true, self.around).await?;
                    session::load(session, &load).await
                }
                other => Err(unavailable(other)),
            }
        };
        let change = loading.await;
        let change = change.map_err(|error| error.without(&connection.secret_values()))?;
        let (_, bytes) = load.taken().await;
        Ok((change, bytes))
    }

    /// Executes a statement, once for each marker.
    pub(crate) async fn execute(
        &self,
        marker: Marker,
        connection: &ConnectionName,
        (sql, params): (&str, &[Value]),
        files: &Files,
    ) -> Result<Change, DatabaseError> {
        let statement = Statement { sql, params };
        refuse_transactions(sql)?;
        let connection = self.connections.named(connection).await?;
        let executing = async {
            match &connection {
                Connection::Postgres(server) => {
                    let session = postgres::Postgres::connect(server, self.around).await?;
                    session::execute(session, &marker, &statement).await
                }
                Connection::Mysql(server) => {
                    let session = mysql::Mysql::connect(server, self.around).await?;
                    session::execute(session, &marker, &statement).await
                }
                Connection::Sqlite(file) => {
                    let session = sqlite::Sqlite::connect(file, files, true, self.around).await?;
                    session::execute(session, &marker, &statement).await
                }
                other => Err(unavailable(other)),
            }
        };
        executing
            .await
            .map_err(|error| error.without(&connection.secret_values()))
    }
}

fn unavailable(connection: &Connection) -> DatabaseError {
    let kind = connection.kind();
    let message = if connection.is_database() {
        format!("databases of the kind `{kind}` are not available in this version")
    } else {
        format!("the connection is of the kind `{kind}`, which is no database")
    };
    DatabaseError::refused("wrong_connection", message)
}

/// Refuses what would end the transaction that holds the marker.
fn refuse_transactions(sql: &str) -> Result<(), DatabaseError> {
    let word = first_word(sql).to_ascii_lowercase();
    let is_control = matches!(
        word.as_str(),
        "begin"
            | "start"
            | "commit"
            | "rollback"
            | "abort"
            | "end"
            | "savepoint"
            | "release"
            | "xa"
    );
    if is_control {
        let message = format!(
            "`{word}` is not for steps: each statement has a transaction of its own, which holds \
             that the step is done"
        );
        return Err(DatabaseError::refused("statement_refused", message));
    }
    Ok(())
}

/// Whether a text is one statement. What holds several, as a trigger does, is
/// not.
fn is_single(sql: &str) -> bool {
    let mut rest = sql;
    while let Some(start) = rest.find(['\'', '"', '`', '[', ';', '-', '/']) {
        let (mark, behind) = rest[start..].split_at(1);
        let end = match mark {
            ";" => return behind_comments(behind).is_empty(),
            "-" if behind.starts_with('-') => "\n",
            "/" if behind.starts_with('*') => "*/",
            "-" | "/" => "",
            "[" => "]",
            quote => quote,
        };
        rest = match behind.find(end) {
            Some(place) => &behind[place + end.len()..],
            None => "",
        };
    }
    true
}

/// The first word of a statement, behind its comments.
fn first_word(sql: &str) -> &str {
    let rest = behind_comments(sql);
    let end = rest.find(|letter: char| !letter.is_ascii_alphabetic());
    &rest[..end.unwrap_or(rest.len())]
}

/// What stands behind the comments that a text starts with.
fn behind_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let behind = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, behind)| behind)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, behind)| behind)
        } else {
            return rest;
        };
        rest = behind.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_statements_are_told_from_one() {
        for sql in [
            "select ';' as \"a;b\", 1 - 2 / 3; -- the end",
            "select 1",
            "select [a;b] from `c;d` /* ; */ ;",
        ] {
            assert!(is_single(sql), "{sql}");
        }
        for sql in [
            "select 1; select 2",
            "delete from a;\ncommit",
            "select ';'; commit",
            "create table t /*trigger*/ (a); pragma query_only=off; delete from t",
        ] {
            assert!(!is_single(sql), "{sql}");
        }
    }

    #[test]
    fn a_statement_cannot_end_the_transaction_of_its_marker() {
        for sql in ["commit", " /* x */ -- y\n ROLLBACK to a", "Begin;"] {
            let refused = refuse_transactions(sql).unwrap_err();
            assert_eq!(refused.code, "statement_refused");
        }
        for sql in ["insert into t values (1)", "-- commit", "", "/* commit"] {
            assert!(refuse_transactions(sql).is_ok(), "{sql}");
        }
    }
}
