//! The type of a column, inferred from all of its values.

use memchr::memchr;
use millstream_shared::flow::step::ColumnType;

use super::value;

/// What the values of a column seen so far have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Inferred {
    /// There was no value.
    #[default]
    Nothing,
    /// Whole numbers that a floating-point number holds exactly.
    Integer,
    /// Whole numbers of which one needs more than a floating-point number.
    BigInteger,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Boolean,
    /// Days.
    Date,
    /// Moments.
    Datetime,
    /// Anything else.
    Text,
}

impl Inferred {
    /// Whole numbers beyond this lose digits as floating-point numbers.
    const EXACT_MAX: u64 = 1 << 53;
    /// Numbers with more digits before the point lose some of those behind it.
    const WHOLE_DIGITS_MAX: usize = 15;

    /// Takes in one more value, which is not empty.
    pub(super) fn observe(&mut self, text: &str) {
        let changes_nothing = match self {
            Self::Text => true,
            Self::Integer | Self::BigInteger => is_short_integer(text.as_bytes()),
            Self::Number => is_short_number(text.as_bytes()),
            _ => false,
        };
        if !changes_nothing {
            *self = self.and(Self::of(text));
        }
    }

    /// What a column is that holds both.
    pub(super) fn and(self, other: Self) -> Self {
        use Inferred::*;
        match (self, other) {
            (Nothing, one) | (one, Nothing) => one,
            (one, same) if one == same => one,
            (Integer, BigInteger) | (BigInteger, Integer) => BigInteger,
            (Integer, Number) | (Number, Integer) => Number,
            _ => Text,
        }
    }

    /// The type of a column of which all values are seen.
    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Self::Integer | Self::BigInteger => ColumnType::Integer,
            Self::Number => ColumnType::Number,
            Self::Boolean => ColumnType::Boolean,
            Self::Date => ColumnType::Date,
            Self::Datetime => ColumnType::Datetime,
            Self::Nothing | Self::Text => ColumnType::String,
        }
    }

    /// What a single value is. A number is one only where nothing of its text
    /// gets lost: no leading zeros or plus sign, not more digits than fit.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes {
            [b't' | b'T' | b'f' | b'F', ..] if value::boolean(text).is_ok() => Self::Boolean,
            [b'0'..=b'9', ..] if bytes.get(4) == Some(&b'-') => match bytes.len() {
                10 if value::date(text).is_ok() => Self::Date,
                19.. if value::datetime(text).is_ok() => Self::Datetime,
                _ => Self::Text,
            },
            [b'0'..=b'9' | b'-' | b'.', ..] => Self::of_number(text),
            _ => Self::Text,
        }
    }

    fn of_number(text: &str) -> Self {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
        if whole > 1 && digits.starts_with('0') {
            return Self::Text;
        }
        if whole == digits.len() {
            return match value::integer(text) {
                Ok(integer) if integer.unsigned_abs() <= Self::EXACT_MAX => Self::Integer,
                Ok(_) => Self::BigInteger,
                Err(_) => Self::Text,
            };
        }
        if whole <= Self::WHOLE_DIGITS_MAX && value::number(text).is_ok() {
            Self::Number
        } else {
            Self::Text
        }
    }
}

/// Whether a text is plainly an [`Inferred::Integer`], as most are.
fn is_short_integer(text: &[u8]) -> bool {
    let starts_well = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
    starts_well && text.len() <= Inferred::WHOLE_DIGITS_MAX && text.iter().all(u8::is_ascii_digit)
}

/// Whether a text is plainly an [`Inferred::Number`] or [`Inferred::Integer`], as
/// most are.
fn is_short_number(text: &[u8]) -> bool {
    match memchr(b'.', text) {
        Some(point) => {
            is_short_integer(&text[..point]) && text[point + 1..].iter().all(u8::is_ascii_digit)
        }
        None => is_short_integer(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_typed_only_where_nothing_gets_lost() {
        use Inferred::*;
        for (text, expected) in [
            ("0", Integer),
            ("-12", Integer),
            ("9007199254740993", BigInteger),
            ("9223372036854775808", Text),
            ("007", Text),
            ("-01", Text),
            ("00.5", Text),
            ("+4712345678", Text),
            ("0.5", Number),
            (".5", Number),
            ("-1.5e-3", Number),
            ("1e999", Text),
            ("1234567890123456.75", Text),
            ("12x", Text),
            ("1,5", Text),
            ("-", Text),
            (".", Text),
            ("NaN", Text),
            ("true", Boolean),
            ("FALSE", Boolean),
            ("t", Text),
            ("2026-11-24", Date),
            ("2026-02-30", Text),
            ("2026-11-24T10:00:00Z", Datetime),
            ("2026-11-24 10:00:00.5", Datetime),
            ("2026-11-24T10:00:00+01:00", Datetime),
            ("2026-11-24T10", Text),
            (" 1", Text),
            ("æøå", Text),
        ] {
            assert_eq!(Inferred::of(text), expected, "{text}");
            // The short cuts of `observe` come to the same.
            for known in [Integer, BigInteger, Number] {
                let mut observed = known;
                observed.observe(text);
                assert_eq!(observed, known.and(expected), "{known:?} and {text}");
            }
        }
    }

    #[test]
    fn a_column_is_what_its_values_have_in_common() {
        for (values, expected) in [
            (&[][..], ColumnType::String),
            (&["1", "2"][..], ColumnType::Integer),
            (&["1", "2.5"][..], ColumnType::Number),
            (&["1", "9007199254740993"][..], ColumnType::Integer),
            (&["9007199254740993", "2.5"][..], ColumnType::String),
            (&["1", "true"][..], ColumnType::String),
            (
                &["2026-11-24", "2026-11-24T10:00:00Z"][..],
                ColumnType::String,
            ),
            (&["1", "2", "12x"][..], ColumnType::String),
        ] {
            let mut inferred = Inferred::default();
            values.iter().for_each(|value| inferred.observe(value));
            assert_eq!(inferred.column_type(), expected, "{values:?}");
        }
    }
}
