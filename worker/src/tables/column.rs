//! A column under construction, filled with texts.

use std::{mem, sync::Arc};

use datafusion::arrow::{
    array::{
        ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
        StringBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, TimeUnit},
    json::reader::{Decoder, ReaderBuilder},
};
use millstream_shared::flow::step::ColumnType;
use serde_json::Value;

use super::value;

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ColumnKind {
    /// Single values.
    Plain(ColumnType),
    /// Lists or objects, which come as JSON.
    Nested(DataType),
}

impl ColumnKind {
    /// The type of the finished column.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Nested(data_type) => data_type.clone(),
            Self::Plain(column_type) => plain_type(*column_type),
        }
    }
}

/// How single values of a type are kept.
pub(super) fn plain_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::String => DataType::Utf8,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Number => DataType::Float64,
        ColumnType::Decimal => {
            DataType::Decimal128(value::DECIMAL_DIGITS as u8, value::DECIMAL_SCALE as i8)
        }
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
        ColumnType::Datetime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// A column whose values must fit, and are not kept.
pub(super) struct Checked(pub(super) ColumnType);

impl Checked {
    /// Says what `text` is not.
    pub(super) fn check(&self, text: &str) -> Result<(), value::Reason> {
        match self.0 {
            ColumnType::String => Ok(()),
            ColumnType::Integer => value::integer(text).map(drop),
            ColumnType::Number => value::number(text).map(drop),
            ColumnType::Decimal => value::decimal(text).map(drop),
            ColumnType::Boolean => value::boolean(text).map(drop),
            ColumnType::Date => value::date(text).map(drop),
            ColumnType::Datetime => value::datetime(text).map(drop),
        }
    }
}

/// For how much a column makes room beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The most values that it gets.
    pub(super) rows: usize,
    /// About how many bytes of text.
    pub(super) text: usize,
}

/// A column under construction.
pub(super) enum Column {
    Text(StringBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Decimal(Decimal128Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Datetime(TimestampMicrosecondBuilder),
    Nested {
        decoder: Box<Decoder>,
        values: Vec<Value>,
    },
}

impl Column {
    /// An empty column with room for what it gets before it is finished.
    pub(super) fn new(kind: &ColumnKind, room: Room) -> Result<Self, String> {
        let data_type = kind.data_type();
        let column_type = match kind {
            ColumnKind::Plain(column_type) => *column_type,
            ColumnKind::Nested(_) => {
                let decoder = ReaderBuilder::new_with_field(Field::new("value", data_type, true))
                    .with_batch_size(room.rows)
                    .with_coerce_primitive(true)
                    .build_decoder()
                    .map_err(|error| error.to_string())?;
                let (decoder, values) = (Box::new(decoder), Vec::new());
                return Ok(Self::Nested { decoder, values });
            }
        };
        Ok(match column_type {
            ColumnType::String => Self::Text(StringBuilder::with_capacity(room.rows, room.text)),
            ColumnType::Integer => Self::Integer(Int64Builder::with_capacity(room.rows)),
            ColumnType::Number => Self::Number(Float64Builder::with_capacity(room.rows)),
            ColumnType::Decimal => {
                Self::Decimal(Decimal128Builder::with_capacity(room.rows).with_data_type(data_type))
            }
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(room.rows)),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(room.rows)),
            ColumnType::Datetime => Self::Datetime(
                TimestampMicrosecondBuilder::with_capacity(room.rows).with_data_type(data_type),
            ),
        })
    }

    /// Appends the value that `text` stands for, or says what it is not.
    pub(super) fn push(&mut self, text: &str) -> Result<(), value::Reason> {
        match self {
            Self::Text(column) => column.append_value(text),
            Self::Integer(column) => column.append_value(value::integer(text)?),
            Self::Number(column) => column.append_value(value::number(text)?),
            Self::Decimal(column) => column.append_value(value::decimal(text)?),
            Self::Boolean(column) => column.append_value(value::boolean(text)?),
            Self::Date(column) => column.append_value(value::date(text)?),
            Self::Datetime(column) => column.append_value(value::datetime(text)?),
            Self::Nested { values, .. } => {
                values.push(serde_json::from_str(text).map_err(|_| "is not JSON")?);
            }
        }
        Ok(())
    }

    /// Appends a missing value.
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Text(column) => column.append_null(),
            Self::Integer(column) => column.append_null(),
            Self::Number(column) => column.append_null(),
            Self::Decimal(column) => column.append_null(),
            Self::Boolean(column) => column.append_null(),
            Self::Date(column) => column.append_null(),
            Self::Datetime(column) => column.append_null(),
            Self::Nested { values, .. } => values.push(Value::Null),
        }
    }

    /// Takes the values out; the column is empty again.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(match self {
            Self::Text(column) => Arc::new(column.finish()),
            Self::Integer(column) => Arc::new(column.finish()),
            Self::Number(column) => Arc::new(column.finish()),
            Self::Decimal(column) => Arc::new(column.finish()),
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Date(column) => Arc::new(column.finish()),
            Self::Datetime(column) => Arc::new(column.finish()),
            Self::Nested { decoder, values } => {
                let values = mem::take(values);
                let batch = decoder.serialize(&values).and_then(|()| decoder.flush());
                let batch = batch.map_err(|error| error.to_string())?;
                let batch = batch.ok_or("a list or object has no rows")?;
                Arc::clone(batch.column(0))
            }
        })
    }
}
