//! What SQLite answers, as columns. A column of a table holds what it is
//! declared to hold; one that is calculated, what its first value is.

use futures::TryStreamExt;
use millstream_shared::connection::SqliteFile;
use sqlx::{
    AssertSqlSafe, Column, Decode, Row, SqliteConnection, Statement as _, TypeInfo, ValueRef,
    sqlite::{SqliteColumn, SqliteStatement, SqliteValueRef},
};

use super::{Sqlite, declared, failure::failure, prepared};
use crate::{
    databases::{
        Around, answer::Answer, cell::Cell, decimal::Decimal, error::DatabaseError, kind::Kind,
        names::TableName, session::Session, statement::Statement, texts,
    },
    tables::{Engine, Files, Table},
};

/// The rows that a statement answers. It can change nothing.
pub(in crate::databases) async fn query(
    file: &SqliteFile,
    files: &Files,
    statement: &Statement<'_>,
    engine: &Engine,
    around: Around,
) -> Result<Table, DatabaseError> {
    let mut session = Sqlite::connect_reading(statement, file, files, around).await?;
    let connection = &mut session.connection;
    let (prepared, arguments) = prepared(connection, statement).await?;
    let columns = columns(connection, &prepared).await?;
    let kinds: Vec<Kind> = columns.iter().map(|(_, kind)| kind.clone()).collect();
    let mut answer = Answer::new(engine, columns)?;
    let sql = AssertSqlSafe(statement.sql.to_owned());
    let mut rows = sqlx::query_with(sql, arguments).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(failure)? {
        answer.take_row(&kinds, |index, kind| {
            let value = row.try_get_raw(index).map_err(failure)?;
            Ok(stored(value).and_then(|stored| cell(kind, stored)))
        })?;
    }
    drop(rows);
    let table = answer.finish()?;
    session.close().await;
    Ok(table)
}

/// The columns of the answer to a statement.
async fn columns(
    connection: &mut SqliteConnection,
    statement: &SqliteStatement,
) -> Result<Vec<(String, Kind)>, DatabaseError> {
    let mut columns = Vec::new();
    for column in statement.columns() {
        let kind = match origin(column) {
            None => Kind::Open(Box::new(Kind::Text)),
            Some((table, name)) => {
                let declared = declared(connection, &TableName::of(&table)).await?;
                let found = declared.iter().find(|(other, _)| *other == name);
                found.map_or(Kind::Open(Box::new(Kind::Text)), |(_, text)| kind_of(text))
            }
        };
        columns.push((column.name().to_owned(), kind));
    }
    Ok(columns)
}

/// The table and the column there that a column of an answer is.
fn origin(column: &SqliteColumn) -> Option<(String, String)> {
    let origin = column.origin();
    let column = origin.table_column()?;
    Some((column.table.to_string(), column.name.to_string()))
}

/// What a column holds that is declared so.
pub(super) fn kind_of(declared: &str) -> Kind {
    let declared = declared.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["bool"]) {
        Kind::Boolean
    } else if has(&["decimal", "numeric"]) {
        decimal_of(&declared)
    } else if has(&["timestamptz", "with time zone"]) {
        Kind::Moment { is_utc: true }
    } else if has(&["datetime", "timestamp"]) {
        Kind::Moment { is_utc: false }
    } else if declared == "date" {
        Kind::Date
    } else if declared == "time" {
        Kind::Time
    } else if has(&["int"]) {
        Kind::INTEGER
    } else if has(&["char", "clob", "text", "json", "uuid"]) {
        Kind::Text
    } else if has(&["blob", "binary"]) {
        Kind::Bytes
    } else if has(&["real", "floa", "doub"]) {
        Kind::Double
    } else {
        Kind::Open(Box::new(Kind::Text))
    }
}

/// The digits of `decimal(10, 2)`.
fn decimal_of(declared: &str) -> Kind {
    let within = declared
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let Some((digits, _)) = within else {
        return Kind::OPEN_DECIMAL;
    };
    let (precision, scale) = digits.split_once(',').unwrap_or((digits, "0"));
    match (precision.trim().parse(), scale.trim().parse()) {
        (Ok(precision @ 1..=38), Ok(scale @ 0..=38)) if scale <= precision as i8 => {
            Kind::Decimal { precision, scale }
        }
        _ => Kind::OPEN_DECIMAL,
    }
}

/// A value as SQLite has stored it, whatever its column is declared to hold.
fn stored(value: SqliteValueRef<'_>) -> Result<Cell<'_>, String> {
    let broken = |error: sqlx::error::BoxDynError| error.to_string();
    // A value that is none would have the type of its column.
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let stored = value.type_info().name().to_owned();
    Ok(match stored.as_str() {
        "INTEGER" => Cell::Integer(Decode::<sqlx::Sqlite>::decode(value).map_err(broken)?),
        "REAL" => Cell::Double(Decode::<sqlx::Sqlite>::decode(value).map_err(broken)?),
        "TEXT" => {
            let text: &str = Decode::<sqlx::Sqlite>::decode(value).map_err(broken)?;
            Cell::Text(text.into())
        }
        "BLOB" => {
            let bytes: &[u8] = Decode::<sqlx::Sqlite>::decode(value).map_err(broken)?;
            Cell::Bytes(bytes.into())
        }
        other => return Err(format!("a value of the type {other} cannot be carried")),
    })
}

/// What a stored value is in a column of a kind, or why it is not.
fn cell<'v>(kind: &Kind, stored: Cell<'v>) -> Result<Cell<'v>, String> {
    let misfit = |found: &str, wanted: &str| Err(format!("`{found}` is not {wanted}"));
    Ok(match (kind, stored) {
        (_, Cell::Null) => Cell::Null,
        (Kind::Boolean, Cell::Integer(value @ (0 | 1))) => Cell::Boolean(value == 1),
        (Kind::Double, Cell::Integer(value)) => Cell::Double(value as f64),
        (Kind::Decimal { .. }, Cell::Integer(value)) => Cell::Decimal(Decimal {
            digits: value.into(),
            scale: 0,
        }),
        // SQLite keeps fifteen digits of a number that came as a text, which
        // are the shortest by which it is told apart.
        (Kind::Decimal { .. }, Cell::Double(value)) => decimal(&value.to_string())?,
        (Kind::Decimal { .. }, Cell::Text(text)) => decimal(&text)?,
        (Kind::Date, Cell::Text(text)) => match texts::date(&text) {
            Some(days) => Cell::Date(days),
            None => return misfit(&text, "a date such as 2026-11-24"),
        },
        (Kind::Time, Cell::Text(text)) => match texts::time(&text) {
            Some(microseconds) => Cell::Time(microseconds),
            None => return misfit(&text, "a time such as 10:00:00"),
        },
        (Kind::Moment { is_utc }, Cell::Text(text)) => match texts::moment(&text) {
            Some(microseconds) => Cell::Moment {
                microseconds,
                is_utc: *is_utc,
            },
            None => return misfit(&text, "a date and time such as 2026-11-24T10:00:00Z"),
        },
        (_, stored) => stored,
    })
}

fn decimal(text: &str) -> Result<Cell<'static>, String> {
    let parsed = Decimal::parse(text).map(Cell::Decimal);
    parsed.map_err(|reason| format!("`{text}` {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_what_it_is_declared_to() {
        let decimal = |precision, scale| Kind::Decimal { precision, scale };
        for (declared, kind) in [
            ("INTEGER", Kind::INTEGER),
            ("Unsigned Big Int", Kind::INTEGER),
            ("VARCHAR(20)", Kind::Text),
            ("DECIMAL_TEXT(10, 2)", decimal(10, 2)),
            ("numeric(5)", decimal(5, 0)),
            ("numeric(50, 2)", Kind::OPEN_DECIMAL),
            ("TIMESTAMPTZ", Kind::Moment { is_utc: true }),
            ("datetime", Kind::Moment { is_utc: false }),
            ("double precision", Kind::Double),
            ("", Kind::Open(Box::new(Kind::Text))),
        ] {
            assert_eq!(kind_of(declared), kind, "{declared}");
        }
    }
}
