//! Values in the binary format of `COPY`, for the types that it is the same for
//! in every version of PostgreSQL. It spares both sides the way over texts.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT>
//! has the frame; the values stand as the `…_recv` function of their type reads
//! them.

use super::copy::{NO_DAY, NO_ZERO};
use crate::databases::{
    cell::{Cell, day, split_moment},
    decimal::Decimal,
    kind::Kind,
};

/// What the rows start with: the signature, no flags and nothing further.
pub(super) const START: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands behind the rows.
pub(super) const END: &[u8] = &(-1_i16).to_be_bytes();

/// Days and microseconds from 1970-01-01 to 2000-01-01, from which PostgreSQL
/// counts.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// The type of a column of PostgreSQL, and so the form of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
}

impl Target {
    /// The form of what a table holds in a column of the type `name`; none where
    /// it gets there as a text only.
    pub(super) fn of(kind: &Kind, name: &str) -> Option<Self> {
        Some(match (kind, name) {
            (Kind::Boolean, "BOOL") => Self::Boolean,
            (Kind::Integer { .. }, "INT2") => Self::Int2,
            (Kind::Integer { .. }, "INT4") => Self::Int4,
            (Kind::Integer { .. }, "INT8") => Self::Int8,
            (Kind::Single, "FLOAT4") => Self::Float4,
            (Kind::Single | Kind::Double, "FLOAT8") => Self::Float8,
            (Kind::Decimal { .. }, "NUMERIC") => Self::Numeric,
            (Kind::Text, "TEXT" | "VARCHAR") => Self::Text,
            (Kind::Bytes, "BYTEA") => Self::Bytes,
            (Kind::Date, "DATE") => Self::Date,
            (Kind::Time, "TIME") => Self::Time,
            (Kind::Moment { is_utc: true }, "TIMESTAMPTZ")
            | (Kind::Moment { is_utc: false }, "TIMESTAMP") => Self::Timestamp,
            _ => return None,
        })
    }

    /// Appends a value, or says why the column cannot hold it.
    pub(super) fn put(self, row: &mut Vec<u8>, cell: &Cell<'_>) -> Result<(), &'static str> {
        match (self, cell) {
            (_, Cell::Null) => row.extend((-1_i32).to_be_bytes()),
            (Self::Boolean, Cell::Boolean(value)) => field(row, &[u8::from(*value)]),
            (Self::Int2, Cell::Integer(value)) => {
                let value = i16::try_from(*value).map_err(|_| "does not fit into a smallint")?;
                field(row, &value.to_be_bytes());
            }
            (Self::Int4, Cell::Integer(value)) => {
                let value = i32::try_from(*value).map_err(|_| "does not fit into an integer")?;
                field(row, &value.to_be_bytes());
            }
            (Self::Int8, Cell::Integer(value)) => field(row, &value.to_be_bytes()),
            (Self::Int2 | Self::Int4 | Self::Int8, Cell::Natural(value)) => {
                let value = i64::try_from(*value).map_err(|_| "does not fit into a bigint")?;
                self.put(row, &Cell::Integer(value))?;
            }
            (Self::Float4, Cell::Single(value)) => field(row, &value.to_be_bytes()),
            (Self::Float8, Cell::Single(value)) => {
                // By its own digits, not by those of the nearest longer number.
                let value: f64 = value.to_string().parse().map_err(|_| NO_NUMBER)?;
                field(row, &value.to_be_bytes());
            }
            (Self::Float8, Cell::Double(value)) => field(row, &value.to_be_bytes()),
            (Self::Numeric, Cell::Decimal(value)) => numeric(row, *value),
            (Self::Text, Cell::Text(text)) => {
                if memchr::memchr(0, text.as_bytes()).is_some() {
                    return Err(NO_ZERO);
                }
                long_field(row, text.as_bytes())?;
            }
            (Self::Bytes, Cell::Bytes(bytes)) => long_field(row, bytes)?,
            (Self::Date, Cell::Date(days)) => {
                day(*days).ok_or(NO_DAY)?;
                field(row, &(days - EPOCH_DAYS).to_be_bytes());
            }
            (Self::Time, Cell::Time(microseconds)) => field(row, &microseconds.to_be_bytes()),
            (Self::Timestamp, Cell::Moment { microseconds, .. }) => {
                day(split_moment(*microseconds).0).ok_or(NO_DAY)?;
                field(row, &(microseconds - EPOCH_US).to_be_bytes());
            }
            _ => return Err("is of another type than its column"),
        }
        Ok(())
    }
}

const NO_NUMBER: &str = "is not a number";

fn field(row: &mut Vec<u8>, value: &[u8]) {
    row.extend((value.len() as u32).to_be_bytes());
    row.extend_from_slice(value);
}

fn long_field(row: &mut Vec<u8>, value: &[u8]) -> Result<(), &'static str> {
    // PostgreSQL has less room than that for one value.
    i32::try_from(value.len()).map_err(|_| "is larger than 2 GiB")?;
    field(row, value);
    Ok(())
}

/// Appends an exact number: four decimal digits at a time, of which those before
/// the point and those behind it are counted from there.
fn numeric(row: &mut Vec<u8>, value: Decimal) {
    const GROUP: u128 = 10_000;
    let absolute = value.digits.unsigned_abs();
    let unit = 10_u128.pow(value.scale);
    let (mut whole, mut fraction) = (absolute / unit, absolute % unit);
    let mut groups = Vec::new();
    while whole > 0 {
        groups.push((whole % GROUP) as u16);
        whole /= GROUP;
    }
    groups.reverse();
    let weight = groups.len() as i16 - 1;
    let mut left = value.scale;
    while left > 0 {
        let digits = left.min(4);
        let rest = 10_u128.pow(left - digits);
        let group = fraction / rest * 10_u128.pow(4 - digits);
        groups.push(group as u16);
        fraction %= rest;
        left -= digits;
    }
    let sign = if value.digits < 0 { 0x4000_u16 } else { 0 };
    row.extend((8 + 2 * groups.len() as u32).to_be_bytes());
    row.extend((groups.len() as u16).to_be_bytes());
    row.extend(weight.to_be_bytes());
    row.extend(sign.to_be_bytes());
    row.extend((value.scale as u16).to_be_bytes());
    for group in groups {
        row.extend(group.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_numbers_are_read_back_as_they_were() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "12.50",
            "-0.001",
            "10000",
            "100000000",
            "9999.9999",
            "0.00000001",
            "123456789.123456789",
            "99999999999999999999999999999999999999",
            "-9999999999999999999999999999999999999.9",
            "0.99999999999999999999999999999999999999",
        ] {
            let mut row = Vec::new();
            numeric(&mut row, Decimal::parse(text).unwrap());
            let length = u32::from_be_bytes(row[..4].try_into().unwrap());
            assert_eq!(length as usize, row.len() - 4, "{text}");
            assert_eq!(Decimal::from_postgres(&row[4..]).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_a_column_cannot_hold_is_refused() {
        for (target, cell) in [
            (Target::Int2, Cell::Integer(32_768)),
            (Target::Int4, Cell::Integer(-2_147_483_649)),
            (Target::Int8, Cell::Natural(1 << 63)),
            (Target::Text, Cell::Text("a\0".into())),
            (Target::Date, Cell::Date(i32::MIN + EPOCH_DAYS)),
            (Target::Date, Cell::Date(i32::MAX)),
            (Target::Boolean, Cell::Integer(1)),
        ] {
            let mut row = Vec::new();
            assert!(target.put(&mut row, &cell).is_err(), "{target:?} {cell:?}");
            assert!(row.is_empty());
        }
    }

    #[test]
    fn days_and_moments_count_from_2000() {
        let mut row = Vec::new();
        Target::Date.put(&mut row, &Cell::Date(10_957)).unwrap();
        let moment = Cell::Moment {
            microseconds: EPOCH_US + 1,
            is_utc: true,
        };
        Target::Timestamp.put(&mut row, &moment).unwrap();
        assert_eq!(
            row,
            [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]
        );
    }
}
