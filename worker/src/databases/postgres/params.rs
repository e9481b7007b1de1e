//! The values of placeholders, in the types that PostgreSQL wants them in.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::Value;
use sqlx::{
    Arguments, AssertSqlSafe, Either, Encode, Executor, PgConnection, SqlSafeStr, Statement as _,
    Type, TypeInfo,
    postgres::{PgArguments, PgHasArrayType, PgStatement, PgTypeInfo, PgTypeKind},
    types::{BigDecimal, Json, Uuid},
};

use super::failure::failure;
use crate::databases::{error::DatabaseError, statement::Statement};

/// The statement as PostgreSQL understands it, and the values that it gets.
pub(super) async fn prepared(
    connection: &mut PgConnection,
    statement: &Statement<'_>,
) -> Result<(PgStatement, PgArguments), DatabaseError> {
    let sql = AssertSqlSafe(statement.sql.to_owned()).into_sql_str();
    let prepared = connection.prepare(sql).await.map_err(failure)?;
    let wanted = match prepared.parameters() {
        Some(Either::Left(wanted)) => wanted.to_vec(),
        _ => Vec::new(),
    };
    statement.check_params(wanted.len())?;
    let mut arguments = PgArguments::default();
    for (index, (value, wanted)) in statement.params.iter().zip(&wanted).enumerate() {
        bind(&mut arguments, value, wanted).map_err(|reason| {
            let message = format!("`${}`, of the type {wanted}: {reason}", index + 1);
            DatabaseError::refused("wrong_params", message)
        })?;
    }
    Ok((prepared, arguments))
}

/// Adds `value` in the type that is wanted.
fn bind(arguments: &mut PgArguments, value: &Value, wanted: &PgTypeInfo) -> Result<(), String> {
    match wanted.kind() {
        PgTypeKind::Domain(inner) => return bind(arguments, value, inner),
        PgTypeKind::Enum(_) => return add(arguments, value, text),
        _ => {}
    }
    match wanted.name() {
        "BOOL" => add(arguments, value, boolean),
        "INT2" => add(arguments, value, integer::<i16>),
        "INT4" => add(arguments, value, integer::<i32>),
        "INT8" => add(arguments, value, integer::<i64>),
        "FLOAT4" => add(arguments, value, |value| {
            number(value).map(|number| number as f32)
        }),
        "FLOAT8" => add(arguments, value, number),
        "NUMERIC" => add(arguments, value, decimal),
        "DATE" => add(arguments, value, date),
        "TIME" => add(arguments, value, time),
        "TIMESTAMP" => add(arguments, value, |value| Ok(moment(value)?.naive_utc())),
        "TIMESTAMPTZ" => add(arguments, value, |value| Ok(moment(value)?.to_utc())),
        "UUID" => add(arguments, value, uuid),
        "JSON" | "JSONB" => add(arguments, value, |value| Ok(Json(value.clone()))),
        "BOOL[]" => add_list(arguments, value, boolean),
        "INT2[]" => add_list(arguments, value, integer::<i16>),
        "INT4[]" => add_list(arguments, value, integer::<i32>),
        "INT8[]" => add_list(arguments, value, integer::<i64>),
        "FLOAT8[]" => add_list(arguments, value, number),
        "NUMERIC[]" => add_list(arguments, value, decimal),
        "DATE[]" => add_list(arguments, value, date),
        "UUID[]" => add_list(arguments, value, uuid),
        "TEXT[]" | "VARCHAR[]" => add_list(arguments, value, text),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "citext" => add(arguments, value, text),
        _ => Err("cannot be given: have it as a text that is cast, as in `$1::text::…`".to_owned()),
    }
}

fn add<T>(
    arguments: &mut PgArguments,
    value: &Value,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<(), String>
where
    T: for<'q> Encode<'q, sqlx::Postgres> + Type<sqlx::Postgres>,
{
    let value = if value.is_null() {
        None
    } else {
        Some(read(value)?)
    };
    arguments.add(value).map_err(|error| error.to_string())
}

fn add_list<T>(
    arguments: &mut PgArguments,
    value: &Value,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<(), String>
where
    T: for<'q> Encode<'q, sqlx::Postgres> + Type<sqlx::Postgres> + PgHasArrayType + 'static,
{
    add(arguments, value, |value| {
        let Value::Array(items) = value else {
            return Err(format!("{value} is not a list"));
        };
        let item = |value: &Value| match value {
            Value::Null => Ok(None),
            value => read(value).map(Some),
        };
        items.iter().map(item).collect::<Result<Vec<_>, _>>()
    })
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        value => Err(format!("{value} is not `true` or `false`")),
    }
}

fn integer<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| format!("{value} is not a whole number"))?;
    T::try_from(number).map_err(|_| format!("{value} is too large"))
}

fn number(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("{value} is not a number"))
}

fn decimal(value: &Value) -> Result<BigDecimal, String> {
    let parsed = match value {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| format!("{value} is not a decimal number"))
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    })
}

fn date(value: &Value) -> Result<NaiveDate, String> {
    let text = value.as_str().unwrap_or_default();
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let date = date.or_else(|| moment(value).ok().map(|moment| moment.date_naive()));
    date.ok_or_else(|| format!("{value} is not a date such as 2026-11-24"))
}

fn time(value: &Value) -> Result<NaiveTime, String> {
    let text = value.as_str().unwrap_or_default();
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok();
    let time = time.or_else(|| NaiveTime::parse_from_str(text, "%H:%M").ok());
    time.ok_or_else(|| format!("{value} is not a time such as 10:00:00"))
}

/// A moment; without a zone it is UTC.
fn moment(value: &Value) -> Result<DateTime<chrono::FixedOffset>, String> {
    let text = value.as_str().unwrap_or_default();
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment);
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || {
        Some(
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()?
                .and_time(NaiveTime::MIN),
        )
    };
    let naive = naive.or_else(day);
    naive
        .map(|naive| naive.and_utc().fixed_offset())
        .ok_or_else(|| format!("{value} is not a date and time such as 2026-11-24T10:00:00Z"))
}

fn uuid(value: &Value) -> Result<Uuid, String> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{value} is not a UUID"))
}
