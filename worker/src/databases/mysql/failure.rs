//! What MySQL says when it refuses something.

use millstream_shared::connection::Server;
use sqlx::mysql::MySqlDatabaseError;

use super::PORT;
use crate::databases::error::{self, DatabaseError, Place};

fn told(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Why something could not be done.
pub(super) fn failure(error: sqlx::Error) -> DatabaseError {
    let Some(told) = told(&error) else {
        return DatabaseError::of_driver(&error);
    };
    let (code, is_passing) = meaning(told.number());
    DatabaseError {
        code,
        message: told.message().to_owned(),
        is_passing,
    }
}

/// Why rows could not be brought. MySQL counts them from the beginning of the
/// statement, `before` which so many have come.
pub(super) fn of_rows(error: sqlx::Error, before: u64) -> DatabaseError {
    let error = failure(error);
    match place(&error.message, before) {
        Some(place) => DatabaseError {
            message: format!("{place}: {}", error.message),
            ..error
        },
        None => error,
    }
}

/// Why no connection could be had.
pub(super) fn of_connecting(error: sqlx::Error, server: &Server) -> DatabaseError {
    match error {
        sqlx::Error::Io(error) => error::unreachable(server, PORT, &error),
        sqlx::Error::Protocol(_) => error::other_kind(server, PORT, "MySQL"),
        error => failure(error),
    }
}

/// Whether a row with the same key is there already.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    told(error).is_some_and(|told| told.number() == 1062)
}

/// Our word for a failure, and whether it may pass.
fn meaning(number: u16) -> (&'static str, bool) {
    match number {
        1045 | 1698 => ("access_denied", false),
        1049 => ("unknown_database", false),
        1051 | 1146 => ("unknown_table", false),
        1054 => ("unknown_column", false),
        1064 => ("syntax_error", false),
        1044 | 1142 | 1143 | 1227 | 1370 => ("permission_denied", false),
        1048 | 1062 | 1364 | 1451 | 1452 | 1557 | 1761 | 3819 | 4025 => {
            ("constraint_violation", false)
        }
        1205 => ("lock_timeout", true),
        1213 => ("deadlock", true),
        1020 => ("serialization_failure", true),
        1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1411 | 1426 => ("type_mismatch", false),
        1792 => ("read_only", false),
        1040 | 1203 | 1226 => ("too_many_connections", true),
        1317 | 1969 | 3024 => ("statement_cancelled", true),
        1053 | 1077 | 1079 | 1158..=1161 | 1927 | 4031 => ("connection_lost", true),
        1021 | 1041 | 1114 => ("database_full", true),
        _ => ("database_refused", false),
    }
}

/// The place that "Incorrect integer value: 'x' for column `id` at row 2" names.
fn place(message: &str, before: u64) -> Option<String> {
    let (start, row) = message.rsplit_once(" at row ")?;
    let row: u64 = row.trim_end_matches('.').parse().ok()?;
    let (_, column) = start.rsplit_once("column ")?;
    let column = column.rsplit('.').next()?.trim_matches(['`', '\'']);
    let row = before + row;
    Some(Place { column, row }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_counted_from_the_beginning_of_the_table() {
        for (message, expected) in [
            (
                "Incorrect integer value: 'x' for column `flows`.`there`.`id` at row 2",
                Some("column `id`, row 502"),
            ),
            (
                "Data too long for column 'name' at row 1",
                Some("column `name`, row 501"),
            ),
            ("Duplicate entry '1' for key 'PRIMARY'", None),
        ] {
            assert_eq!(place(message, 500).as_deref(), expected);
        }
    }

    #[test]
    fn what_may_pass_is_known() {
        assert_eq!(meaning(1213), ("deadlock", true));
        assert_eq!(meaning(1062), ("constraint_violation", false));
    }
}
