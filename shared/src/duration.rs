//! Durations as people write them in flows and settings: `500ms`, `10s`, `2h`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time, written as a number with a unit: `500ms`, `10s`, `2h`,
/// `1m 30s`. At most 366 days, so that sums of it cannot overflow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[schemars(extend("examples" = ["500ms", "10s", "2h"]))]
pub struct Span(Duration);

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a duration must be a number with a unit, such as `500ms`, `10s` or `2h`, and at most 366d, not `{given}`"
)]
pub struct InvalidSpan {
    given: String,
}

impl Span {
    const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

    /// A setting that is a length, for the standard library.
    ///
    /// # Errors
    /// Fails where the text is not a length.
    pub fn setting(text: &str) -> Result<Duration, InvalidSpan> {
        text.parse().map(Self::duration)
    }

    /// The same length for the standard library.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The length in whole milliseconds.
    pub fn as_millis(self) -> u64 {
        // `MAX` keeps it far below the limit of the type.
        self.0.as_millis() as u64
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= Self::MAX => Ok(Self(duration)),
            _ => Err(InvalidSpan {
                given: text.chars().take(40).collect(),
            }),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_and_prints_as_people_write_it() {
        for text in ["500ms", "10s", "2h", "1m 30s", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("2h".parse::<Span>().unwrap().as_millis(), 7_200_000);
    }

    #[test]
    fn a_span_without_a_unit_or_beyond_a_year_is_refused() {
        for text in ["", "10", "ten", "-1s", "367d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
