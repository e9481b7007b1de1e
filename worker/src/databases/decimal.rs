//! Exact numbers on their way from and to databases.

use std::fmt;

/// Digits that an exact number may have in all.
pub(super) const DIGITS_MAX: u8 = 38;

/// Digits behind the point where a database does not say how many there are.
pub(super) const OPEN_SCALE: i8 = 9;

/// An exact number: `digits` divided by ten to the power of `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: i128,
    pub(super) scale: u32,
}

/// What a number is not, to be read behind it.
pub(super) type Reason = &'static str;

const TOO_LONG: Reason = "has more than 38 digits";

impl Decimal {
    /// The number that a text such as `-12.50` stands for.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let (is_negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err("is not a decimal number");
        }
        let mut digits = 0_i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let next = digits.checked_mul(10);
            let next = next.and_then(|digits| digits.checked_add(i128::from(digit - b'0')));
            digits = next.ok_or(TOO_LONG)?;
        }
        Ok(Self {
            digits: if is_negative { -digits } else { digits },
            scale: fraction.len() as u32,
        })
    }

    /// The number in the binary form of PostgreSQL's `numeric`.
    pub(super) fn from_postgres(bytes: &[u8]) -> Result<Self, Reason> {
        let word = |place: usize| {
            let two = bytes.get(place..place + 2)?;
            Some(u16::from_be_bytes([two[0], two[1]]))
        };
        let broken = "is not in the form of a numeric";
        let count = i32::from(word(0).ok_or(broken)?);
        let weight = i32::from(word(2).ok_or(broken)? as i16);
        let sign = word(4).ok_or(broken)?;
        let scale = u32::from(word(6).ok_or(broken)?);
        match sign {
            0x0000 | 0x4000 => {}
            0xC000 => return Err("NaN is no number"),
            0xD000 | 0xF000 => return Err("infinity is no number"),
            _ => return Err(broken),
        }
        // Four digits at a time, the first of them ten thousand to the power of
        // `weight`.
        let mut digits = 0_i128;
        let last = -(scale.div_ceil(4) as i32);
        for power in (last..=weight.max(0)).rev() {
            let place = weight - power;
            let group = if (0..count).contains(&place) {
                word(8 + 2 * place as usize).ok_or(broken)?
            } else {
                0
            };
            // Of the last group only some digits stand within the scale.
            let surplus = if power == last {
                scale.div_ceil(4) * 4 - scale
            } else {
                0
            };
            let next = digits.checked_mul(10_i128.pow(4 - surplus));
            let group = i128::from(group) / 10_i128.pow(surplus);
            let next = next.and_then(|digits| digits.checked_add(group));
            digits = next.ok_or(TOO_LONG)?;
        }
        Ok(Self {
            digits: if sign == 0x4000 { -digits } else { digits },
            scale,
        })
    }

    /// The digits of the same number with another scale, if it can be told
    /// exactly so, within this many digits.
    pub(super) fn digits_with(self, precision: u8, scale: i8) -> Result<i128, Reason> {
        let scale = u32::try_from(scale).unwrap_or(0);
        let digits = if self.scale <= scale {
            let more = 10_i128.checked_pow(scale - self.scale);
            more.and_then(|more| self.digits.checked_mul(more))
        } else {
            let Some(less) = 10_i128.checked_pow(self.scale - scale) else {
                return Err(TOO_LONG);
            };
            if self.digits % less != 0 {
                return Err("has more digits behind the point than the column can hold");
            }
            Some(self.digits / less)
        };
        let most = 10_u128.pow(u32::from(precision.min(DIGITS_MAX)));
        let fits = |digits: &i128| digits.unsigned_abs() < most;
        digits
            .filter(fits)
            .ok_or("has more digits before the point than the column can hold")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = self.digits.unsigned_abs().to_string();
        let scale = self.scale as usize;
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_exact_numbers_and_back() {
        for text in [
            "0",
            "-1",
            "12.50",
            "-0.001",
            "99999999999999999999999999999999999999",
        ] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "-", ".", "1e5", "1,5", "NaN", &"9".repeat(40)] {
            assert!(Decimal::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_form_of_postgresql_is_read() {
        // As `select numeric_send(…)` shows them.
        for (bytes, text) in [
            (&[0, 0, 0, 0, 0, 0, 0, 0][..], "0"),
            (&[0, 0, 0, 0, 0, 0, 0, 2], "0.00"),
            (&[0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x13, 0x88], "12.50"),
            (&[0, 1, 0xFF, 0xFF, 0x40, 0, 0, 3, 0, 10], "-0.001"),
            (&[0, 1, 0, 2, 0, 0, 0, 0, 0, 1], "100000000"),
            (&[0, 1, 0xFF, 0xFE, 0, 0, 0, 8, 0, 1], "0.00000001"),
            (
                // 38 digits, which stand in eleven groups of four.
                &[
                    0, 11, 0, 9, 0, 0, 0, 1, 0, 9, 39, 15, 39, 15, 39, 15, 39, 15, 39, 15, 39, 15,
                    39, 15, 39, 15, 39, 15, 0x23, 0x28,
                ],
                "9999999999999999999999999999999999999.9",
            ),
        ] {
            assert_eq!(Decimal::from_postgres(bytes).unwrap().to_string(), text);
        }
        assert!(Decimal::from_postgres(&[0, 0, 0, 0, 0xC0, 0, 0, 0]).is_err());
        assert!(Decimal::from_postgres(&[0, 1]).is_err());
    }

    #[test]
    fn another_scale_loses_nothing_or_is_refused() {
        let number = Decimal::parse("12.50").unwrap();
        assert_eq!(number.digits_with(38, 9), Ok(12_500_000_000));
        assert_eq!(number.digits_with(3, 1), Ok(125));
        assert!(number.digits_with(38, 0).is_err());
        assert!(number.digits_with(3, 2).is_err());
        assert_eq!(number.digits_with(4, 2), Ok(1250));
        let long = Decimal::parse(&"9".repeat(38)).unwrap();
        assert!(long.digits_with(38, 1).is_err());
    }
}
