//! A value on its way from or to a database.

use std::borrow::Cow;

use chrono::{Datelike, NaiveDate, NaiveTime};
use serde_json::{Map, Value, json};

use super::decimal::Decimal;

/// Days from the first day of the calendar to 1970-01-01.
const EPOCH_DAYS: i32 = 719_163;
const DAY_US: i64 = 86_400_000_000;

/// A value on its way from or to a database.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// A whole number that may be larger than the largest [`Cell::Integer`].
    Natural(u64),
    Single(f32),
    Double(f64),
    Decimal(Decimal),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// Days from 1970-01-01.
    Date(i32),
    /// Microseconds from midnight.
    Time(i64),
    /// Microseconds from 1970; in UTC, or wherever its author was.
    Moment {
        microseconds: i64,
        is_utc: bool,
    },
    List(Vec<Cell<'a>>),
    Object(Vec<(&'a str, Cell<'a>)>),
}

impl Cell<'_> {
    /// The value as JSON: for databases that have no type of their own for it.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::Natural(value) => json!(value),
            // By its own digits, not by those of the nearest longer number.
            Self::Single(value) => value.to_string().parse().map_or(Value::Null, Value::Number),
            Self::Double(value) => json!(value),
            Self::Decimal(value) => json!(value.to_string()),
            Self::Text(text) => json!(text),
            Self::Bytes(bytes) => json!(hex(bytes)),
            Self::Date(days) => json!(date_text(*days)),
            Self::Time(microseconds) => json!(time_text(*microseconds)),
            Self::Moment {
                microseconds,
                is_utc,
            } => {
                let zone = if *is_utc { "Z" } else { "" };
                json!(format!("{}{zone}", moment_text(*microseconds, 'T')))
            }
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(members) => {
                let member = |(name, cell): &(&str, Self)| ((*name).to_owned(), cell.to_json());
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
        }
    }
}

/// A value in a column of another type, where it says exactly what that holds.
impl Cell<'_> {
    /// The value as a text.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Natural(value) => value.to_string(),
            Self::Single(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Decimal(value) => value.to_string(),
            Self::Date(days) => date_text(*days),
            Self::Time(microseconds) => time_text(*microseconds),
            Self::Moment {
                microseconds,
                is_utc,
            } => {
                let zone = if *is_utc { "Z" } else { "" };
                format!("{}{zone}", moment_text(*microseconds, 'T'))
            }
            cell => cell.to_json().to_string(),
        }
    }

    /// The value as a finite number, or why it is none.
    pub(super) fn to_number(&self) -> Result<f64, String> {
        let number = match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Natural(value) => Some(*value as f64),
            Self::Single(value) => Some(f64::from(*value)),
            Self::Double(value) => Some(*value),
            Self::Decimal(value) => value.to_string().parse().ok(),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.shown_before("is not a finite number"))
    }

    /// The value and, behind it, what it is not.
    pub(super) fn shown_before(&self, reason: &str) -> String {
        let shown: String = self.to_text().chars().take(60).collect();
        format!("`{shown}` {reason}")
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A day as `2026-11-24`. Years before the first are negative.
pub(super) fn date_text(days: i32) -> String {
    match day(days) {
        Some(day) => format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day()),
        None => format!("day {days} from 1970"),
    }
}

/// A day of the calendar; none where that does not reach so far.
pub(super) fn day(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(EPOCH_DAYS)?)
}

/// Days from 1970-01-01 to this day.
pub(super) fn days(day: NaiveDate) -> i32 {
    day.num_days_from_ce() - EPOCH_DAYS
}

/// A time of day as `10:00:00` or `10:00:00.250000`.
pub(super) fn time_text(microseconds: i64) -> String {
    let (seconds, rest) = (
        microseconds.div_euclid(1_000_000),
        microseconds.rem_euclid(1_000_000),
    );
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:06}")
    };
    format!("{hours:02}:{minutes:02}:{seconds:02}{fraction}")
}

/// A moment as `2026-11-24T10:00:00`, with this sign between date and time.
pub(super) fn moment_text(microseconds: i64, between: char) -> String {
    let (days, rest) = split_moment(microseconds);
    format!("{}{between}{}", date_text(days), time_text(rest))
}

/// The day of a moment, and the microseconds since its midnight.
pub(super) fn split_moment(microseconds: i64) -> (i32, i64) {
    let days = microseconds.div_euclid(DAY_US);
    let days = i32::try_from(days).expect("64 bits of microseconds are fewer days than 32 bits");
    (days, microseconds.rem_euclid(DAY_US))
}

/// The moment of a day and a time.
pub(super) fn moment(day: NaiveDate, time: NaiveTime) -> i64 {
    i64::from(days(day)) * DAY_US + time_of_day(time)
}

/// Microseconds from midnight to this time.
pub(super) fn time_of_day(time: NaiveTime) -> i64 {
    let since = time.signed_duration_since(NaiveTime::MIN);
    since.num_microseconds().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_texts_of_the_calendar() {
        assert_eq!(date_text(20_781), "2026-11-24");
        assert_eq!(date_text(-EPOCH_DAYS), "0000-12-31");
        assert_eq!(moment_text(0, ' '), "1970-01-01 00:00:00");
        assert_eq!(moment_text(-250_000, 'T'), "1969-12-31T23:59:59.750000");
        assert_eq!(time_text(36_000_000_001), "10:00:00.000001");
        let day = NaiveDate::from_ymd_opt(1969, 12, 31).unwrap();
        let time = NaiveTime::from_hms_micro_opt(23, 59, 59, 750_000).unwrap();
        assert_eq!(moment(day, time), -250_000);
    }

    #[test]
    fn nested_values_are_json() {
        let list = Cell::List(vec![Cell::Integer(1), Cell::Null, Cell::Single(0.1)]);
        let object = Cell::Object(vec![("a", list), ("b", Cell::Text("x".into()))]);
        assert_eq!(
            object.to_json().to_string(),
            r#"{"a":[1,null,0.1],"b":"x"}"#
        );
    }
}
