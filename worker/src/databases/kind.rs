//! What a column of a database and one of a table have in common.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};

use super::decimal::{DIGITS_MAX, OPEN_SCALE};

/// What a column holds, whatever its database calls it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Boolean,
    /// A whole number of this many bits, with a sign or without.
    Integer {
        bits: u8,
        is_signed: bool,
    },
    Single,
    Double,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    /// A UUID, which is text in a table.
    Uuid,
    Bytes,
    Date,
    Time,
    Moment {
        is_utc: bool,
    },
    List(Box<Kind>),
    /// What has members: JSON in a database.
    Object,
    /// The database does not say; the first value does. Without one, this.
    Open(Box<Kind>),
}

impl Kind {
    /// A whole number of 64 bits.
    pub(super) const INTEGER: Self = Self::Integer {
        bits: 64,
        is_signed: true,
    };

    /// An exact number whose database does not say how many digits it has.
    pub(super) const OPEN_DECIMAL: Self = Self::Decimal {
        precision: DIGITS_MAX,
        scale: OPEN_SCALE,
    };

    /// What a column of a table holds; none where no database has the like.
    pub(super) fn of_column(data_type: &DataType) -> Option<Self> {
        let integer = |bits, is_signed| Self::Integer { bits, is_signed };
        Some(match data_type {
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text
            }
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => integer(8, true),
            DataType::Int16 => integer(16, true),
            DataType::Int32 => integer(32, true),
            DataType::Int64 => integer(64, true),
            DataType::UInt8 => integer(8, false),
            DataType::UInt16 => integer(16, false),
            DataType::UInt32 => integer(32, false),
            DataType::UInt64 => integer(64, false),
            DataType::Float16 | DataType::Float32 => Self::Single,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => Self::Decimal {
                precision: *precision,
                scale: *scale,
            },
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, zone) => Self::Moment {
                is_utc: zone.is_some(),
            },
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Self::List(Box::new(Self::of_column(item.data_type())?))
            }
            DataType::Struct(fields) => {
                for field in fields {
                    Self::of_column(field.data_type())?;
                }
                Self::Object
            }
            DataType::Dictionary(_, values) => Self::of_column(values)?,
            _ => return None,
        })
    }

    /// The type of a column of a table that is made of it.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer { bits, is_signed } => match (bits, is_signed) {
                (8, true) => DataType::Int8,
                (16, true) => DataType::Int16,
                (32, true) => DataType::Int32,
                (_, true) => DataType::Int64,
                (8, false) => DataType::UInt8,
                (16, false) => DataType::UInt16,
                (32, false) => DataType::UInt32,
                (_, false) => DataType::UInt64,
            },
            Self::Single => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Uuid | Self::Object => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Moment { is_utc } => {
                DataType::Timestamp(TimeUnit::Microsecond, is_utc.then(|| "UTC".into()))
            }
            Self::List(item) => {
                DataType::List(Arc::new(Field::new_list_field(item.data_type(), true)))
            }
            Self::Open(otherwise) => otherwise.data_type(),
        }
    }
}
