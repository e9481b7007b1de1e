//! What PostgreSQL answers, as columns.

use std::collections::HashMap;

use futures::TryStreamExt;
use millstream_shared::connection::Server;
use sqlx::{
    AssertSqlSafe, Column, PgConnection, Row, Statement as _, TypeInfo, ValueRef,
    postgres::{PgColumn, PgStatement, PgTypeInfo, PgTypeKind},
    types::Uuid,
};

use super::{Postgres, failure::failure, params};
use crate::{
    databases::{
        Around,
        answer::Answer,
        cell::{Cell, hex},
        decimal::Decimal,
        error::DatabaseError,
        kind::Kind,
        session::Session,
        statement::Statement,
    },
    tables::{Engine, Table},
};

/// From the day that PostgreSQL counts from, 2000-01-01, to 1970-01-01.
const DAYS_LATER: i32 = 10_957;
const MICROSECONDS_LATER: i64 = 946_684_800_000_000;

/// The rows that a statement answers, in a transaction that can change nothing.
pub(in crate::databases) async fn query(
    server: &Server,
    statement: &Statement<'_>,
    engine: &Engine,
    around: Around,
) -> Result<Table, DatabaseError> {
    let mut session = Postgres::connect(server, around).await?;
    session.begin_reading().await?;
    let connection = &mut session.connection;
    let (prepared, arguments) = params::prepared(connection, statement).await?;
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
                let bytes = value.as_bytes().map_err(sqlx::Error::Decode);
                cell(kind, bytes.map_err(failure)?)
            })
        })?;
    }
    drop(rows);
    let table = answer.finish()?;
    session.close().await;
    Ok(table)
}

impl Postgres {
    async fn begin_reading(&mut self) -> Result<(), DatabaseError> {
        self.run("begin read only".to_owned()).await.map(drop)
    }
}

/// The columns of the answer to a statement.
async fn columns(
    connection: &mut PgConnection,
    statement: &PgStatement,
) -> Result<Vec<(String, Kind)>, DatabaseError> {
    let columns = statement.columns();
    let modifiers = modifiers(connection, columns).await?;
    let column = |(column, modifier): (&PgColumn, Option<i32>)| {
        let name = column.name();
        let kind = kind_of(column.type_info(), modifier).ok_or_else(|| {
            let message = format!(
                "column `{name}` is of the type {}, which cannot be carried: cast it in the query, \
                 as in `{name}::text`",
                column.type_info()
            );
            DatabaseError::refused("unsupported_type", message)
        })?;
        Ok((name.to_owned(), kind))
    };
    columns.iter().zip(modifiers).map(column).collect()
}

/// What tables say more of the types of their columns: how many digits a
/// `numeric` has. Nothing is said of what is calculated.
async fn modifiers(
    connection: &mut PgConnection,
    columns: &[PgColumn],
) -> Result<Vec<Option<i32>>, DatabaseError> {
    let place = |column: &PgColumn| {
        let table = column.relation_id()?.0;
        Some((i64::from(table), column.relation_attribute_no()?))
    };
    let places: Vec<_> = columns.iter().filter_map(place).collect();
    if places.is_empty() {
        return Ok(vec![None; columns.len()]);
    }
    let (tables, numbers): (Vec<i64>, Vec<i16>) = places.into_iter().unzip();
    // A domain says it of all its columns.
    let sql = "select attrelid::int8, attnum, greatest(atttypmod, typtypmod) from pg_attribute \
               join pg_type on pg_type.oid = atttypid join unnest($1::int8[], $2::int2[]) \
               as wanted (t, n) on attrelid::int8 = t and attnum = n";
    let rows = sqlx::query(sql)
        .bind(tables)
        .bind(numbers)
        .fetch_all(connection);
    let mut found = HashMap::new();
    for row in rows.await.map_err(failure)? {
        let read = || Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
        let (place, modifier): ((i64, i16), i32) = read().map_err(failure)?;
        found.insert(place, modifier);
    }
    let modifier = |column| found.get(&place(column)?).copied();
    Ok(columns.iter().map(modifier).collect())
}

/// What a column of a type holds; none where it cannot be carried.
fn kind_of(type_info: &PgTypeInfo, modifier: Option<i32>) -> Option<Kind> {
    match type_info.kind() {
        PgTypeKind::Domain(inner) => return kind_of(inner, modifier),
        PgTypeKind::Enum(_) => return Some(Kind::Text),
        PgTypeKind::Array(item) => {
            let item = kind_of(item, modifier)?;
            return Some(Kind::List(Box::new(item)));
        }
        _ => {}
    }
    let integer = |bits, is_signed| Kind::Integer { bits, is_signed };
    Some(match type_info.name() {
        "BOOL" => Kind::Boolean,
        "INT2" => integer(16, true),
        "INT4" => integer(32, true),
        "INT8" => Kind::INTEGER,
        "OID" => integer(32, false),
        "FLOAT4" => Kind::Single,
        "FLOAT8" => Kind::Double,
        "NUMERIC" => modifier.and_then(numeric).unwrap_or(Kind::OPEN_DECIMAL),
        "TEXT" | "VARCHAR" | "CHAR" | "\"CHAR\"" | "NAME" | "UNKNOWN" | "JSON" | "XML" | "xml"
        | "citext" => Kind::Text,
        "UUID" => Kind::Uuid,
        "JSONB" => Kind::Object,
        "BYTEA" => Kind::Bytes,
        "DATE" => Kind::Date,
        "TIME" => Kind::Time,
        "TIMESTAMP" => Kind::Moment { is_utc: false },
        "TIMESTAMPTZ" => Kind::Moment { is_utc: true },
        _ => return None,
    })
}

/// The digits of `numeric(precision, scale)`.
fn numeric(modifier: i32) -> Option<Kind> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = u8::try_from(packed >> 16).ok()?;
    // Eleven bits with a sign.
    let scale = i8::try_from(((packed & 0x7ff) ^ 1024) - 1024).ok()?;
    let is_held = precision <= 38 && (0..=38).contains(&scale);
    is_held.then_some(Kind::Decimal {
        precision: precision.max(scale.unsigned_abs()),
        scale,
    })
}

/// A value in PostgreSQL's binary form, or why it cannot be carried.
fn cell<'v>(kind: &Kind, bytes: &'v [u8]) -> Result<Cell<'v>, String> {
    let broken = || {
        format!(
            "0x{} is not in the form of its type",
            hex(&bytes[..bytes.len().min(32)])
        )
    };
    Ok(match kind {
        Kind::Boolean => Cell::Boolean(fixed::<1>(bytes).ok_or_else(broken)? != [0]),
        Kind::Integer { bits: 16, .. } => {
            Cell::Integer(i16::from_be_bytes(fixed(bytes).ok_or_else(broken)?).into())
        }
        Kind::Integer {
            bits: 32,
            is_signed: false,
        } => Cell::Integer(u32::from_be_bytes(fixed(bytes).ok_or_else(broken)?).into()),
        Kind::Integer { bits: 32, .. } => {
            Cell::Integer(i32::from_be_bytes(fixed(bytes).ok_or_else(broken)?).into())
        }
        Kind::Integer { .. } => Cell::Integer(i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        Kind::Single => Cell::Single(f32::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        Kind::Double => Cell::Double(f64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        Kind::Decimal { .. } => Cell::Decimal(Decimal::from_postgres(bytes)?),
        Kind::Text => text(bytes)?,
        Kind::Uuid => {
            let uuid = Uuid::from_bytes(fixed(bytes).ok_or_else(broken)?);
            Cell::Text(uuid.to_string().into())
        }
        // The first byte of `jsonb` is the version of its form.
        Kind::Object => text(bytes.get(1..).unwrap_or_default())?,
        Kind::Bytes => Cell::Bytes(bytes.into()),
        Kind::Date => match i32::from_be_bytes(fixed(bytes).ok_or_else(broken)?) {
            i32::MIN | i32::MAX => return Err("infinity is no day".to_owned()),
            days => Cell::Date(days + DAYS_LATER),
        },
        Kind::Time => Cell::Time(i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        Kind::Moment { is_utc } => match i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?) {
            i64::MIN | i64::MAX => return Err("infinity is no moment".to_owned()),
            microseconds => Cell::Moment {
                microseconds: microseconds + MICROSECONDS_LATER,
                is_utc: *is_utc,
            },
        },
        Kind::List(item) => Cell::List(items(item, bytes)?),
        Kind::Open(_) => return Err(broken()),
    })
}

fn text(bytes: &[u8]) -> Result<Cell<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    Ok(Cell::Text(text.into()))
}

/// The items of an array: number of dimensions, whether there are nulls, type,
/// and for each dimension its length and first index; then the items with their
/// lengths.
fn items<'v>(kind: &Kind, bytes: &'v [u8]) -> Result<Vec<Cell<'v>>, String> {
    let broken = || "is not in the form of an array".to_owned();
    let mut rest = bytes;
    let word = |rest: &mut &'v [u8]| {
        let (four, behind) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        *rest = behind;
        Ok::<_, String>(i32::from_be_bytes(*four))
    };
    let dimensions = word(&mut rest)?;
    let (_has_nulls, _type) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions == 0 {
        return Ok(Vec::new());
    }
    if dimensions > 1 {
        return Err(format!(
            "an array with {dimensions} dimensions cannot be carried"
        ));
    }
    let (count, _first) = (word(&mut rest)?, word(&mut rest)?);
    let mut found = Vec::new();
    for _ in 0..count {
        let Ok(length) = usize::try_from(word(&mut rest)?) else {
            found.push(Cell::Null);
            continue;
        };
        let (value, behind) = rest.split_at_checked(length).ok_or_else(broken)?;
        rest = behind;
        found.push(cell(kind, value)?);
    }
    Ok(found)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_a_numeric_are_packed() {
        let of = |precision: i32, scale: i32| numeric(((precision << 16) | (scale & 0x7ff)) + 4);
        let decimal = |precision, scale| Some(Kind::Decimal { precision, scale });
        assert_eq!(of(10, 2), decimal(10, 2));
        assert_eq!(of(2, 5), decimal(5, 5));
        assert_eq!(of(39, 2), None);
        assert_eq!(of(5, -2), None);
        assert_eq!(numeric(-1), None);
    }
}
