//! Why something in a database could not be done.

use std::fmt;

use millstream_shared::connection::Server;

use super::CONNECT_MAX;
use crate::{connections::ConnectionError, mask::Mask, tables::TableError};

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
            // Its text is about the driver's own parts.
            sqlx::Error::Protocol(_) => Self::refused(
                "statement_refused",
                "the server answered with what no step takes: `copy … from stdin` and the like \
                 need a program at their other end, so have `load` or `query` bring the rows",
            ),
            error => Self::refused("database_failed", error.to_string()),
        }
    }

    /// The same, said of what it happened to, such as "connection `db`".
    pub(super) fn of(self, what: &str) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// The same, without any of these texts.
    pub(super) fn without(mut self, secrets: &[String]) -> Self {
        let mask = Mask::default();
        mask.add(secrets.iter().map(String::as_str));
        self.message = mask.text(&self.message);
        self
    }
}

/// Why no connection to a server could be had that has said nothing itself;
/// `usual` is the port of its kind.
pub(super) fn unreachable(server: &Server, usual: u16, why: &std::io::Error) -> DatabaseError {
    let address = address(server, usual);
    let inner = why.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(error) = inner {
        return not_encrypted(server, usual, &untrusted(error, server));
    }
    let message = format!("{address} cannot be reached: {why}");
    DatabaseError::passing("database_unreachable", message)
}

/// A server whose way cannot be encrypted.
pub(super) fn not_encrypted(server: &Server, usual: u16, why: &str) -> DatabaseError {
    let address = address(server, usual);
    let message = format!("the way to {address} cannot be encrypted: {why}");
    DatabaseError::refused("tls_failed", message)
}

/// What is wrong with the certificate of a server.
fn untrusted(error: &rustls::Error, server: &Server) -> String {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(
            Certificate::UnknownIssuer | Certificate::BadSignature,
        ) => "no authority that is trusted has signed its certificate; `ca` of the connection can \
              name further ones"
            .to_owned(),
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => format!("its certificate is for another host than `{}`", server.host),
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        error => error.to_string(),
    }
}

/// A server of another kind.
pub(super) fn other_kind(server: &Server, usual: u16, kind: &str) -> DatabaseError {
    let address = address(server, usual);
    let message = format!("{address} does not answer as {kind} does");
    DatabaseError::passing("database_unreachable", message)
}

/// A server that says nothing while it is connected to.
pub(super) fn silent(server: &Server, usual: u16) -> DatabaseError {
    let address = address(server, usual);
    let message = format!("{address} did not answer within {CONNECT_MAX:?}");
    DatabaseError::passing("database_unreachable", message)
}

fn address(server: &Server, usual: u16) -> String {
    format!("{}:{}", server.host, server.port.map_or(usual, u16::from))
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
        assert_eq!(told.message, "refused: pass ***, again ***");
    }
}
