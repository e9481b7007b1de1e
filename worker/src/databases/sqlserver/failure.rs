//! What SQL Server says when it refuses something.

use std::io;

use millstream_shared::connection::Server;
use tiberius::error::{Error, TokenError};

use super::PORT;
use crate::databases::error::{self, DatabaseError};

/// What the driver says of a server that cannot do what `tls` demands. It has no
/// kind of its own for it.
const NO_ENCRYPTION: &str = "Server does not allow the requested encryption level.";

/// Why something could not be done.
pub(super) fn failure(error: Error) -> DatabaseError {
    match error {
        Error::Server(told) => refusal(&told),
        Error::Io { message, .. } => DatabaseError::passing(
            "connection_lost",
            format!("the connection was lost: {message}"),
        ),
        Error::Tls(message) => DatabaseError::refused(
            "tls_failed",
            format!("the way cannot be encrypted: {message}"),
        ),
        Error::Encoding(_) | Error::Conversion(_) | Error::Utf8 | Error::Utf16 => {
            DatabaseError::refused("value_cannot_be_carried", error.to_string())
        }
        Error::BulkInput(message) => DatabaseError::refused("type_mismatch", message),
        error => DatabaseError::refused("database_failed", error.to_string()),
    }
}

fn refusal(told: &TokenError) -> DatabaseError {
    let (code, is_passing) = meaning(told.code());
    DatabaseError {
        code,
        message: told.message().to_owned(),
        is_passing,
    }
}

/// Why no connection could be had.
pub(super) fn of_connecting(error: Error, server: &Server) -> DatabaseError {
    match error {
        error if is_without_encryption(&error) => {
            error::not_encrypted(server, PORT, "the server does not offer it")
        }
        Error::Tls(why) => error::not_encrypted(server, PORT, &why),
        Error::Io {
            kind: io::ErrorKind::UnexpectedEof,
            ..
        } => error::other_kind(server, PORT, "SQL Server"),
        Error::Io { kind, message } => {
            error::unreachable(server, PORT, &io::Error::new(kind, message))
        }
        Error::Protocol(_) => error::other_kind(server, PORT, "SQL Server"),
        error => failure(error),
    }
}

/// Whether the server has no encryption to offer.
pub(super) fn is_without_encryption(error: &Error) -> bool {
    matches!(error, Error::Protocol(message) if message == NO_ENCRYPTION)
}

/// Whether somebody else has made the same thing.
pub(super) fn is_there(error: &Error) -> bool {
    error.code() == Some(2714)
}

/// Our word for a failure, and whether it may pass.
fn meaning(number: u32) -> (&'static str, bool) {
    match number {
        18452 | 18456 | 18470 | 18486..=18488 => ("access_denied", false),
        911 | 4060 | 4063 => ("unknown_database", false),
        208 | 4701 => ("unknown_table", false),
        207 | 213 => ("unknown_column", false),
        102 | 105 | 137 | 156 | 170 | 319 => ("syntax_error", false),
        229 | 230 | 262 | 297 | 300 | 916 | 1088 | 2760 => ("permission_denied", false),
        515 | 544 | 547 | 1505 | 2601 | 2627 => ("constraint_violation", false),
        1205 => ("deadlock", true),
        1222 => ("lock_timeout", true),
        3960 | 3961 | 41302 | 41305 | 41325 => ("serialization_failure", true),
        220 | 232 | 241 | 242 | 244 | 245 | 248 | 257 | 295 | 296 | 2628 | 8114 | 8115 | 8152
        | 8169 | 9803 => ("type_mismatch", false),
        978 | 3906 | 3908 => ("read_only", false),
        10928 | 10929 | 10936 | 17809 => ("too_many_connections", true),
        1101 | 1105 | 9002 | 40544 => ("database_full", true),
        // The service is being moved, started, or has too much to do.
        596
        | 4221
        | 6005
        | 17142
        | 17187
        | 40143
        | 40166
        | 40197
        | 40501
        | 40540
        | 40613
        | 42108
        | 42109
        | 49918..=49920 => ("connection_lost", true),
        _ => ("database_refused", false),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use millstream_shared::connection::Tls;

    use super::*;

    #[test]
    fn what_may_pass_is_known() {
        for (number, expected) in [
            (1205, ("deadlock", true)),
            (1222, ("lock_timeout", true)),
            (40613, ("connection_lost", true)),
            (49919, ("connection_lost", true)),
            (9002, ("database_full", true)),
            (2627, ("constraint_violation", false)),
            (18456, ("access_denied", false)),
            (50_000, ("database_refused", false)),
        ] {
            assert_eq!(meaning(number), expected, "{number}");
        }
    }

    #[test]
    fn why_no_connection_could_be_had_is_told_apart() {
        let server = Server {
            host: "db".to_owned(),
            port: NonZeroU16::new(1500),
            database: "d".to_owned(),
            user: "u".to_owned(),
            password: None,
            tls: Tls::Require,
            ca: None,
        };
        let io = |kind| Error::Io {
            kind,
            message: "why".to_owned(),
        };
        for (error, code, is_passing, part) in [
            (
                Error::Protocol(NO_ENCRYPTION.into()),
                "tls_failed",
                false,
                "db:1500",
            ),
            (Error::Tls("bad".to_owned()), "tls_failed", false, "bad"),
            (
                Error::Protocol("x".into()),
                "database_unreachable",
                true,
                "as SQL Server does",
            ),
            (
                io(io::ErrorKind::UnexpectedEof),
                "database_unreachable",
                true,
                "as SQL Server",
            ),
            (
                io(io::ErrorKind::ConnectionReset),
                "database_unreachable",
                true,
                "why",
            ),
        ] {
            let told = of_connecting(error, &server);
            assert_eq!((told.code, told.is_passing), (code, is_passing));
            assert!(told.message.contains(part), "{}", told.message);
        }
    }
}
