//! A column under construction, filled with what a database answers.

use std::{mem, sync::Arc};

use datafusion::arrow::{
    array::{
        ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
        Float64Builder, Int64Builder, ListArray, StringBuilder, Time64MicrosecondBuilder,
        TimestampMicrosecondBuilder, UInt64Builder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{DataType, Field},
};

use super::{cell::Cell, decimal::Decimal, kind::Kind};

/// A column under construction.
pub(super) struct Column {
    kind: Kind,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Natural(UInt64Builder),
    Single(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
    List {
        items: Box<Column>,
        ends: Vec<i32>,
        are_there: Vec<bool>,
        count: i32,
    },
    /// So many values that are none, and no other yet.
    Open(usize),
}

impl Column {
    /// An empty column.
    pub(super) fn new(kind: Kind) -> Self {
        let data_type = kind.data_type();
        let values = match &kind {
            Kind::Boolean => Values::Boolean(BooleanBuilder::new()),
            Kind::Integer {
                bits: 64,
                is_signed: false,
            } => Values::Natural(UInt64Builder::new()),
            Kind::Integer { .. } => Values::Integer(Int64Builder::new()),
            Kind::Single => Values::Single(Float32Builder::new()),
            Kind::Double => Values::Double(Float64Builder::new()),
            Kind::Decimal { .. } => {
                Values::Decimal(Decimal128Builder::new().with_data_type(data_type))
            }
            Kind::Text | Kind::Uuid | Kind::Object => Values::Text(StringBuilder::new()),
            Kind::Bytes => Values::Bytes(BinaryBuilder::new()),
            Kind::Date => Values::Date(Date32Builder::new()),
            Kind::Time => Values::Time(Time64MicrosecondBuilder::new()),
            Kind::Moment { .. } => {
                Values::Moment(TimestampMicrosecondBuilder::new().with_data_type(data_type))
            }
            Kind::List(item) => Values::List {
                items: Box::new(Self::new((**item).clone())),
                ends: vec![0],
                are_there: Vec::new(),
                count: 0,
            },
            Kind::Open(_) => Values::Open(0),
        };
        Self { kind, values }
    }

    /// The type of the finished column. It is settled with the first value.
    pub(super) fn data_type(&self) -> DataType {
        self.kind.data_type()
    }

    /// Makes up its mind where no value has done so.
    pub(super) fn settle(&mut self) {
        if let (Kind::Open(otherwise), Values::Open(nulls)) = (&self.kind, &self.values) {
            let nulls = *nulls;
            *self = Self::new((**otherwise).clone());
            for _ in 0..nulls {
                self.push_null();
            }
        }
    }

    /// Appends a value, or says why it cannot be carried, to be read behind the
    /// name of the column.
    pub(super) fn push(&mut self, cell: Cell<'_>) -> Result<(), String> {
        if let (Values::Open(nulls), false) = (&self.values, cell == Cell::Null) {
            let nulls = *nulls;
            *self = Self::new(kind_of(&cell));
            for _ in 0..nulls {
                self.push_null();
            }
        }
        if cell == Cell::Null {
            self.push_null();
            return Ok(());
        }
        match (&mut self.values, cell) {
            (Values::Boolean(column), Cell::Boolean(value)) => column.append_value(value),
            (Values::Integer(column), Cell::Integer(value)) => column.append_value(value),
            (Values::Natural(column), Cell::Natural(value)) => column.append_value(value),
            (Values::Single(column), Cell::Single(value)) if value.is_finite() => {
                column.append_value(value);
            }
            (Values::Double(column), Cell::Double(value)) if value.is_finite() => {
                column.append_value(value);
            }
            (_, Cell::Single(value)) if !value.is_finite() => {
                return Err(format!("{value} is not a finite number"));
            }
            (_, Cell::Double(value)) if !value.is_finite() => {
                return Err(format!("{value} is not a finite number"));
            }
            (Values::Decimal(column), Cell::Decimal(value)) => {
                column.append_value(digits(&self.kind, value)?);
            }
            (Values::Text(column), Cell::Text(text)) => column.append_value(text),
            (Values::Bytes(column), Cell::Bytes(bytes)) => column.append_value(bytes),
            (Values::Date(column), Cell::Date(days)) => column.append_value(days),
            (Values::Time(column), Cell::Time(microseconds)) => column.append_value(microseconds),
            (Values::Moment(column), Cell::Moment { microseconds, .. }) => {
                column.append_value(microseconds);
            }
            (
                Values::List {
                    items,
                    ends,
                    are_there,
                    count,
                },
                Cell::List(cells),
            ) => {
                *count = i32::try_from(cells.len())
                    .ok()
                    .and_then(|more| count.checked_add(more))
                    .ok_or("the lists have too many items")?;
                for cell in cells {
                    items.push(cell)?;
                }
                ends.push(*count);
                are_there.push(true);
            }
            (_, cell) => return Err(self.differs(&cell)),
        }
        Ok(())
    }

    fn differs(&self, cell: &Cell<'_>) -> String {
        format!(
            "a value of the type {} stands in a column of the type {}: cast it in the query",
            kind_of(cell).data_type(),
            self.data_type()
        )
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(column) => column.append_null(),
            Values::Integer(column) => column.append_null(),
            Values::Natural(column) => column.append_null(),
            Values::Single(column) => column.append_null(),
            Values::Double(column) => column.append_null(),
            Values::Decimal(column) => column.append_null(),
            Values::Text(column) => column.append_null(),
            Values::Bytes(column) => column.append_null(),
            Values::Date(column) => column.append_null(),
            Values::Time(column) => column.append_null(),
            Values::Moment(column) => column.append_null(),
            Values::List {
                ends,
                are_there,
                count,
                ..
            } => {
                ends.push(*count);
                are_there.push(false);
            }
            Values::Open(nulls) => *nulls += 1,
        }
    }

    /// What was appended so far; the column is empty then.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, String> {
        self.settle();
        let wanted = self.data_type();
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(column) => Arc::new(column.finish()),
            // Its database has seen to it that it fits into fewer bits.
            Values::Integer(column) => {
                cast(&column.finish(), &wanted).map_err(|error| error.to_string())?
            }
            Values::Natural(column) => Arc::new(column.finish()),
            Values::Single(column) => Arc::new(column.finish()),
            Values::Double(column) => Arc::new(column.finish()),
            Values::Decimal(column) => Arc::new(column.finish()),
            Values::Text(column) => Arc::new(column.finish()),
            Values::Bytes(column) => Arc::new(column.finish()),
            Values::Date(column) => Arc::new(column.finish()),
            Values::Time(column) => Arc::new(column.finish()),
            Values::Moment(column) => Arc::new(column.finish()),
            Values::List {
                items,
                ends,
                are_there,
                count,
            } => {
                *count = 0;
                let field = Arc::new(Field::new_list_field(items.data_type(), true));
                let ends = OffsetBuffer::new(mem::replace(ends, vec![0]).into());
                let are_there = NullBuffer::from(mem::take(are_there));
                let list = ListArray::try_new(field, ends, items.finish()?, Some(are_there));
                Arc::new(list.map_err(|error| error.to_string())?)
            }
            Values::Open(_) => return Err("the column has no type".to_owned()),
        };
        Ok(array)
    }
}

fn digits(kind: &Kind, value: Decimal) -> Result<i128, String> {
    let Kind::Decimal { precision, scale } = kind else {
        return Err("the column holds no decimals".to_owned());
    };
    value.digits_with(*precision, *scale).map_err(|reason| {
        format!("{value} {reason}, which are {precision} digits, {scale} of them behind the point: round or cast it in the query")
    })
}

/// What a column holds whose first value this is.
fn kind_of(cell: &Cell<'_>) -> Kind {
    match cell {
        Cell::Null | Cell::Text(_) | Cell::Object(_) => Kind::Text,
        Cell::Boolean(_) => Kind::Boolean,
        Cell::Integer(_) => Kind::INTEGER,
        Cell::Natural(_) => Kind::Integer {
            bits: 64,
            is_signed: false,
        },
        Cell::Single(_) => Kind::Single,
        Cell::Double(_) => Kind::Double,
        Cell::Decimal(value) => match i8::try_from(value.scale) {
            Ok(scale @ 0..=38) => Kind::Decimal {
                precision: super::decimal::DIGITS_MAX,
                scale,
            },
            _ => Kind::OPEN_DECIMAL,
        },
        Cell::Bytes(_) => Kind::Bytes,
        Cell::Date(_) => Kind::Date,
        Cell::Time(_) => Kind::Time,
        Cell::Moment { is_utc, .. } => Kind::Moment { is_utc: *is_utc },
        Cell::List(items) => Kind::List(Box::new(items.first().map_or(Kind::Text, kind_of))),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Array;

    use super::*;

    #[test]
    fn an_open_column_takes_the_type_of_its_first_value() {
        let mut column = Column::new(Kind::Open(Box::new(Kind::Text)));
        column.push(Cell::Null).unwrap();
        column.push(Cell::Integer(7)).unwrap();
        let error = column.push(Cell::Double(1.5)).unwrap_err();
        assert!(
            error.contains("Float64") && error.contains("Int64"),
            "{error}"
        );
        let array = column.finish().unwrap();
        assert_eq!((array.data_type(), array.len()), (&DataType::Int64, 2));
        assert_eq!(array.null_count(), 1);

        let mut column = Column::new(Kind::Open(Box::new(Kind::Text)));
        column.push(Cell::Null).unwrap();
        assert_eq!(column.finish().unwrap().data_type(), &DataType::Utf8);
    }

    #[test]
    fn what_cannot_be_carried_says_why() {
        let mut column = Column::new(Kind::Double);
        assert!(column.push(Cell::Double(f64::NAN)).is_err());
        let mut column = Column::new(Kind::OPEN_DECIMAL);
        let long = Decimal::parse("1.0000000001").unwrap();
        let error = column.push(Cell::Decimal(long)).unwrap_err();
        assert!(
            error.starts_with("1.0000000001 has more digits behind"),
            "{error}"
        );
    }

    #[test]
    fn lists_keep_their_nulls() {
        let kind = Kind::List(Box::new(Kind::Integer {
            bits: 16,
            is_signed: true,
        }));
        let mut column = Column::new(kind);
        for _ in 0..2 {
            let list = Cell::List(vec![Cell::Integer(1), Cell::Null]);
            for cell in [list, Cell::Null, Cell::List(Vec::new())] {
                column.push(cell).unwrap();
            }
            let array = column.finish().unwrap();
            assert_eq!((array.len(), array.null_count()), (3, 1));
        }
    }
}
