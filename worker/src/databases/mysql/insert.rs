//! Rows into a table of MySQL, by prepared inserts of many rows.

use sqlx::{Arguments, AssertSqlSafe, Encode, MySqlConnection, Type, mysql::MySqlArguments};

use super::failure;
use crate::{
    databases::{
        cell::{Cell, date_text, moment_text, time_text},
        decimal::DIGITS_MAX,
        error::{DatabaseError, Place},
        names::quoted,
        session::Load,
    },
    fault,
};

/// How many rows, values and bytes one statement brings at the most.
const ROWS_MAX: usize = 500;
const VALUES_MAX: usize = 10_000;
const BYTES_MAX: usize = 1 << 20;

/// How many digits behind the point a decimal of MySQL has at the most.
pub(super) const SCALE_MAX: i8 = 30;

/// Brings the rows of a load into `table`, which is quoted, many with each
/// statement.
pub(super) async fn insert(
    connection: &mut MySqlConnection,
    table: &str,
    load: &Load<'_>,
) -> Result<(), DatabaseError> {
    let names = load.columns.iter().map(|(name, _)| quoted(name, '`'));
    let names = names.collect::<Vec<_>>().join(", ");
    let values = format!("({})", vec!["?"; load.columns.len()].join(", "));
    let rows_max = (VALUES_MAX / load.columns.len()).clamp(1, ROWS_MAX);
    while let Some((rows, before)) = load.next().await? {
        let first_row = before + 1;
        let mut next = 0;
        while next < rows.count() {
            let (mut arguments, mut count, mut bytes) = (MySqlArguments::default(), 0, 0);
            while next + count < rows.count() && count < rows_max && bytes < BYTES_MAX {
                for (index, cell) in rows.row(next + count).enumerate() {
                    let bound = cell
                        .map_err(str::to_owned)
                        .and_then(|cell| bind(&mut arguments, &cell));
                    bytes += bound.map_err(|reason| {
                        let place = Place {
                            column: &load.columns[index].0,
                            row: first_row + (next + count) as u64,
                        };
                        DatabaseError::value("type_mismatch", place, reason)
                    })?;
                }
                count += 1;
            }
            let values = vec![values.as_str(); count].join(", ");
            let sql = format!("insert into {table} ({names}) values {values}");
            let inserted = sqlx::query_with(AssertSqlSafe(sql), arguments);
            let inserted = inserted.execute(&mut *connection).await;
            let before = first_row - 1 + next as u64;
            inserted.map_err(|error| failure::of_rows(error, before))?;
            fault::reach(fault::MID_COPY);
            next += count;
        }
    }
    Ok(())
}

/// Adds a value, and says about how many bytes it takes.
pub(super) fn bind(arguments: &mut MySqlArguments, cell: &Cell<'_>) -> Result<usize, String> {
    let text = match cell {
        Cell::Null => return add(arguments, None::<i64>, 1),
        Cell::Boolean(value) => return add(arguments, *value, 1),
        Cell::Integer(value) => return add(arguments, *value, 8),
        Cell::Natural(value) => return add(arguments, *value, 8),
        Cell::Single(value) if value.is_finite() => return add(arguments, *value, 4),
        Cell::Double(value) if value.is_finite() => return add(arguments, *value, 8),
        Cell::Single(_) | Cell::Double(_) => return Err("is not a finite number".to_owned()),
        Cell::Bytes(bytes) => return add(arguments, bytes.to_vec(), bytes.len()),
        Cell::Text(text) => text.to_string(),
        Cell::Decimal(value) => {
            // MySQL would cut off the rest and not say so.
            let digits = value.digits_with(DIGITS_MAX, SCALE_MAX);
            if value.scale > SCALE_MAX as u32 && digits.is_err() {
                return Err(format!(
                    "{value} has more digits behind the point than the 30 of MySQL"
                ));
            }
            value.to_string()
        }
        Cell::Date(days) => date_text(*days),
        Cell::Time(microseconds) => time_text(*microseconds),
        // The time zone of the session is UTC.
        Cell::Moment { microseconds, .. } => moment_text(*microseconds, ' '),
        Cell::List(_) | Cell::Object(_) => cell.to_json().to_string(),
    };
    let bytes = text.len();
    add(arguments, text, bytes)
}

fn add<T>(arguments: &mut MySqlArguments, value: T, bytes: usize) -> Result<usize, String>
where
    T: for<'q> Encode<'q, sqlx::MySql> + Type<sqlx::MySql>,
{
    let added = arguments.add(value);
    added.map(|()| bytes).map_err(|error| error.to_string())
}
