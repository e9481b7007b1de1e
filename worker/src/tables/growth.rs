//! How much functions make of what they are given, guessed from above.

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray},
        compute::cast,
        datatypes::{DataType, Int64Type, IntervalMonthDayNanoType},
    },
    logical_expr::ColumnarValue,
};

/// The most bytes of a character.
const CHARACTER_BYTES: u64 = 4;

/// The bytes of a number or moment in a list.
const ITEM_BYTES: u64 = 8;

/// How the size of a result follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// A text so many times.
    Repeat,
    /// A text of so many characters.
    Pad,
    /// A text with another one in the place of each find.
    Replace,
    /// Texts with another one between them.
    Join,
    /// The texts of a list with another one between them.
    JoinList,
    /// A list of so many times the same.
    ListRepeat,
    /// A list of another length.
    ListResize,
    /// The numbers or moments from one to another.
    Series,
    /// All arguments together.
    Sum,
}

impl Growth {
    /// How many bytes the result for `rows` rows may have.
    pub(super) fn bytes(self, args: &[ColumnarValue], rows: usize) -> u64 {
        let args: Vec<Argument> = args.iter().map(Argument::of).collect();
        let rows = (0..rows).map(|row| self.row_bytes(&args, row));
        rows.fold(0, u64::saturating_add)
    }

    fn row_bytes(self, args: &[Argument], row: usize) -> u64 {
        let size = |place: usize| args.get(place).map_or(0, |arg| arg.size(row));
        let number = |place: usize| args.get(place).map_or(0, |arg| arg.number(row));
        let all = || (0..args.len()).map(size).fold(0, u64::saturating_add);
        match self {
            Self::Repeat => size(0).saturating_mul(number(1)),
            Self::Pad => number(1).saturating_mul(CHARACTER_BYTES),
            // What is found may be nothing, between any two characters, and
            // a pattern may put what it has found into the new text.
            Self::Replace => {
                let new = size(2).saturating_mul(size(0) / size(1).max(1) + 1);
                let captured = size(0).saturating_mul(size(2) / 2);
                size(0).saturating_add(new).saturating_add(captured)
            }
            Self::Join => all().saturating_add(size(0).saturating_mul(args.len() as u64)),
            Self::JoinList => size(0).saturating_add(
                size(1)
                    .saturating_add(size(2))
                    .saturating_mul(args.first().map_or(0, |list| list.items(row))),
            ),
            Self::ListRepeat => size(0).max(ITEM_BYTES).saturating_mul(number(1)),
            Self::ListResize => size(2).max(ITEM_BYTES).saturating_mul(number(1)),
            Self::Series => series(args, row).saturating_mul(ITEM_BYTES),
            Self::Sum => all(),
        }
    }
}

/// An argument of a function: a column, or one value for all rows.
struct Argument {
    array: Option<ArrayRef>,
    /// The values as numbers, where they are whole ones.
    numbers: Option<ArrayRef>,
    is_scalar: bool,
}

impl Argument {
    fn of(value: &ColumnarValue) -> Self {
        let (array, is_scalar) = match value {
            ColumnarValue::Array(array) => (Some(array.clone()), false),
            ColumnarValue::Scalar(value) => (value.to_array().ok(), true),
        };
        let as_numbers = |array: &ArrayRef| match array.data_type() {
            kind if kind.is_integer() => cast(array, &DataType::Int64).ok(),
            DataType::Date32 => {
                let days = cast(array, &DataType::Date64).ok()?;
                cast(&days, &DataType::Int64).ok()
            }
            DataType::Timestamp(..) => cast(array, &DataType::Int64).ok(),
            _ => None,
        };
        Self {
            numbers: array.as_ref().and_then(as_numbers),
            array,
            is_scalar,
        }
    }

    fn place(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    /// Bytes of the value in a row.
    fn size(&self, row: usize) -> u64 {
        let row = self.place(row);
        self.array
            .as_ref()
            .map_or(0, |array| value_bytes(array, row))
    }

    /// The whole number in a row, where it is positive.
    fn number(&self, row: usize) -> u64 {
        u64::try_from(self.signed(row).unwrap_or(0)).unwrap_or(0)
    }

    fn signed(&self, row: usize) -> Option<i64> {
        let numbers = self.numbers.as_ref()?.as_primitive::<Int64Type>();
        let row = self.place(row);
        numbers.is_valid(row).then(|| numbers.value(row))
    }

    /// How many items the list in a row has.
    fn items(&self, row: usize) -> u64 {
        let row = self.place(row);
        let items = self.array.as_ref().and_then(|array| list_at(array, row));
        items.map_or(0, |items| items.len() as u64)
    }

    /// How long the interval in a row is at least, in the unit of the moments
    /// beside it.
    fn step(&self, row: usize, unit_ns: i128) -> Option<i128> {
        let array = self.array.as_ref()?;
        let intervals = array.as_primitive_opt::<IntervalMonthDayNanoType>()?;
        let interval = intervals.value(self.place(row));
        const DAY_NS: i128 = 24 * 3600 * 1_000_000_000;
        let days = i128::from(interval.months) * 28 + i128::from(interval.days);
        Some((days * DAY_NS + i128::from(interval.nanoseconds)) / unit_ns)
    }

    fn unit_ns(&self) -> i128 {
        use datafusion::arrow::datatypes::TimeUnit::{Microsecond, Nanosecond, Second};
        match self.array.as_ref().map(|array| array.data_type()) {
            Some(DataType::Timestamp(Nanosecond, _)) => 1,
            Some(DataType::Timestamp(Microsecond, _)) => 1_000,
            Some(DataType::Timestamp(Second, _)) => 1_000_000_000,
            _ => 1_000_000,
        }
    }
}

/// How many items a series has.
fn series(args: &[Argument], row: usize) -> u64 {
    let (start, stop) = match args {
        [stop] => (Some(0), stop.signed(row)),
        [start, stop, ..] => (start.signed(row), stop.signed(row)),
        [] => return 0,
    };
    let (Some(start), Some(stop)) = (start, stop) else {
        return 0;
    };
    let distance = (i128::from(stop) - i128::from(start)).abs();
    let step = args.get(2).map_or(Some(1), |step| {
        let number = step.signed(row).map(i128::from);
        number.or_else(|| step.step(row, args[0].unit_ns()))
    });
    let step = step.unwrap_or(1).abs().max(1);
    u64::try_from(distance / step + 1).unwrap_or(u64::MAX)
}

/// The list in a row of `array`, if it is one.
fn list_at(array: &ArrayRef, row: usize) -> Option<ArrayRef> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => Some(array.as_fixed_size_list().value(row)),
        _ => None,
    }
}

fn value_bytes(array: &ArrayRef, row: usize) -> u64 {
    if array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len() as u64,
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len() as u64,
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        DataType::Binary => array.as_binary::<i32>().value(row).len() as u64,
        DataType::LargeBinary => array.as_binary::<i64>().value(row).len() as u64,
        DataType::BinaryView => array.as_binary_view().value(row).len() as u64,
        _ => match list_at(array, row) {
            Some(items) => bytes_of(&items),
            None => ITEM_BYTES,
        },
    }
}

/// How many bytes the values of `array` have.
pub(super) fn bytes_of(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8View => {
            let lengths = array.as_string_view().lengths();
            lengths.map(u64::from).sum()
        }
        DataType::BinaryView => {
            let lengths = array.as_binary_view().lengths();
            lengths.map(u64::from).sum()
        }
        _ => array
            .to_data()
            .get_slice_memory_size()
            .unwrap_or(usize::MAX) as u64,
    }
}
