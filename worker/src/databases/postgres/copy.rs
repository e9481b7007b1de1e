//! Rows into a table of PostgreSQL by `COPY`, in its text format.

use std::fmt::Write;

use chrono::Datelike;
use sqlx::{AssertSqlSafe, Column, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo};

use super::failure::failure;
use crate::{
    databases::{
        cell::{Cell, day, hex, split_moment, time_text},
        error::{DatabaseError, Place},
        names::quoted,
        session::Load,
    },
    fault,
};

/// How much is sent at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Copies the rows of `load` into `table`, which is quoted. Each row is one
/// line, so that the line which PostgreSQL names is the row.
pub(super) async fn copy(
    connection: &mut PgConnection,
    table: &str,
    load: &Load<'_>,
) -> Result<(), DatabaseError> {
    let names = load.columns.iter().map(|(name, _)| quoted(name, '"'));
    let names = names.collect::<Vec<_>>().join(", ");
    let as_json = json_columns(connection, table, &names).await?;
    let sql = format!("copy {table} ({names}) from stdin");
    let mut copying = connection.copy_in_raw(&sql).await.map_err(failure)?;
    let mut line = String::new();
    while let Some((rows, before)) = load.next().await? {
        let first_row = before + 1;
        for row in 0..rows.count() {
            for (index, cell) in rows.row(row).enumerate() {
                let place = || Place {
                    column: &load.columns[index].0,
                    row: first_row + row as u64,
                };
                let cell =
                    cell.map_err(|reason| DatabaseError::value("type_mismatch", place(), reason))?;
                if index > 0 {
                    line.push('\t');
                }
                let put = put(&mut line, &cell, as_json[index]);
                put.map_err(|reason| DatabaseError::value("type_mismatch", place(), reason))?;
            }
            line.push('\n');
            if line.len() >= CHUNK_BYTES {
                copying.send(line.as_bytes()).await.map_err(failure)?;
                line.clear();
                fault::reach(fault::MID_COPY);
            }
        }
    }
    copying.send(line.as_bytes()).await.map_err(failure)?;
    fault::reach(fault::MID_COPY);
    copying.finish().await.map(drop).map_err(failure)
}

/// Which of the columns hold JSON: lists are written differently there. This
/// also fails early where there is no such table or column.
async fn json_columns(
    connection: &mut PgConnection,
    table: &str,
    names: &str,
) -> Result<Vec<bool>, DatabaseError> {
    let sql = format!("select {names} from {table}");
    let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str());
    let prepared = prepared.await.map_err(failure)?;
    let columns = prepared.columns().iter();
    let is_json = columns.map(|column| column.type_info().name().starts_with("JSON"));
    Ok(is_json.collect())
}

/// What texts of PostgreSQL do not hold.
const NO_ZERO: &str = "holds a character with the code 0, which no text of PostgreSQL can";

/// Appends a value to a line.
fn put(line: &mut String, cell: &Cell<'_>, as_json: bool) -> Result<(), &'static str> {
    // Writing into a text cannot fail.
    match cell {
        Cell::Null => line.push_str("\\N"),
        Cell::Integer(value) => drop(write!(line, "{value}")),
        Cell::Double(value) if value.abs() < 1e16 => drop(write!(line, "{value}")),
        Cell::Text(text) if text.contains('\0') => return Err(NO_ZERO),
        Cell::Text(text) => put_escaped(line, text),
        Cell::Object(_) => put_escaped(line, &cell.to_json().to_string()),
        Cell::List(_) if as_json => put_escaped(line, &cell.to_json().to_string()),
        Cell::List(items) => put_escaped(line, &array(items)?),
        cell => put_escaped(line, &plain(cell)?),
    }
    Ok(())
}

/// A single value as PostgreSQL reads it.
fn plain(cell: &Cell<'_>) -> Result<String, &'static str> {
    Ok(match cell {
        Cell::Null => String::new(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Natural(value) => value.to_string(),
        Cell::Single(value) => value.to_string(),
        Cell::Double(value) if value.abs() >= 1e16 => format!("{value:?}"),
        Cell::Double(value) => value.to_string(),
        Cell::Decimal(value) => value.to_string(),
        Cell::Text(text) if text.contains('\0') => return Err(NO_ZERO),
        Cell::Text(text) => text.to_string(),
        Cell::Bytes(bytes) => format!("\\x{}", hex(bytes)),
        Cell::Date(days) => {
            let (date, era) = date(*days)?;
            format!("{date}{era}")
        }
        Cell::Time(microseconds) => time_text(*microseconds),
        Cell::Moment {
            microseconds,
            is_utc,
        } => {
            let (days, rest) = split_moment(*microseconds);
            let (date, era) = date(days)?;
            let zone = if *is_utc { "+00" } else { "" };
            format!("{date} {}{zone}{era}", time_text(rest))
        }
        Cell::List(_) | Cell::Object(_) => cell.to_json().to_string(),
    })
}

/// A day, and behind it the era where it is not ours.
fn date(days: i32) -> Result<(String, &'static str), &'static str> {
    let day = day(days).ok_or("is no day of the calendar")?;
    let (year, era) = match day.year() {
        year @ 1.. => (year, ""),
        year => (1 - year, " BC"),
    };
    Ok((
        format!("{year:04}-{:02}-{:02}", day.month(), day.day()),
        era,
    ))
}

/// A list as PostgreSQL reads arrays.
fn array(items: &[Cell<'_>]) -> Result<String, &'static str> {
    let mut text = String::from("{");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match item {
            Cell::Null => text.push_str("NULL"),
            Cell::List(items) => text.push_str(&array(items)?),
            item => {
                let plain = plain(item)?.replace('\\', "\\\\").replace('"', "\\\"");
                // Writing into a text cannot fail.
                let _ = write!(text, "\"{plain}\"");
            }
        }
    }
    text.push('}');
    Ok(text)
}

fn put_escaped(line: &mut String, text: &str) {
    let mut rest = text;
    while let Some(found) = rest.find(['\\', '\n', '\r', '\t']) {
        line.push_str(&rest[..found]);
        line.push_str(match rest.as_bytes()[found] {
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            _ => "\\\\",
        });
        rest = &rest[found + 1..];
    }
    line.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cell: &Cell<'_>) -> String {
        let mut line = String::new();
        put(&mut line, cell, false).unwrap();
        line
    }

    #[test]
    fn a_row_stays_one_line() {
        assert_eq!(
            line(&Cell::Text("a\tb\\c\r\n\\N".into())),
            r"a\tb\\c\r\n\\N"
        );
        assert_eq!(line(&Cell::Null), r"\N");
        assert_eq!(line(&Cell::Bytes((&[0, 255][..]).into())), r"\\x00ff");
    }

    #[test]
    fn values_are_written_as_postgresql_reads_them() {
        assert_eq!(line(&Cell::Date(-719_163)), "0001-12-31 BC");
        let moment = Cell::Moment {
            microseconds: 1,
            is_utc: true,
        };
        assert_eq!(line(&moment), "1970-01-01 00:00:00.000001+00");
        assert_eq!(line(&Cell::Double(1e300)), "1e300");
        assert_eq!(line(&Cell::Double(2.0)), "2");
        let list = Cell::List(vec![Cell::Text("a\"\\".into()), Cell::Null]);
        assert_eq!(line(&list), r#"{"a\\"\\\\",NULL}"#);
    }
}
