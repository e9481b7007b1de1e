//! What a start asks for beside its body: when the run is due, whether the
//! caller waits, and what makes the request the same as an earlier one.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::http::HeaderMap;
use chrono::DateTime;
use millstream_shared::{
    run::Priority,
    store::{Durability, When},
};

use crate::{
    error::ApiError,
    query::{Await, Query, invalid},
};

/// No run is due later than this.
const AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest Idempotency-Key.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// What a start asks for beside its body.
#[derive(Debug, PartialEq)]
pub(super) struct StartOptions {
    pub(super) wait: Await,
    pub(super) when: When,
    pub(super) priority: Priority,
    pub(super) durability: Durability,
    pub(super) idempotency_key: Option<String>,
}

impl StartOptions {
    /// Reads the query and the headers of a start that came at `now_ms`,
    /// milliseconds since 1970.
    pub(super) fn read(query: &Query, headers: &HeaderMap, now_ms: u64) -> Result<Self, ApiError> {
        Ok(Self {
            wait: Await::read(query, headers)?,
            when: due(query, now_ms)?,
            priority: word(query, "priority")?.unwrap_or_default(),
            durability: word(query, "durability")?.unwrap_or(Durability::Memory),
            idempotency_key: idempotency_key(headers)?,
        })
    }
}

/// A parameter that is one of a few words, in any case.
fn word<T>(query: &Query, name: &str) -> Result<Option<T>, ApiError>
where
    T: FromStr<Err: Display>,
{
    let Some(value) = query.one(name)? else {
        return Ok(None);
    };
    match value.to_ascii_lowercase().parse() {
        Ok(word) => Ok(Some(word)),
        Err(error) => Err(ApiError::InvalidParameter(format!(
            "query parameter `{name}`: {error}"
        ))),
    }
}

fn due(query: &Query, now_ms: u64) -> Result<When, ApiError> {
    let delay = query.seconds("delay")?;
    let Some(at) = query.one("at")? else {
        return Ok(match delay {
            Some(delay) if !delay.is_zero() => When::After(whole_ms(delay)),
            _ => When::Now,
        });
    };
    if delay.is_some() {
        return Err(invalid("at", "cannot stand beside `delay`"));
    }
    let Some(at_ms) = moment_ms(at) else {
        let expected = "must be a time as in RFC 3339, such as `2026-11-24T10:00:00Z`";
        return Err(invalid("at", expected));
    };
    if at_ms > now_ms + whole_ms(AHEAD_MAX) {
        return Err(invalid("at", "must be within the next 366 days"));
    }
    Ok(if at_ms <= now_ms {
        When::Now
    } else {
        When::At(at_ms)
    })
}

/// A part of a millisecond counts as a whole one, so that nothing starts too
/// soon.
fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970; a time before that is 0.
fn moment_ms(text: &str) -> Option<u64> {
    // A `+` that was not encoded arrives as a space: `…T10:00:00 01:00`.
    let encoded = text
        .rsplit_once(' ')
        .filter(|(day, _)| day.contains(['T', 't', ' ']))
        .map(|(time, offset)| format!("{time}+{offset}"));
    let moment = DateTime::parse_from_rfc3339(encoded.as_deref().unwrap_or(text)).ok()?;
    Some(u64::try_from(moment.timestamp_millis()).unwrap_or_default())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let well_formed = (1..=IDEMPOTENCY_KEY_MAX).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_graphic)
        && values.all(|other| other == value);
    if !well_formed {
        let expected = "header `Idempotency-Key` must be given once, with 1 to 255 visible characters and no spaces";
        return Err(ApiError::InvalidParameter(expected.into()));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24T10:00:00Z.
    const NOW: u64 = 1_795_514_400_000;

    fn read(query: &str) -> Result<StartOptions, ApiError> {
        StartOptions::read(&Query::parse(query), &HeaderMap::new(), NOW)
    }

    fn due(query: &str) -> When {
        read(query).unwrap().when
    }

    #[test]
    fn a_start_is_due_now_unless_it_says_otherwise() {
        assert_eq!(due(""), When::Now);
        assert_eq!(due("delay=0"), When::Now);
        assert_eq!(due("Delay=1.5"), When::After(1500));
        assert_eq!(due("delay=0.0001"), When::After(1));
        assert_eq!(due("at=2026-11-24T10:00:01Z"), When::At(NOW + 1000));
        assert_eq!(
            due("AT=2026-11-24T12:00:00%2B01:00"),
            When::At(NOW + 3_600_000)
        );
        assert_eq!(
            due("at=2026-11-24T12:00:00+01:00"),
            When::At(NOW + 3_600_000)
        );
        assert_eq!(due("at=2001-01-01T00:00:00Z"), When::Now);
        assert_eq!(due("at=1901-01-01T00:00:00Z"), When::Now);
    }

    #[test]
    fn a_time_that_makes_no_sense_is_refused_by_name() {
        for query in [
            "at=tomorrow",
            "at=2026-11-24",
            "at=2028-11-24T10:00:00Z",
            "at=2026-11-24T10:00:01Z&delay=1",
        ] {
            let error = read(query).unwrap_err().to_string();
            assert!(error.contains("`at`"), "{error}");
        }
        for query in ["delay=-1", "delay=soon", "delay=31622401"] {
            let error = read(query).unwrap_err().to_string();
            assert!(error.contains("`delay`"), "{error}");
        }
    }

    #[test]
    fn priority_and_durability_are_words_in_any_case() {
        let options = read("priority=High&DURABILITY=fsync").unwrap();
        assert_eq!(options.priority, Priority::High);
        assert_eq!(options.durability, Durability::Fsync);
        let options = read("").unwrap();
        assert_eq!(options.priority, Priority::Normal);
        assert_eq!(options.durability, Durability::Memory);
        for (query, name) in [("priority=9", "priority"), ("durability=", "durability")] {
            let error = read(query).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn an_idempotency_key_has_1_to_255_visible_characters() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("Idempotency-Key", value.parse().unwrap());
            }
            StartOptions::read(&Query::parse(""), &headers, NOW)
                .map(|options| options.idempotency_key)
        };
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&["order-7"]).unwrap().as_deref(), Some("order-7"));
        assert_eq!(key(&["a", "a"]).unwrap().as_deref(), Some("a"));
        assert!(key(&[&"x".repeat(255)]).is_ok());
        for bad in [
            vec![""],
            vec!["a b"],
            vec!["a", "b"],
            vec![&*"x".repeat(256)],
        ] {
            assert!(key(&bad).is_err(), "{bad:?}");
        }
    }
}
