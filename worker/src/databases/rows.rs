//! The rows of a table on their way into a database.

use std::ops::Range;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Date64Type, Decimal128Type, FieldRef, Float16Type, Float32Type,
        Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, Time32MillisecondType,
        Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};

use super::{
    cell::Cell,
    decimal::Decimal,
    error::{DatabaseError, Place},
    kind::Kind,
};

/// The names of the columns of rows and what they hold.
pub(super) fn columns(schema: &SchemaRef) -> Result<Vec<(String, Kind)>, DatabaseError> {
    let fields = schema.fields();
    if fields.is_empty() {
        let message = "the table has no columns, so there is nothing to load";
        return Err(DatabaseError::refused("no_columns", message));
    }
    let column = |field: &FieldRef| {
        let kind = Kind::of_column(field.data_type()).ok_or_else(|| {
            let message = format!(
                "column `{}` is of the type {}, which no database has: cast it in a `sql` step",
                field.name(),
                field.data_type()
            );
            DatabaseError::refused("unsupported_type", message)
        })?;
        Ok((field.name().clone(), kind))
    };
    fields.iter().map(column).collect()
}

/// Where the keys stand among the columns.
pub(super) fn key_places(schema: &SchemaRef, keys: &[String]) -> Result<Vec<usize>, DatabaseError> {
    let place = |key: &String| {
        schema.index_of(key).map_err(|_| {
            let message = format!("the table has no column `{key}`, which `keys` names");
            DatabaseError::refused("unknown_column", message)
        })
    };
    keys.iter().map(place).collect()
}

/// Fails where a key has no value: it would be told apart from every other. The
/// batch comes behind so many rows.
pub(super) fn check_keys(
    batch: &RecordBatch,
    places: &[usize],
    before: u64,
) -> Result<(), DatabaseError> {
    for place in places {
        let column = batch.column(*place);
        if column.logical_null_count() > 0 {
            let nulls = column.logical_nulls();
            let row = nulls.and_then(|nulls| nulls.iter().position(|is_there| !is_there));
            let schema = batch.schema();
            let place = Place {
                column: schema.field(*place).name(),
                row: before + row.unwrap_or_default() as u64 + 1,
            };
            return Err(DatabaseError::value("no_key", place, "a key has no value"));
        }
    }
    Ok(())
}

/// The rows of one piece of a table.
pub(super) struct Rows {
    columns: Vec<ArrayRef>,
    count: usize,
}

impl Rows {
    /// The rows of `batch`.
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, DatabaseError> {
        let plain = |column: &ArrayRef| match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values),
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                cast(column, &DataType::Decimal128(*precision, *scale))
            }
            _ => Ok(ArrayRef::clone(column)),
        };
        let columns = batch.columns().iter().map(plain);
        let columns = columns
            .collect::<Result<_, _>>()
            .map_err(|error| DatabaseError::refused("unsupported_type", error.to_string()))?;
        Ok(Self {
            columns,
            count: batch.num_rows(),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The values of a row, or the column and the reason where there is one
    /// that no database can hold.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = Result<Cell<'_>, &'static str>> {
        self.columns.iter().map(move |column| cell(column, row))
    }
}

fn cell(array: &dyn Array, row: usize) -> Result<Cell<'_>, &'static str> {
    if array.is_null(row) {
        return Ok(Cell::Null);
    }
    let integer = |value: i64| Ok(Cell::Integer(value));
    match array.data_type() {
        DataType::Null => Ok(Cell::Null),
        DataType::Boolean => Ok(Cell::Boolean(array.as_boolean().value(row))),
        DataType::Int8 => integer(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => integer(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => integer(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => integer(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => integer(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => integer(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => integer(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Ok(Cell::Natural(array.as_primitive::<UInt64Type>().value(row))),
        DataType::Float16 => {
            let value = array.as_primitive::<Float16Type>().value(row);
            Ok(Cell::Single(value.to_f32()))
        }
        DataType::Float32 => Ok(Cell::Single(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => Ok(Cell::Double(array.as_primitive::<Float64Type>().value(row))),
        DataType::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>().value(row);
            decimal(digits, *scale)
        }
        DataType::Utf8 => text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(array.as_string_view().value(row)),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => Ok(Cell::Date(array.as_primitive::<Date32Type>().value(row))),
        DataType::Date64 => {
            let days = array
                .as_primitive::<Date64Type>()
                .value(row)
                .div_euclid(86_400_000);
            let days = i32::try_from(days).map_err(|_| "is no day of the calendar")?;
            Ok(Cell::Date(days))
        }
        DataType::Time32(_) | DataType::Time64(_) => time(array, row),
        DataType::Timestamp(unit, zone) => {
            let microseconds = moment(array, *unit, row)?;
            let is_utc = zone.is_some();
            Ok(Cell::Moment {
                microseconds,
                is_utc,
            })
        }
        _ => nested(array, row),
    }
}

fn text(text: &str) -> Result<Cell<'_>, &'static str> {
    Ok(Cell::Text(text.into()))
}

fn bytes(bytes: &[u8]) -> Result<Cell<'_>, &'static str> {
    Ok(Cell::Bytes(bytes.into()))
}

fn decimal(digits: i128, scale: i8) -> Result<Cell<'static>, &'static str> {
    let number = match u32::try_from(scale) {
        Ok(scale) => Decimal { digits, scale },
        Err(_) => {
            let more = 10_i128.checked_pow(u32::from(scale.unsigned_abs()));
            let digits = more.and_then(|more| digits.checked_mul(more));
            Decimal {
                digits: digits.ok_or("has more than 38 digits")?,
                scale: 0,
            }
        }
    };
    Ok(Cell::Decimal(number))
}

/// A time of day. Finer fractions of a second than microseconds are cut off.
fn time(array: &dyn Array, row: usize) -> Result<Cell<'_>, &'static str> {
    let microseconds = match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            i64::from(array.as_primitive::<Time32SecondType>().value(row)) * 1_000_000
        }
        DataType::Time32(_) => {
            i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            array.as_primitive::<Time64MicrosecondType>().value(row)
        }
        _ => array.as_primitive::<Time64NanosecondType>().value(row) / 1_000,
    };
    Ok(Cell::Time(microseconds))
}

/// A moment in microseconds. Finer fractions of a second are cut off.
fn moment(array: &dyn Array, unit: TimeUnit, row: usize) -> Result<i64, &'static str> {
    let microseconds = match unit {
        TimeUnit::Second => {
            let seconds = array.as_primitive::<TimestampSecondType>().value(row);
            seconds.checked_mul(1_000_000)
        }
        TimeUnit::Millisecond => {
            let milliseconds = array.as_primitive::<TimestampMillisecondType>().value(row);
            milliseconds.checked_mul(1_000)
        }
        TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        TimeUnit::Nanosecond => {
            let nanoseconds = array.as_primitive::<TimestampNanosecondType>().value(row);
            Some(nanoseconds.div_euclid(1_000))
        }
    };
    microseconds.ok_or("is no moment of the calendar")
}

fn nested(array: &dyn Array, row: usize) -> Result<Cell<'_>, &'static str> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let ends = list.value_offsets();
            items(list.values(), ends[row] as usize..ends[row + 1] as usize)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let ends = list.value_offsets();
            items(list.values(), ends[row] as usize..ends[row + 1] as usize)
        }
        DataType::FixedSizeList(_, length) => {
            let length = *length as usize;
            let list = array.as_fixed_size_list();
            items(list.values(), row * length..(row + 1) * length)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members = fields.iter().zip(columns).map(|(field, column)| {
                let value = cell(column, row)?;
                Ok((field.name().as_str(), value))
            });
            Ok(Cell::Object(members.collect::<Result<_, &'static str>>()?))
        }
        _ => Err("is of a type that no database has"),
    }
}

fn items(values: &ArrayRef, places: Range<usize>) -> Result<Cell<'_>, &'static str> {
    let items = places.map(|place| cell(values, place));
    Ok(Cell::List(items.collect::<Result<_, _>>()?))
}
