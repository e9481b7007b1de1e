//! Values as a column of SQLite is declared to hold them. SQLite itself would
//! take any value in any column.

use sqlx::{Arguments, Encode, Type, sqlite::SqliteArguments};

use crate::databases::{
    cell::{Cell, date_text, moment_text, time_text},
    kind::Kind,
    texts,
};

/// Adds a value for a column of a kind, or says why it does not fit there.
pub(super) fn bind(
    arguments: &mut SqliteArguments,
    kind: &Kind,
    cell: &Cell<'_>,
) -> Result<(), String> {
    match (kind, cell) {
        (_, Cell::Null) => add(arguments, None::<i64>),
        (Kind::Boolean, Cell::Boolean(value)) => add(arguments, i64::from(*value)),
        (Kind::Boolean, Cell::Integer(value @ (0 | 1))) => add(arguments, *value),
        (Kind::Integer { .. } | Kind::Boolean, cell) => add(arguments, integer(cell)?),
        (Kind::Single | Kind::Double, cell) => add(arguments, number(cell)?),
        (Kind::Decimal { .. }, cell) => add(arguments, decimal(cell)?),
        (Kind::Bytes, Cell::Bytes(bytes)) => add(arguments, bytes.to_vec()),
        (Kind::Bytes, cell) => Err(misfit(cell, "bytes")),
        (Kind::Date, Cell::Date(days)) => add(arguments, date_text(*days)),
        (Kind::Date, Cell::Text(text)) if texts::date(text).is_some() => {
            add(arguments, text.to_string())
        }
        (Kind::Date, cell) => Err(misfit(cell, "a date")),
        (Kind::Time, Cell::Time(microseconds)) => add(arguments, time_text(*microseconds)),
        (Kind::Time, Cell::Text(text)) if texts::time(text).is_some() => {
            add(arguments, text.to_string())
        }
        (Kind::Time, cell) => Err(misfit(cell, "a time of day")),
        (Kind::Moment { .. }, Cell::Text(text)) if texts::moment(text).is_none() => {
            Err(misfit(cell, "a date and time"))
        }
        (Kind::Open(_), cell) => open(arguments, cell),
        (_, Cell::Bytes(_)) => Err(misfit(cell, "a text")),
        (_, cell) => add(arguments, text(cell)),
    }
}

/// A value for a column that is declared to hold anything.
fn open(arguments: &mut SqliteArguments, cell: &Cell<'_>) -> Result<(), String> {
    match cell {
        Cell::Boolean(_) | Cell::Integer(_) | Cell::Natural(_) => add(arguments, integer(cell)?),
        Cell::Single(_) | Cell::Double(_) => add(arguments, number(cell)?),
        Cell::Bytes(bytes) => add(arguments, bytes.to_vec()),
        cell => add(arguments, text(cell)),
    }
}

/// Adds a value as it is.
pub(super) fn add<T>(arguments: &mut SqliteArguments, value: T) -> Result<(), String>
where
    T: for<'q> Encode<'q, sqlx::Sqlite> + Type<sqlx::Sqlite>,
{
    arguments.add(value).map_err(|error| error.to_string())
}

fn integer(cell: &Cell<'_>) -> Result<i64, String> {
    let number = match cell {
        Cell::Boolean(value) => Some(i64::from(*value)),
        Cell::Integer(value) => Some(*value),
        Cell::Natural(value) => i64::try_from(*value).ok(),
        Cell::Decimal(value) => value
            .digits_with(19, 0)
            .ok()
            .and_then(|digits| digits.try_into().ok()),
        // Beyond this, neighbours are more than one apart.
        Cell::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
        Cell::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| misfit(cell, "a whole number of 64 bits"))
}

fn number(cell: &Cell<'_>) -> Result<f64, String> {
    let number = match cell {
        Cell::Integer(value) => Some(*value as f64),
        Cell::Natural(value) => Some(*value as f64),
        Cell::Single(value) => Some(f64::from(*value)),
        Cell::Double(value) => Some(*value),
        Cell::Decimal(value) => value.to_string().parse().ok(),
        Cell::Text(text) => text.parse().ok(),
        _ => None,
    };
    // SQLite has no other numbers, and would store none for NaN.
    let number = number.filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| misfit(cell, "a finite number"))
}

fn decimal(cell: &Cell<'_>) -> Result<String, String> {
    let text = text(cell);
    match crate::databases::decimal::Decimal::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(misfit(cell, "a decimal number")),
    }
}

fn text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Text(text) => text.to_string(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Natural(value) => value.to_string(),
        Cell::Single(value) => value.to_string(),
        Cell::Double(value) => value.to_string(),
        Cell::Decimal(value) => value.to_string(),
        Cell::Date(days) => date_text(*days),
        Cell::Time(microseconds) => time_text(*microseconds),
        Cell::Moment {
            microseconds,
            is_utc,
        } => {
            let zone = if *is_utc { "Z" } else { "" };
            format!("{}{zone}", moment_text(*microseconds, 'T'))
        }
        cell => cell.to_json().to_string(),
    }
}

fn misfit(cell: &Cell<'_>, wanted: &str) -> String {
    let shown: String = text(cell).chars().take(60).collect();
    format!("`{shown}` is not {wanted}")
}
