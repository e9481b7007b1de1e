//! Rows into a table of PostgreSQL by `COPY`: in its binary format where every
//! column is of a type that has one which we know, and else in its text format,
//! which reaches every type.

use std::io::Write;

use chrono::Datelike;
use sqlx::{AssertSqlSafe, Column, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo};

use super::{
    binary::{END, START, Target},
    failure::failure,
};
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

/// How the values of a row are written.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// Each in the form of its column.
    Binary(Vec<Target>),
    /// As texts in a line, some of whose columns hold JSON: lists are written
    /// differently there.
    Text { are_json: Vec<bool> },
}

/// Copies the rows of `load` into `table`, which is quoted. The row that
/// PostgreSQL names, as a line, is the row of the load.
pub(super) async fn copy(
    connection: &mut PgConnection,
    table: &str,
    load: &Load<'_>,
) -> Result<(), DatabaseError> {
    let names = load.columns.iter().map(|(name, _)| quoted(name, '"'));
    let names = names.collect::<Vec<_>>().join(", ");
    let form = form(connection, table, &names, load).await?;
    let (options, start, end) = match form {
        Form::Binary(_) => (" with (format binary)", START, END),
        Form::Text { .. } => ("", &[][..], &[][..]),
    };
    let sql = format!("copy {table} ({names}) from stdin{options}");
    let mut copying = connection.copy_in_raw(&sql).await.map_err(failure)?;
    let mut chunk = start.to_vec();
    while let Some((rows, before)) = load.next().await? {
        let first_row = before + 1;
        for row in 0..rows.count() {
            let put = form.put(&mut chunk, rows.row(row));
            put.map_err(|(column, reason)| {
                let place = Place {
                    column: &load.columns[column].0,
                    row: first_row + row as u64,
                };
                DatabaseError::value("type_mismatch", place, reason)
            })?;
            if chunk.len() >= CHUNK_BYTES {
                copying.send(&*chunk).await.map_err(failure)?;
                chunk.clear();
                fault::reach(fault::MID_COPY);
            }
        }
    }
    chunk.extend_from_slice(end);
    copying.send(&*chunk).await.map_err(failure)?;
    fault::reach(fault::MID_COPY);
    copying.finish().await.map(drop).map_err(failure)
}

/// How the rows of `load` are written. This also fails early where there is no
/// such table or column.
async fn form(
    connection: &mut PgConnection,
    table: &str,
    names: &str,
    load: &Load<'_>,
) -> Result<Form, DatabaseError> {
    let sql = format!("select {names} from {table}");
    let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str());
    let prepared = prepared.await.map_err(failure)?;
    let types = prepared.columns().iter();
    let types: Vec<_> = types.map(|column| column.type_info().name()).collect();
    let kinds = load.columns.iter().map(|(_, kind)| kind);
    let targets = kinds.zip(&types).map(|(kind, name)| Target::of(kind, name));
    Ok(match targets.collect() {
        Some(targets) => Form::Binary(targets),
        None => Form::Text {
            are_json: types.iter().map(|name| name.starts_with("JSON")).collect(),
        },
    })
}

impl Form {
    /// Appends a row, or says which of its values cannot be carried, and why.
    fn put<'c>(
        &self,
        chunk: &mut Vec<u8>,
        cells: impl Iterator<Item = Result<Cell<'c>, &'static str>>,
    ) -> Result<(), (usize, &'static str)> {
        match self {
            Self::Binary(targets) => {
                // A table of PostgreSQL has at most 1,600 columns.
                chunk.extend((targets.len() as u16).to_be_bytes());
                for (index, (target, cell)) in targets.iter().zip(cells).enumerate() {
                    let put = cell.and_then(|cell| target.put(chunk, &cell));
                    put.map_err(|reason| (index, reason))?;
                }
            }
            Self::Text { are_json } => {
                for (index, (is_json, cell)) in are_json.iter().zip(cells).enumerate() {
                    if index > 0 {
                        chunk.push(b'\t');
                    }
                    let put = cell.and_then(|cell| put(chunk, &cell, *is_json));
                    put.map_err(|reason| (index, reason))?;
                }
                chunk.push(b'\n');
            }
        }
        Ok(())
    }
}

/// What texts of PostgreSQL do not hold.
pub(super) const NO_ZERO: &str =
    "holds a character with the code 0, which no text of PostgreSQL can";

/// What days of PostgreSQL are not.
pub(super) const NO_DAY: &str = "is no day of the calendar";

/// Appends a value to a line.
fn put(line: &mut Vec<u8>, cell: &Cell<'_>, as_json: bool) -> Result<(), &'static str> {
    // Writing into memory cannot fail.
    match cell {
        Cell::Null => line.extend_from_slice(b"\\N"),
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
    let day = day(days).ok_or(NO_DAY)?;
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
                text.push_str(&format!("\"{plain}\""));
            }
        }
    }
    text.push('}');
    Ok(text)
}

fn put_escaped(line: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(found) = rest.find(['\\', '\n', '\r', '\t']) {
        line.extend_from_slice(&rest.as_bytes()[..found]);
        line.extend_from_slice(match rest.as_bytes()[found] {
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            _ => b"\\\\",
        });
        rest = &rest[found + 1..];
    }
    line.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cell: &Cell<'_>) -> String {
        let mut line = Vec::new();
        put(&mut line, cell, false).unwrap();
        String::from_utf8(line).unwrap()
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
