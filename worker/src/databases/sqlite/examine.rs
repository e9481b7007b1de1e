//! What a statement would do, by the words of SQLite itself: it says so while it
//! prepares a statement, and nothing is executed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rusqlite::{
    Connection, OpenFlags,
    hooks::{AuthAction, AuthContext, Authorization},
};

use super::failure::of_examining;
use crate::databases::{Around, error::DatabaseError};

/// What tells of tables and of the file.
const TELLING_PRAGMAS: &[&str] = &[
    "collation_list",
    "compile_options",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// What tells of the file where it is given no value, and would change how it is
/// kept otherwise.
const BARE_PRAGMAS: &[&str] = &[
    "encoding",
    "freelist_count",
    "page_count",
    "page_size",
    "schema_version",
];

/// What belongs to the contents of the file, so that a transaction holds it.
const NUMBERS_OF_FILE: &[&str] = &["application_id", "user_version"];

/// What a statement may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Allowed {
    /// Read.
    Reading,
    /// Change the contents of its file within the transaction of its step.
    Changing,
}

/// Fails where `sql` is not one statement that does nothing but what is
/// allowed. This looks at the file as it is at this moment.
pub(super) async fn examine(
    path: PathBuf,
    sql: String,
    allowed: Allowed,
    around: Around,
) -> Result<(), DatabaseError> {
    let examining =
        tokio::task::spawn_blocking(move || prepared(&open(path, around)?, &sql, allowed));
    examining.await.unwrap_or_else(|error| {
        let message = format!("the statement could not be examined: {error}");
        Err(DatabaseError::passing("database_failed", message))
    })
}

fn open(path: PathBuf, around: Around) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).map_err(of_examining)?;
    opened
        .busy_timeout(around.lock_wait)
        .map_err(of_examining)?;
    Ok(opened)
}

fn prepared(connection: &Connection, sql: &str, allowed: Allowed) -> Result<(), DatabaseError> {
    if sql.contains('\0') {
        let message = "the statement holds a character with the code 0, at which SQLite would stop";
        return Err(DatabaseError::refused("statement_refused", message));
    }
    let refusal = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&refusal);
    let authorizer = move |context: AuthContext<'_>| match refused(context.action) {
        None => Authorization::Allow,
        Some(what) => {
            if let Ok(mut noted) = noted.lock() {
                noted.get_or_insert(what);
            }
            Authorization::Deny
        }
    };
    connection
        .authorizer(Some(authorizer))
        .map_err(of_examining)?;
    let prepared = connection.prepare(sql);
    let what = refusal.lock().map(|refused| refused.clone());
    if let Ok(Some(what)) = what {
        let message = format!("{what} is not for steps: it reaches beyond the tables of its file");
        return Err(DatabaseError::refused("statement_refused", message));
    }
    let statement = prepared.map_err(of_examining)?;
    if allowed == Allowed::Reading && !statement.readonly() {
        let message = "the statement would change something: `execute` is for that";
        return Err(DatabaseError::refused("read_only", message));
    }
    Ok(())
}

/// What of a statement no step may do; none where it may.
fn refused(action: AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Attach { .. } => Some("`attach`".to_owned()),
        AuthAction::Detach { .. } => Some("`detach`".to_owned()),
        AuthAction::Transaction { .. } => Some("the end of a transaction".to_owned()),
        AuthAction::Savepoint { .. } => Some("a savepoint".to_owned()),
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => {
            let name = pragma_name.to_ascii_lowercase();
            let among = |names: &[&str]| names.contains(&&*name);
            let is_harmless = among(TELLING_PRAGMAS)
                || among(NUMBERS_OF_FILE)
                || among(BARE_PRAGMAS) && pragma_value.is_none();
            (!is_harmless).then(|| format!("`pragma {name}`"))
        }
        AuthAction::Function { function_name }
            if function_name.eq_ignore_ascii_case("load_extension") =>
        {
            Some("`load_extension`".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sql: &str, allowed: Allowed) -> Result<(), &'static str> {
        let connection = Connection::open_in_memory().unwrap();
        let made = connection.execute_batch("create table t (a integer, b text)");
        made.unwrap();
        prepared(&connection, sql, allowed).map_err(|error| error.code)
    }

    #[test]
    fn harmless_texts_are_understood_as_sqlite_does() {
        for sql in [
            "select 'attach; pragma ; vacuum', \"a\" as \"b;c\" from t; -- the end;",
            "/* ; */ select [a] from `t` ;;",
            "with attach as (select 1 as pragma) select pragma from attach",
            "pragma table_info(t)",
            "pragma user_version",
            "select count(*) from pragma_table_info('t')",
            "explain query plan select * from t",
        ] {
            assert_eq!(verdict(sql, Allowed::Reading), Ok(()), "{sql}");
        }
        for sql in [
            "create trigger tr after insert on t begin delete from t; update t set b = ';'; end",
            "pragma user_version = 3",
            "insert into t (b) values ('; commit') returning a",
            "create temp table more as select * from t",
        ] {
            assert_eq!(verdict(sql, Allowed::Changing), Ok(()), "{sql}");
            assert_eq!(verdict(sql, Allowed::Reading), Err("read_only"), "{sql}");
        }
    }

    #[test]
    fn what_reaches_further_is_refused_however_it_is_written() {
        for sql in [
            "attach 'other.sqlite' as other",
            "/**/ aTTach database 'x' as y",
            "detach main",
            "pragma journal_mode = off",
            "pragma main . writable_schema(1)",
            "pragma page_size = 512",
            "explain pragma locking_mode = exclusive",
            "select load_extension('x')",
            "delete from t; commit",
            "delete from t; delete from t",
            "savepoint s",
            "end",
            "select 1\0; delete from t",
        ] {
            for allowed in [Allowed::Reading, Allowed::Changing] {
                let found = verdict(sql, allowed);
                assert_eq!(found, Err("statement_refused"), "{sql}, {allowed:?}");
            }
        }
        assert_eq!(
            verdict("vacuum into 'x'", Allowed::Reading),
            Err("read_only")
        );
        assert_eq!(
            verdict("select gone from t", Allowed::Reading),
            Err("unknown_column")
        );
        assert_eq!(
            verdict("select frm", Allowed::Changing),
            Err("unknown_column")
        );
    }
}
