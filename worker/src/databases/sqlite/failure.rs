//! What SQLite says when it refuses something.

use sqlx::sqlite::SqliteError;

use crate::databases::error::DatabaseError;

/// The code where a transaction has to be taken back whose worker died, which
/// only who may write can do.
pub(super) const UNFINISHED: &str = "unfinished_transaction";

/// Why something could not be done.
pub(super) fn failure(error: sqlx::Error) -> DatabaseError {
    let Some(told) = error.as_database_error() else {
        return DatabaseError::of_driver(&error);
    };
    let code = told.code().and_then(|code| code.parse().ok());
    let (code, is_passing) = meaning(code.unwrap_or(1), told.message());
    DatabaseError {
        code,
        message: told.message().to_owned(),
        is_passing,
    }
}

/// Why a statement is none that a step may execute.
pub(super) fn of_examining(error: rusqlite::Error) -> DatabaseError {
    if matches!(error, rusqlite::Error::MultipleStatement) {
        let message = "must be one statement, not several";
        return DatabaseError::refused("statement_refused", message);
    }
    let code = error.sqlite_error().map_or(1, |error| error.extended_code);
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        error => error.to_string(),
    };
    let (code, is_passing) = meaning(code, &message);
    DatabaseError {
        code,
        message,
        is_passing,
    }
}

/// Whether there is nothing that the keys of an upsert could conflict with.
pub(super) fn lacks_unique_index(error: &sqlx::Error) -> bool {
    let told = error.as_database_error();
    let told = told.and_then(|error| error.try_downcast_ref::<SqliteError>());
    told.is_some_and(|error| {
        let error: &dyn sqlx::error::DatabaseError = error;
        error
            .message()
            .starts_with("ON CONFLICT clause does not match")
    })
}

/// Our word for a failure, and whether it may pass. Most refusals of SQLite
/// have the same code, 1, and differ in their text alone.
fn meaning(code: i32, message: &str) -> (&'static str, bool) {
    match code & 0xff {
        // SQLITE_READONLY_ROLLBACK, SQLITE_READONLY_RECOVERY
        8 if matches!(code, 776 | 264) => (UNFINISHED, true),
        5 | 6 => ("lock_timeout", true),
        8 => ("read_only", false),
        13 => ("database_full", true),
        14 => ("unknown_database", false),
        19 => ("constraint_violation", false),
        20 => ("type_mismatch", false),
        10 => ("connection_lost", true),
        1 if message.starts_with("no such table") => ("unknown_table", false),
        1 if message.starts_with("no such column") => ("unknown_column", false),
        1 if message.contains(" has no column named ") => ("unknown_column", false),
        1 if message.ends_with("syntax error") => ("syntax_error", false),
        _ => ("database_refused", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_known() {
        assert_eq!(meaning(517, "database is locked"), ("lock_timeout", true));
        assert_eq!(meaning(1555, "UNIQUE"), ("constraint_violation", false));
        assert_eq!(meaning(1, "no such table: x"), ("unknown_table", false));
        assert_eq!(
            meaning(1, "near \"frm\": syntax error"),
            ("syntax_error", false)
        );
    }
}
