//! Days and times that databases keep as texts.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use super::cell;

/// A day such as `2026-11-24`, in days from 1970-01-01.
pub(super) fn date(text: &str) -> Option<i32> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(cell::days(day))
}

/// A time of day such as `10:00:00.25`, in microseconds from midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok();
    let time = time.or_else(|| NaiveTime::parse_from_str(text, "%H:%M").ok())?;
    Some(cell::time_of_day(time))
}

/// A moment such as `2026-11-24T10:00:00Z` or `2026-11-24 10:00:00`, in
/// microseconds from 1970; without a zone it is UTC.
pub(super) fn moment(text: &str) -> Option<i64> {
    let naive = |form| NaiveDateTime::parse_from_str(text, form).ok();
    let zoned = DateTime::parse_from_rfc3339(text).map(|moment| moment.naive_utc());
    let moment = zoned
        .ok()
        .or_else(|| naive("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|| naive("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|| naive("%Y-%m-%d %H:%M"))
        .or_else(|| {
            Some(
                NaiveDate::parse_from_str(text, "%Y-%m-%d")
                    .ok()?
                    .and_time(NaiveTime::MIN),
            )
        })?;
    Some(cell::moment(moment.date(), moment.time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_days_and_moments() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(time("00:00:01.5"), Some(1_500_000));
        for text in [
            "1970-01-01T01:00:00+01:00",
            "1970-01-01 00:00:00",
            "1970-01-01",
        ] {
            assert_eq!(moment(text), Some(0), "{text}");
        }
        assert_eq!(moment("tomorrow"), None);
        assert_eq!(date("1970-02-30"), None);
    }
}
