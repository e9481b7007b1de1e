//! What MySQL answers, as columns.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use futures::TryStreamExt;
use millstream_shared::connection::Server;
use sqlx::{
    AssertSqlSafe, Column, Decode, MySql, MySqlConnection, Row, Statement as _, Type, TypeInfo,
    ValueRef,
    mysql::{MySqlColumn, MySqlStatement, MySqlValueRef},
};

use super::{Mysql, failure::failure, prepared};
use crate::{
    databases::{
        Around,
        answer::Answer,
        cell::{self, Cell},
        decimal::Decimal,
        error::DatabaseError,
        kind::Kind,
        session::Session,
        statement::Statement,
    },
    tables::{Engine, Table},
};

/// The rows that a statement answers, in a transaction that can change nothing.
pub(in crate::databases) async fn query(
    server: &Server,
    statement: &Statement<'_>,
    engine: &Engine,
    around: Around,
) -> Result<Table, DatabaseError> {
    let mut session = Mysql::connect(server, around).await?;
    session
        .run("start transaction read only".to_owned())
        .await?;
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
            Ok(if value.is_null() {
                Ok(Cell::Null)
            } else {
                cell(kind, value)
            })
        })?;
    }
    drop(rows);
    let table = answer.finish()?;
    session.close().await;
    Ok(table)
}

/// The columns of the answer to a statement.
async fn columns(
    connection: &mut MySqlConnection,
    statement: &MySqlStatement,
) -> Result<Vec<(String, Kind)>, DatabaseError> {
    let mut columns = Vec::new();
    for column in statement.columns() {
        let name = column.name();
        let kind = match column.type_info().name() {
            "DECIMAL" => decimal(connection, column).await?,
            // A text that is compared by its bytes has the name of a blob.
            _ if <str as Type<MySql>>::compatible(column.type_info()) => Kind::Text,
            other => kind_of(other).ok_or_else(|| {
                let message = format!(
                    "column `{name}` is of the type {other}, which cannot be carried: cast it in \
                     the query"
                );
                DatabaseError::refused("unsupported_type", message)
            })?,
        };
        columns.push((name.to_owned(), kind));
    }
    Ok(columns)
}

/// The digits of a decimal: a table says them of its columns, and what is
/// calculated shows them in its values.
async fn decimal(
    connection: &mut MySqlConnection,
    column: &MySqlColumn,
) -> Result<Kind, DatabaseError> {
    let open = Kind::Open(Box::new(Kind::OPEN_DECIMAL));
    let origin = column.origin();
    let Some(origin) = origin.table_column() else {
        return Ok(open);
    };
    let (schema, table) = match origin.table.rsplit_once('.') {
        Some((schema, table)) => (Some(schema), table),
        None => (None, &*origin.table),
    };
    let sql = "select cast(numeric_precision as signed), cast(numeric_scale as signed) \
               from information_schema.columns where table_schema = coalesce(?, database()) \
               and table_name = ? and column_name = ?";
    let row = sqlx::query(sql)
        .bind(schema)
        .bind(table)
        .bind(&*origin.name)
        .fetch_optional(connection)
        .await
        .map_err(failure)?;
    let Some(row) = row else {
        return Ok(open);
    };
    let digits = || Ok((row.try_get(0)?, row.try_get(1)?));
    let (precision, scale): (Option<i64>, Option<i64>) = digits().map_err(failure)?;
    Ok(match (precision, scale) {
        (Some(precision @ 1..=38), Some(scale @ 0..=38)) => Kind::Decimal {
            precision: precision as u8,
            scale: scale as i8,
        },
        _ => open,
    })
}

/// What a column of a type holds; none where it cannot be carried.
fn kind_of(name: &str) -> Option<Kind> {
    let integer = |bits, is_signed| Kind::Integer { bits, is_signed };
    Some(match name {
        "BOOLEAN" => Kind::Boolean,
        "TINYINT" => integer(8, true),
        "SMALLINT" | "YEAR" => integer(16, true),
        "MEDIUMINT" | "INT" => integer(32, true),
        "BIGINT" => integer(64, true),
        "TINYINT UNSIGNED" => integer(8, false),
        "SMALLINT UNSIGNED" => integer(16, false),
        "MEDIUMINT UNSIGNED" | "INT UNSIGNED" => integer(32, false),
        "BIGINT UNSIGNED" | "BIT" => integer(64, false),
        "FLOAT" => Kind::Single,
        "DOUBLE" => Kind::Double,
        "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" | "SET"
        | "JSON" => Kind::Text,
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => Kind::Bytes,
        "DATE" => Kind::Date,
        "TIME" => Kind::Time,
        "DATETIME" => Kind::Moment { is_utc: false },
        "TIMESTAMP" => Kind::Moment { is_utc: true },
        "NULL" => Kind::Open(Box::new(Kind::Text)),
        _ => return None,
    })
}

/// A value, or why it cannot be carried.
fn cell<'v>(kind: &Kind, value: MySqlValueRef<'v>) -> Result<Cell<'v>, String> {
    let is_year = value.type_info().name() == "YEAR";
    Ok(match kind {
        Kind::Boolean => match decode::<i64>(value)? {
            number @ (0 | 1) => Cell::Boolean(number == 1),
            number => {
                return Err(format!(
                    "{number} stands in a column of the type tinyint(1), which is for true and \
                     false: cast it in the query"
                ));
            }
        },
        Kind::Integer {
            bits: 64,
            is_signed: false,
        } => Cell::Natural(decode(value)?),
        Kind::Integer { is_signed, .. } if !is_signed || is_year => {
            let number: u64 = decode(value)?;
            Cell::Integer(i64::try_from(number).map_err(|error| error.to_string())?)
        }
        Kind::Integer { .. } => Cell::Integer(decode(value)?),
        Kind::Single => Cell::Single(decode(value)?),
        Kind::Double => Cell::Double(decode(value)?),
        Kind::Decimal { .. } | Kind::Open(_) => {
            let text: &str = decode(value)?;
            let parsed = Decimal::parse(text).map(Cell::Decimal);
            parsed.map_err(|reason| format!("{text} {reason}"))?
        }
        Kind::Bytes => Cell::Bytes(decode::<&[u8]>(value)?.into()),
        Kind::Date => Cell::Date(cell::days(decode::<NaiveDate>(value)?)),
        Kind::Time => Cell::Time(cell::time_of_day(decode::<NaiveTime>(value)?)),
        Kind::Moment { is_utc } => {
            let moment: NaiveDateTime = decode(value)?;
            Cell::Moment {
                microseconds: cell::moment(moment.date(), moment.time()),
                is_utc: *is_utc,
            }
        }
        Kind::Text | Kind::Uuid | Kind::Object | Kind::List(_) => {
            Cell::Text(decode::<&str>(value)?.into())
        }
    })
}

fn decode<'v, T: Decode<'v, MySql>>(value: MySqlValueRef<'v>) -> Result<T, String> {
    T::decode(value).map_err(|error| error.to_string())
}
