//! The value of a cell, and which text it is in a column of some type.

use std::borrow::Cow;

use calamine::{Data, ExcelDateTime};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use millstream_shared::flow::step::ColumnType;

use crate::tables::inferred::Inferred;

/// The value of a cell that is not empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Number(f64),
    Boolean(bool),
    Moment(NaiveDateTime),
    /// What shows where a formula has no result, such as `#DIV/0!`.
    Error(String),
}

impl Cell {
    /// Whole numbers up to here are exact in a cell.
    pub(super) const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

    pub(super) fn of(data: Data) -> Option<Self> {
        Some(match data {
            Data::Empty => return None,
            Data::String(text) if text.is_empty() => return None,
            Data::String(text) | Data::DurationIso(text) => Self::Text(text),
            Data::Int(number) => Self::Number(number as f64),
            Data::Float(number) => Self::Number(number),
            Data::Bool(value) => Self::Boolean(value),
            Data::Error(error) => Self::Error(error.to_string()),
            Data::DateTime(moment) => of_moment(&moment),
            Data::DateTimeIso(text) => match iso_moment(&text) {
                Some(moment) => Self::Moment(moment),
                None => Self::Text(text),
            },
        })
    }

    /// What it is as a value of a column of which the type is to be inferred.
    pub(super) fn kind(&self) -> Inferred {
        match self {
            Self::Text(_) | Self::Error(_) => Inferred::Text,
            Self::Boolean(_) => Inferred::Boolean,
            Self::Moment(moment) if moment.time() == NaiveTime::MIN => Inferred::Date,
            Self::Moment(_) => Inferred::Datetime,
            Self::Number(number) if is_whole(*number) => Inferred::Integer,
            Self::Number(_) => Inferred::Number,
        }
    }

    /// The text that it is in a column of this type.
    pub(super) fn text(&self, column_type: ColumnType) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Error(text) => text.into(),
            Self::Boolean(value) => value.to_string().into(),
            Self::Number(number) => number.to_string().into(),
            Self::Moment(moment) => {
                let is_day = moment.time() == NaiveTime::MIN;
                let format = if is_day && column_type != ColumnType::Datetime {
                    "%Y-%m-%d"
                } else {
                    "%Y-%m-%dT%H:%M:%S%.f"
                };
                moment.format(format).to_string().into()
            }
        }
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() <= Cell::EXACT_MAX
}

/// What a column is that holds both. A day is a moment as well.
pub(super) fn and(one: Inferred, other: Inferred) -> Inferred {
    match (one, other) {
        (Inferred::Date, Inferred::Datetime) | (Inferred::Datetime, Inferred::Date) => {
            Inferred::Datetime
        }
        (one, other) => one.and(other),
    }
}

/// A moment, or a text where the cell shows a time of some day or a duration.
fn of_moment(moment: &ExcelDateTime) -> Cell {
    let number = moment.as_f64();
    if moment.is_duration() || (0.0..1.0).contains(&number) {
        return Cell::Text(clock(number));
    }
    match moment.as_datetime() {
        Some(moment) => Cell::Moment(moment),
        None => Cell::Number(number),
    }
}

/// A part of a day, or several days, as `26:30:00`.
fn clock(days: f64) -> String {
    let milliseconds = (days.abs() * 86_400_000.0).round() as u64;
    let sign = if days < 0.0 { "-" } else { "" };
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let fraction = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:03}")
    };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{sign}{hours:02}:{minutes:02}:{:02}{fraction}",
        seconds % 60
    )
}

fn iso_moment(text: &str) -> Option<NaiveDateTime> {
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.naive_utc());
    }
    let day: NaiveDate = text.parse().ok()?;
    Some(day.and_time(NaiveTime::MIN))
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType::{DateTime, TimeDelta};

    use super::*;

    fn shown(data: Data) -> (Inferred, String) {
        let cell = Cell::of(data).unwrap();
        (cell.kind(), cell.text(ColumnType::String).into_owned())
    }

    #[test]
    fn a_cell_is_a_value_with_a_type() {
        use Inferred::*;
        let moment = |number, kind| Data::DateTime(ExcelDateTime::new(number, kind, false));
        for (data, kind, text) in [
            (Data::Float(12.0), Integer, "12"),
            (Data::Int(-3), Integer, "-3"),
            (Data::Float(0.1), Number, "0.1"),
            (Data::Float(1e20), Number, "100000000000000000000"),
            (Data::String("007".into()), Text, "007"),
            (Data::Bool(true), Boolean, "true"),
            (moment(46350.0, DateTime), Date, "2026-11-24"),
            (moment(46350.75, DateTime), Datetime, "2026-11-24T18:00:00"),
            (moment(0.75, DateTime), Text, "18:00:00"),
            (moment(1.5, TimeDelta), Text, "36:00:00"),
            (Data::DateTimeIso("2026-11-24".into()), Date, "2026-11-24"),
            (
                Data::DateTimeIso("2026-11-24T10:00:00.25".into()),
                Datetime,
                "2026-11-24T10:00:00.250",
            ),
        ] {
            assert_eq!(shown(data), (kind, text.to_owned()));
        }
        assert_eq!(Cell::of(Data::Empty), None);
        assert_eq!(and(Inferred::Date, Inferred::Datetime), Inferred::Datetime);
        assert_eq!(and(Inferred::Integer, Inferred::Number), Inferred::Number);
        assert_eq!(and(Inferred::Integer, Inferred::Text), Inferred::Text);
    }
}
