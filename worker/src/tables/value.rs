//! Texts as typed values, and why a text is not one.

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};

/// Days from the first day of the calendar to 1970-01-01.
const EPOCH_DAYS: i32 = 719_163;
const DAY_US: i64 = 86_400_000_000;

/// Digits behind the point of a decimal, and digits of it in all.
pub(super) const DECIMAL_SCALE: usize = 9;
pub(super) const DECIMAL_DIGITS: usize = 38;

/// What a text is not, to be read behind it: `12x` "is not a whole number".
pub(super) type Reason = &'static str;

/// A whole number of 64 bits.
pub(super) fn integer(text: &str) -> Result<i64, Reason> {
    use std::num::IntErrorKind as Kind;
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            Kind::PosOverflow | Kind::NegOverflow => "does not fit into 64 bits",
            _ => "is not a whole number",
        })
}

/// A finite floating-point number.
pub(super) fn number(text: &str) -> Result<f64, Reason> {
    let starts_well =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && starts_well => Ok(number),
        Ok(number)
            if number.is_infinite()
                && starts_well
                && text.contains(|c: char| c.is_ascii_digit()) =>
        {
            Err("is too large for a number")
        }
        _ => Err("is not a number"),
    }
}

/// An exact number, in units of its last digit behind the point.
pub(super) fn decimal(text: &str) -> Result<i128, Reason> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err("is not a decimal number");
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > DECIMAL_DIGITS - DECIMAL_SCALE {
        return Err("has more than 29 digits before the point");
    }
    if fraction.len() > DECIMAL_SCALE {
        return Err("has more than 9 digits behind the point");
    }
    let padding = std::iter::repeat_n(b'0', DECIMAL_SCALE - fraction.len());
    let value = whole
        .bytes()
        .chain(fraction.bytes())
        .chain(padding)
        .fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    Ok(if negative { -value } else { value })
}

/// `true` or `false`, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, Reason> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("is not `true` or `false`")
    }
}

/// A day as `2026-11-24`, in days from 1970-01-01.
pub(super) fn date(text: &str) -> Result<i32, Reason> {
    calendar_day(text.as_bytes()).ok_or("is not a date such as 2026-11-24")
}

/// A moment as `2026-11-24T10:00:00Z` or `2026-11-24 10:00:00`, which is UTC,
/// in microseconds from 1970. Finer fractions of a second are cut off.
pub(super) fn datetime(text: &str) -> Result<i64, Reason> {
    moment(text.as_bytes()).ok_or("is not a date and time such as 2026-11-24T10:00:00Z")
}

fn moment(text: &[u8]) -> Option<i64> {
    let days = calendar_day(text.get(..10)?)?;
    if !matches!(text.get(10)?, b'T' | b't' | b' ')
        || text.get(13)? != &b':'
        || text.get(16)? != &b':'
    {
        return None;
    }
    let (hour, minute, second) = (
        digits(text.get(11..13)?)?,
        digits(text.get(14..16)?)?,
        digits(text.get(17..19)?)?,
    );
    let time = NaiveTime::from_hms_opt(hour, minute, second)?;
    let (fraction_us, zone) = fraction_us(&text[19..])?;
    let local_us = i64::from(days) * DAY_US
        + i64::from(time.num_seconds_from_midnight()) * 1_000_000
        + i64::from(fraction_us);
    Some(local_us - i64::from(offset_minutes(zone)?) * 60_000_000)
}

/// The microseconds of a fraction such as `.25`, and what stands behind it.
fn fraction_us(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let kept = count.min(6);
    let value = digits(&rest[..kept])?;
    Some((
        value * 10u32.pow(6 - u32::try_from(kept).ok()?),
        &rest[count..],
    ))
}

/// Minutes east of UTC of a zone such as `Z` or `+01:00`; none is UTC.
fn offset_minutes(zone: &[u8]) -> Option<i32> {
    let (sign, rest) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    if rest.len() != 5 || rest[2] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&rest[..2])?, digits(&rest[3..])?);
    let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    Some(sign * i32::try_from(minutes).ok()?)
}

fn calendar_day(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = i32::try_from(digits(&text[..4])?).ok()?;
    let day = NaiveDate::from_ymd_opt(year, digits(&text[5..7])?, digits(&text[8..])?)?;
    Some(day.num_days_from_ce() - EPOCH_DAYS)
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u32::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        const UNIT: i128 = 1_000_000_000;
        for (text, value) in [
            ("0", 0),
            ("12", 12 * UNIT),
            ("-0.1", -UNIT / 10),
            ("+1.500", UNIT + UNIT / 2),
            (".5", UNIT / 2),
            ("007", 7 * UNIT),
            (
                "99999999999999999999999999999.999999999",
                10i128.pow(38) - 1,
            ),
        ] {
            assert_eq!(decimal(text), Ok(value), "{text}");
        }
        for text in ["", "-", ".", "1e5", "1,5", "1.0000000001", "1x", "--1"] {
            assert!(decimal(text).is_err(), "{text}");
        }
        assert!(decimal(&"9".repeat(30)).is_err());
    }

    #[test]
    fn numbers_are_finite_and_start_like_numbers() {
        assert_eq!(number("-1.5e3"), Ok(-1500.0));
        assert_eq!(number("1e999"), Err("is too large for a number"));
        for text in ["NaN", "inf", "-inf", "", "12x", "1,5"] {
            assert_eq!(number(text), Err("is not a number"), "{text}");
        }
        assert_eq!(
            integer("9223372036854775808"),
            Err("does not fit into 64 bits")
        );
        assert_eq!(integer("1.0"), Err("is not a whole number"));
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("2026-11-24"), Ok(20_781));
        assert_eq!(date("0001-01-01"), Ok(1 - EPOCH_DAYS));
        for text in [
            "2026-02-29",
            "2026-13-01",
            "26-01-01",
            "2026/01/01",
            "2026-1-1",
            "",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn datetimes_are_moments_in_utc() {
        for (text, microseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:01", 1_000_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:30:00-00:30", 0),
            ("1970-01-01T00:00:00.25", 250_000),
            ("1970-01-01T00:00:00.123456789Z", 123_456),
            ("9999-12-31 23:59:59", 253_402_300_799_000_000),
        ] {
            assert_eq!(datetime(text), Ok(microseconds), "{text}");
        }
        for text in [
            "1970-01-01",
            "1970-01-01T00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+1",
            "1970-01-01T00:00:00 Europe/Oslo",
        ] {
            assert!(datetime(text).is_err(), "{text}");
        }
    }
}
