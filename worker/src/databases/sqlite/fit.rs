//! Values as a column of SQLite is declared to hold them. SQLite itself would
//! take any value in any column.

use sqlx::{Arguments, Encode, Type, sqlite::SqliteArguments};

use crate::databases::{
    cell::{Cell, date_text, time_text},
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
        // SQLite has no other numbers, and would store none for NaN.
        (Kind::Single | Kind::Double, cell) => add(arguments, cell.to_number()?),
        (Kind::Decimal { .. }, cell) => add(arguments, decimal(cell)?),
        (Kind::Bytes, Cell::Bytes(bytes)) => add(arguments, bytes.to_vec()),
        (Kind::Bytes, cell) => Err(cell.shown_before("is not bytes")),
        (Kind::Date, Cell::Date(days)) => add(arguments, date_text(*days)),
        (Kind::Date, Cell::Text(text)) if texts::date(text).is_some() => {
            add(arguments, text.to_string())
        }
        (Kind::Date, cell) => Err(cell.shown_before("is not a date")),
        (Kind::Time, Cell::Time(microseconds)) => add(arguments, time_text(*microseconds)),
        (Kind::Time, Cell::Text(text)) if texts::time(text).is_some() => {
            add(arguments, text.to_string())
        }
        (Kind::Time, cell) => Err(cell.shown_before("is not a time of day")),
        (Kind::Moment { .. }, Cell::Text(text)) if texts::moment(text).is_none() => {
            Err(cell.shown_before("is not a date and time"))
        }
        (Kind::Open(_), cell) => open(arguments, cell),
        (_, Cell::Bytes(_)) => Err(cell.shown_before("is not a text")),
        (_, cell) => add(arguments, cell.to_text()),
    }
}

/// A value for a column that is declared to hold anything.
fn open(arguments: &mut SqliteArguments, cell: &Cell<'_>) -> Result<(), String> {
    match cell {
        Cell::Boolean(_) | Cell::Integer(_) | Cell::Natural(_) => add(arguments, integer(cell)?),
        Cell::Single(_) | Cell::Double(_) => add(arguments, cell.to_number()?),
        Cell::Bytes(bytes) => add(arguments, bytes.to_vec()),
        cell => add(arguments, cell.to_text()),
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
    number.ok_or_else(|| cell.shown_before("is not a whole number of 64 bits"))
}

fn decimal(cell: &Cell<'_>) -> Result<String, String> {
    let text = cell.to_text();
    match crate::databases::decimal::Decimal::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(cell.shown_before("is not a decimal number")),
    }
}
