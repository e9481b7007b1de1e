//! What PostgreSQL says when it refuses something.

use millstream_shared::connection::Server;
use sqlx::postgres::PgDatabaseError;

use super::PORT;
use crate::databases::error::{self, DatabaseError, Place};

/// The five letters that PostgreSQL has for a failure.
pub(super) fn code(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    error
        .try_downcast_ref::<PgDatabaseError>()
        .map(PgDatabaseError::code)
}

/// Why something could not be done.
pub(super) fn failure(error: sqlx::Error) -> DatabaseError {
    let told = error.as_database_error();
    let Some(told) = told.and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return DatabaseError::of_driver(&error);
    };
    let (code, is_passing) = meaning(told.code());
    let mut message = told.message().to_owned();
    for further in [told.detail(), told.hint()].into_iter().flatten() {
        message = format!("{message}; {further}");
    }
    if let Some(place) = told.r#where().and_then(copied_place) {
        message = format!("{place}: {message}");
    }
    DatabaseError {
        code,
        message,
        is_passing,
    }
}

/// Why no connection could be had.
pub(super) fn of_connecting(error: sqlx::Error, server: &Server) -> DatabaseError {
    match error {
        sqlx::Error::Io(error) => error::unreachable(server, PORT, &error),
        sqlx::Error::Protocol(_) => error::other_kind(server, PORT, "PostgreSQL"),
        error => failure(error),
    }
}

/// Our word for a failure, and whether it may pass.
fn meaning(code: &str) -> (&'static str, bool) {
    match code {
        "28000" | "28P01" => ("access_denied", false),
        "3D000" => ("unknown_database", false),
        "42P01" | "3F000" => ("unknown_table", false),
        "42703" => ("unknown_column", false),
        "42501" => ("permission_denied", false),
        "42601" => ("syntax_error", false),
        "42804" | "42846" | "42883" => ("type_mismatch", false),
        "25006" => ("read_only", false),
        "40001" => ("serialization_failure", true),
        "40P01" => ("deadlock", true),
        "55P03" => ("lock_timeout", true),
        "57014" => ("statement_cancelled", true),
        "53300" => ("too_many_connections", true),
        _ => match code.get(..2) {
            Some("08" | "57") => ("connection_lost", true),
            Some("22") => ("type_mismatch", false),
            Some("23") => ("constraint_violation", false),
            Some("53") => ("database_full", true),
            _ => ("database_refused", false),
        },
    }
}

/// The place that `COPY orders, line 3, column id: "x"` names. Where a trigger
/// refused the row, that stands before it, in lines of its own.
fn copied_place(context: &str) -> Option<String> {
    context.lines().find_map(place_of_line)
}

fn place_of_line(context: &str) -> Option<String> {
    let (_, rest) = context.strip_prefix("COPY ")?.split_once(", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let row = rest[..digits].parse().ok()?;
    let Some(column) = rest[digits..].strip_prefix(", column ") else {
        return Some(format!("row {row}"));
    };
    let end = column.find(": ").unwrap_or(column.len());
    let column = &column[..end];
    Some(Place { column, row }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_row_is_named() {
        for (context, place) in [
            (
                "COPY orders, line 3, column id: \"x\"",
                Some("column `id`, row 3"),
            ),
            (
                "COPY orders, line 12, column my id: null input",
                Some("column `my id`, row 12"),
            ),
            ("COPY orders, line 7: \"a\tb\"", Some("row 7")),
            ("COPY orders, line 7", Some("row 7")),
            ("PL/pgSQL function f() line 1", None),
            (
                "PL/pgSQL function f() line 1 at RAISE\nCOPY orders, line 3",
                Some("row 3"),
            ),
        ] {
            assert_eq!(copied_place(context).as_deref(), place, "{context}");
        }
    }

    #[test]
    fn what_may_pass_is_known() {
        assert_eq!(meaning("40001"), ("serialization_failure", true));
        assert_eq!(meaning("57P01"), ("connection_lost", true));
        assert_eq!(meaning("22P02"), ("type_mismatch", false));
        assert_eq!(meaning("23505"), ("constraint_violation", false));
        assert_eq!(meaning("XX000"), ("database_refused", false));
    }
}
