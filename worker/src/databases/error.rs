//! Why something in a database could not be done.

use std::fmt;

use crate::{connections::ConnectionError, tables::TableError};

/// Why something in a database could not be done, with the database's own words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DatabaseError {
    /// A stable word for the cause.
    pub(crate) code: &'static str,
    /// One sentence for people, without any secret.
    pub(crate) message: String,
    /// Whether another attempt may go better.
    pub(crate) is_passing: bool,
}

impl DatabaseError {
    /// Another attempt would only repeat it.
    pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            is_passing: false,
        }
    }

    /// Another attempt may not meet it.
    pub(super) fn passing(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_passing: true,
            ..Self::refused(code, message)
        }
    }

    /// A value that does not fit, named by column and row.
    pub(super) fn value(code: &'static str, place: Place<'_>, reason: impl fmt::Display) -> Self {
        Self::refused(code, format!("{place}: {reason}"))
    }

    /// What a driver says that is no answer of the database. `codes` has been
    /// asked about those before.
    pub(super) fn of_driver(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) => Self::passing(
                "connection_lost",
                format!("the connection was lost: {error}"),
            ),
            sqlx::Error::Tls(error) => Self::refused(
                "tls_failed",
                format!("the way cannot be encrypted: {error}"),
            ),
            sqlx::Error::WorkerCrashed => Self::passing(
                "connection_lost",
                "the thread that had the database open has ended",
            ),
            error => Self::refused("database_failed", error.to_string()),
        }
    }

    /// The same, without any of these texts.
    pub(super) fn without(mut self, secrets: &[String]) -> Self {
        for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
            self.message = self.message.replace(secret.as_str(), "…");
        }
        self
    }
}

impl From<ConnectionError> for DatabaseError {
    fn from(error: ConnectionError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            is_passing: error.is_passing,
        }
    }
}

impl From<TableError> for DatabaseError {
    fn from(error: TableError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            is_passing: error.is_retriable(),
        }
    }
}

/// Where in a table a value stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) column: &'a str,
    /// From 1.
    pub(super) row: u64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}`, row {}", self.column, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_told() {
        let error = DatabaseError::passing("x", "refused: pass canary-1, again canary-1");
        let told = error.without(&["canary-1".to_owned(), String::new(), "r".to_owned()]);
        assert_eq!(told.message, "refused: pass …, again …");
    }
}
