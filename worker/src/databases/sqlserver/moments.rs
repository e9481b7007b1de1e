//! Days and times as SQL Server counts them.

use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};

/// Days from 0001-01-01 and from 1900-01-01 to 1970-01-01.
const DAYS_FROM_1: i64 = 719_162;
const DAYS_FROM_1900: i64 = 25_567;

/// Days from 0001-01-01 to 9999-12-31, the last one that there is.
const LAST_DAY: i64 = 3_652_058;

/// The first day of a `datetime`, 1753-01-01, in days from 1900-01-01.
const FIRST_OF_DATETIME: i64 = -53_690;

const DAY_US: i64 = 86_400_000_000;

/// What a day or a time is not, to be read behind it.
pub(super) type Reason = &'static str;

const NO_DAY: Reason = "is no day that the column can hold";

/// Days from 1970-01-01 to a day.
pub(super) fn days(date: Date) -> i32 {
    // 24 bits of days fit.
    (i64::from(date.days()) - DAYS_FROM_1) as i32
}

/// Microseconds from midnight. Finer digits are cut off.
pub(super) fn microseconds(time: Time) -> i64 {
    let increments = i64::try_from(time.increments()).unwrap_or(i64::MAX);
    match time.scale() {
        scale @ 0..=6 => increments.saturating_mul(10_i64.pow(u32::from(6 - scale))),
        _ => increments / 10,
    }
}

/// Microseconds from 1970 to a moment.
pub(super) fn of_datetime2(moment: DateTime2) -> i64 {
    i64::from(days(moment.date())) * DAY_US + microseconds(moment.time())
}

/// Microseconds from 1970 to a moment, which SQL Server sends in UTC, with the
/// offset of its author beside it.
pub(super) fn of_offset(moment: DateTimeOffset) -> i64 {
    of_datetime2(moment.datetime2())
}

/// Microseconds from 1970 to a moment that is counted in steps of 1/300 s.
pub(super) fn of_datetime(moment: DateTime) -> i64 {
    let fragments = i64::from(moment.seconds_fragments());
    // As SQL Server shows it, in milliseconds that end with 0, 3 or 7.
    let milliseconds = (fragments * 10 + 1) / 3;
    (i64::from(moment.days()) - DAYS_FROM_1900) * DAY_US + milliseconds * 1_000
}

/// Microseconds from 1970 to a moment that is counted in minutes.
pub(super) fn of_smalldatetime(moment: SmallDateTime) -> i64 {
    let minutes = i64::from(moment.seconds_fragments());
    (i64::from(moment.days()) - DAYS_FROM_1900) * DAY_US + minutes * 60_000_000
}

/// A day from days from 1970-01-01.
pub(super) fn to_date(days: i64) -> Result<Date, Reason> {
    match u32::try_from(days + DAYS_FROM_1) {
        Ok(days) if i64::from(days) <= LAST_DAY => Ok(Date::new(days)),
        _ => Err(NO_DAY),
    }
}

/// A time of day with so many digits of a second, rounded to them.
pub(super) fn to_time(microseconds: i64, scale: u8) -> Result<Time, Reason> {
    let (step, steps) = steps(scale);
    let increments = rounded(microseconds, step) * steps;
    if !(0..DAY_US / step * steps).contains(&increments) {
        return Err("is no time of a day that the column can hold");
    }
    Ok(Time::new(increments.unsigned_abs(), scale))
}

/// A moment with so many digits of a second, rounded to them.
pub(super) fn to_datetime2(microseconds: i64, scale: u8) -> Result<DateTime2, Reason> {
    let (step, _) = steps(scale);
    let rounded = rounded(microseconds, step) * step;
    let date = to_date(rounded.div_euclid(DAY_US))?;
    Ok(DateTime2::new(
        date,
        to_time(rounded.rem_euclid(DAY_US), scale)?,
    ))
}

/// A moment in UTC.
pub(super) fn to_offset(microseconds: i64, scale: u8) -> Result<DateTimeOffset, Reason> {
    Ok(DateTimeOffset::new(to_datetime2(microseconds, scale)?, 0))
}

/// A moment in steps of 1/300 s, rounded to them.
pub(super) fn to_datetime(microseconds: i64) -> Result<DateTime, Reason> {
    let days = microseconds.div_euclid(DAY_US) + DAYS_FROM_1900;
    let fragments = (microseconds.rem_euclid(DAY_US) * 300 + 500_000) / 1_000_000;
    let (days, fragments) = match fragments {
        25_920_000 => (days + 1, 0),
        fragments => (days, fragments),
    };
    let last = LAST_DAY - DAYS_FROM_1 + DAYS_FROM_1900;
    if !(FIRST_OF_DATETIME..=last).contains(&days) {
        return Err(NO_DAY);
    }
    // Both were looked at.
    Ok(DateTime::new(days as i32, fragments as u32))
}

/// A moment in minutes, rounded to them.
pub(super) fn to_smalldatetime(microseconds: i64) -> Result<SmallDateTime, Reason> {
    let minutes = rounded(microseconds, 60_000_000);
    let days = minutes.div_euclid(1440) + DAYS_FROM_1900;
    let days = u16::try_from(days).map_err(|_| NO_DAY)?;
    // A day has fewer minutes than 16 bits.
    Ok(SmallDateTime::new(days, minutes.rem_euclid(1440) as u16))
}

/// How many microseconds the steps of a time with so many digits have, and how
/// many steps a microsecond has where they are finer.
fn steps(scale: u8) -> (i64, i64) {
    match scale {
        scale @ 0..=6 => (10_i64.pow(u32::from(6 - scale)), 1),
        _ => (1, 10),
    }
}

/// How many steps come nearest to a number.
fn rounded(microseconds: i64, step: i64) -> i64 {
    (microseconds.saturating_add(step / 2)).div_euclid(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::{cell::moment_text, texts};

    fn moment(text: &str) -> i64 {
        texts::moment(text).unwrap()
    }

    #[test]
    fn days_go_both_ways() {
        for (days_from_1970, days_from_1) in [(0, 719_162), (-719_162, 0), (2_932_896, 3_652_058)] {
            let date = to_date(days_from_1970).unwrap();
            assert_eq!(date.days(), days_from_1);
            assert_eq!(i64::from(days(date)), days_from_1970);
        }
        assert!(to_date(-719_163).is_err());
        assert!(to_date(2_932_897).is_err());
    }

    #[test]
    fn moments_go_both_ways() {
        for text in [
            "1970-01-01 00:00:00",
            "0001-01-01 00:00:00.000001",
            "9999-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.500000",
        ] {
            let microseconds = moment(text);
            for scale in [6, 7] {
                let there = to_datetime2(microseconds, scale).unwrap();
                assert_eq!(there.time().scale(), scale);
                assert_eq!(of_datetime2(there), microseconds, "{text}");
            }
            let there = to_offset(microseconds, 7).unwrap();
            assert_eq!((of_offset(there), there.offset()), (microseconds, 0));
        }
    }

    #[test]
    fn what_is_finer_than_the_column_is_rounded() {
        let late = moment("2026-12-31 23:59:59.9996");
        let there = to_datetime2(late, 3).unwrap();
        assert_eq!(moment_text(of_datetime2(there), ' '), "2027-01-01 00:00:00");
        assert_eq!(to_time(1_500_000, 0).unwrap().increments(), 2);
        assert_eq!(to_time(1, 7).unwrap().increments(), 10);
        assert!(to_time(DAY_US - 1, 3).is_err());
        assert!(to_time(DAY_US, 6).is_err());
        let datetime = |text| moment_text(of_datetime(to_datetime(moment(text)).unwrap()), ' ');
        assert_eq!(
            datetime("2026-01-01 00:00:00.005"),
            "2026-01-01 00:00:00.007000"
        );
        assert_eq!(datetime("1899-12-31 23:59:59.999"), "1900-01-01 00:00:00");
        assert_eq!(datetime("1753-01-01"), "1753-01-01 00:00:00");
        assert!(to_datetime(moment("1752-12-31")).is_err());
        let small = to_smalldatetime(moment("2026-01-01 10:00:30")).unwrap();
        assert_eq!(
            moment_text(of_smalldatetime(small), ' '),
            "2026-01-01 10:01:00"
        );
        assert!(to_smalldatetime(moment("1899-12-31")).is_err());
        assert!(to_smalldatetime(moment("2079-06-07")).is_err());
    }

    #[test]
    fn digits_beyond_microseconds_are_cut_off() {
        assert_eq!(microseconds(Time::new(19, 7)), 1);
        assert_eq!(microseconds(Time::new(15, 1)), 1_500_000);
        assert_eq!(of_datetime(DateTime::new(25_567, 1)), 3_000);
        assert_eq!(of_datetime(DateTime::new(25_567, 2)), 7_000);
    }
}
