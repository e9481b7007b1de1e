//! What SQLite says when it refuses something.

use sqlx::sqlite::SqliteError;

use crate::databases::error::DatabaseError;

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
