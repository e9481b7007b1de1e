//! A table as a workbook of one sheet.

use std::path::Path;

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use datafusion::arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
        TimestampMillisecondArray,
    },
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, SchemaRef, TimeUnit},
};
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::cell::Cell;
use crate::tables::{
    TableError,
    error::Shown,
    read::Work,
    write::{Output, Rows, unwritable},
};

/// What programs for workbooks can hold.
const ROWS_MAX: u64 = 1_048_576;
const COLUMNS_MAX: usize = 16_384;
const TEXT_CHARS_MAX: usize = 32_767;
/// The digits that they keep of a number.
const DIGITS_MAX: usize = 15;
const YEARS: std::ops::RangeInclusive<i32> = 1900..=9999;

/// Writes the rows as one sheet, where they wait in `folder` and not in memory.
pub(in crate::tables) fn write(
    rows: &mut Rows<'_>,
    folder: &Path,
    output: Output<'_>,
    work: &Work,
) -> Result<(), TableError> {
    let schema = rows.schema().clone();
    check(&schema)?;
    let mut workbook = Workbook::new();
    workbook.set_tempdir(folder).map_err(failed)?;
    // The same table is the same file, whenever it is written.
    let created = ExcelDateTime::from_ymd(2000, 1, 1).map_err(failed)?;
    let properties = DocProperties::new().set_creation_datetime(&created);
    workbook.set_properties(&properties);
    let sheet = workbook.add_worksheet_with_constant_memory();
    let sheet = sheet.map_err(failed)?;
    let formats = Formats {
        day: Format::new().set_num_format("yyyy-mm-dd"),
        moment: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss.000"),
    };
    let fields = schema.fields();
    for (column, field) in fields.iter().enumerate() {
        let written = sheet.write_string(0, column as u16, field.name());
        written.map_err(failed)?;
    }
    let mut row = 0;
    while let Some(batch) = rows.next(work)? {
        if u64::from(row) + batch.num_rows() as u64 >= ROWS_MAX {
            return Err(unwritable(format!(
                "a sheet has at most {ROWS_MAX} rows, one of them for the names, and the table has more; write CSV or Parquet"
            )));
        }
        let columns = batch.columns().iter().zip(fields);
        let columns = columns.map(|(column, field)| {
            Cells::of(column).map_err(|error| named(field.name(), row + 1, &error))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for index in 0..batch.num_rows() {
            row += 1;
            for (column, cells) in columns.iter().enumerate() {
                let written = cells.write(sheet, (row, column as u16), index, &formats);
                written.map_err(|reason| named(fields[column].name(), row, &reason))?;
            }
        }
    }
    workbook.save_to_writer(output).map_err(failed)
}

/// Checks that the table is not wider than a sheet, and has no lists or
/// structs.
fn check(schema: &SchemaRef) -> Result<(), TableError> {
    let fields = schema.fields();
    if fields.is_empty() {
        let message = "a table without columns cannot be a workbook";
        return Err(unwritable(message.to_owned()));
    }
    if fields.len() > COLUMNS_MAX {
        return Err(unwritable(format!(
            "a sheet has at most {COLUMNS_MAX} columns, and the table has {}",
            fields.len()
        )));
    }
    match fields.iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(nested) => Err(unwritable(format!(
            "column {} holds lists or structs, for which a workbook has no place; take its parts apart in a `sql` step, or write JSON or Parquet",
            Shown(nested.name())
        ))),
    }
}

struct Formats {
    day: Format,
    moment: Format,
}

/// The values of one column as cells.
enum Cells {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Number(Float64Array),
    /// Numbers as texts, which tell all their digits.
    Decimal(StringArray),
    Day(Date32Array),
    Moment(TimestampMillisecondArray),
    Text(StringArray),
}

impl Cells {
    fn of(column: &ArrayRef) -> Result<Self, String> {
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let cast = |data_type: &DataType| {
            cast_with_options(column, data_type, &options).map_err(|error| error.to_string())
        };
        let kind = column.data_type();
        Ok(match kind {
            DataType::Boolean => Self::Boolean(column.as_boolean().clone()),
            _ if kind.is_integer() => Self::Integer(cast(&DataType::Int64)?.as_primitive().clone()),
            _ if kind.is_floating() => {
                Self::Number(cast(&DataType::Float64)?.as_primitive().clone())
            }
            DataType::Date32 | DataType::Date64 => {
                Self::Day(cast(&DataType::Date32)?.as_primitive().clone())
            }
            DataType::Timestamp(..) => {
                let in_utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
                Self::Moment(cast(&in_utc)?.as_primitive().clone())
            }
            _ if kind.is_decimal() => Self::Decimal(cast(&DataType::Utf8)?.as_string().clone()),
            _ => Self::Text(cast(&DataType::Utf8)?.as_string().clone()),
        })
    }

    fn write(
        &self,
        sheet: &mut Worksheet,
        (row, column): (u32, u16),
        index: usize,
        formats: &Formats,
    ) -> Result<(), String> {
        let is_null = match self {
            Self::Boolean(values) => values.is_null(index),
            Self::Integer(values) => values.is_null(index),
            Self::Number(values) => values.is_null(index),
            Self::Decimal(values) | Self::Text(values) => values.is_null(index),
            Self::Day(values) => values.is_null(index),
            Self::Moment(values) => values.is_null(index),
        };
        if is_null {
            return Ok(());
        }
        let written = match self {
            Self::Boolean(values) => sheet.write_boolean(row, column, values.value(index)),
            Self::Integer(values) => sheet.write_number(row, column, whole(values.value(index))?),
            Self::Number(values) => sheet.write_number(row, column, finite(values.value(index))?),
            Self::Decimal(values) => sheet.write_number(row, column, exact(values.value(index))?),
            Self::Text(values) => sheet.write_string(row, column, text(values.value(index))?),
            Self::Day(values) => {
                let day = values.value_as_date(index).ok_or(NO_DATE)?;
                let day = day.and_hms_opt(0, 0, 0).ok_or(NO_DATE)?;
                sheet.write_datetime_with_format(row, column, shown(day)?, &formats.day)
            }
            Self::Moment(values) => {
                let moment = values.value_as_datetime(index).ok_or(NO_DATE)?;
                sheet.write_datetime_with_format(row, column, shown(moment)?, &formats.moment)
            }
        };
        written.map(drop).map_err(|error| error.to_string())
    }
}

const NO_DATE: &str = "a date that a workbook cannot hold";

fn whole(number: i64) -> Result<f64, String> {
    let cell = number as f64;
    if cell.abs() < Cell::EXACT_MAX {
        return Ok(cell);
    }
    Err(format!(
        "{number} has more digits than a workbook keeps; make it a text in a `sql` step"
    ))
}

fn finite(number: f64) -> Result<f64, String> {
    if number.is_finite() {
        return Ok(number);
    }
    Err(format!("{number} is no number of a workbook"))
}

fn exact(decimal: &str) -> Result<f64, String> {
    let digits: String = decimal.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let digits = match decimal.contains('.') {
        true => digits.trim_end_matches('0'),
        false => digits,
    };
    let number = decimal.parse::<f64>().map_err(|error| error.to_string())?;
    if digits.len() <= DIGITS_MAX {
        return Ok(number);
    }
    Err(format!(
        "{decimal} has more digits than a workbook keeps; round it or make it a text in a `sql` step"
    ))
}

fn text(text: &str) -> Result<&str, String> {
    let length = text.encode_utf16().count();
    if length > TEXT_CHARS_MAX {
        return Err(format!(
            "a text of {length} characters, and a cell holds {TEXT_CHARS_MAX}"
        ));
    }
    let is_control = |c: &char| c.is_control() && !matches!(c, '\t' | '\n');
    match text.chars().find(is_control) {
        None => Ok(text),
        Some(control) => Err(format!(
            "a text with the control character U+{:04X}, for which a cell has no place",
            u32::from(control)
        )),
    }
}

fn shown(moment: NaiveDateTime) -> Result<NaiveDateTime, String> {
    let date: NaiveDate = moment.date();
    if YEARS.contains(&date.year()) {
        return Ok(moment);
    }
    Err(format!(
        "{date} is out of the years {} to {} of a workbook",
        YEARS.start(),
        YEARS.end()
    ))
}

fn named(column: &str, row: u32, reason: &str) -> TableError {
    unwritable(format!("column {}, row {row}: {reason}", Shown(column)))
}

fn failed(error: XlsxError) -> TableError {
    match error {
        XlsxError::IoError(error) => TableError::io("writing a workbook", error),
        error => unwritable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::tables::tests::{Place, shown};

    #[test]
    fn every_type_becomes_cells_and_comes_back() {
        let place = Place::new();
        place.put(
            "in.csv",
            "text,whole,number,flag,day,at\n\
             \" a, \"\"b\"\"\nø <&>\",-9007199254740991,0.1,true,2026-11-24,2026-11-24T10:00:00.25Z\n\
             ,,,,,\n\
             0150,7,1e300,false,1900-03-01,9999-12-31T23:59:59Z\n",
        );
        let table = place.read("in.csv").unwrap();
        place.write(&table, "out.xlsx").unwrap();
        // A row without anything is not there.
        let mut expected = shown(&table);
        expected.remove(2);
        assert_eq!(place.shown("out.xlsx"), expected);
        let first = fs::read(place.path("out.xlsx")).unwrap();
        place.write(&table, "out.xlsx").unwrap();
        assert_eq!(fs::read(place.path("out.xlsx")).unwrap(), first);
    }

    #[test]
    fn what_a_cell_cannot_hold_is_named() {
        let place = Place::new();
        for (text, expected) in [
            (
                "n\n1\n9007199254740993\n",
                "column `n`, row 2: 9007199254740993 has more digits than a workbook keeps; make it a text in a `sql` step",
            ),
            (
                "d\n1899-12-31\n",
                "column `d`, row 1: 1899-12-31 is out of the years 1900 to 9999 of a workbook",
            ),
            (
                "t\nx\u{1}y\n",
                "column `t`, row 1: a text with the control character U+0001, for which a cell has no place",
            ),
            (
                &format!("t\n{}\n", "x".repeat(32_768)),
                "column `t`, row 1: a text of 32768 characters, and a cell holds 32767",
            ),
        ] {
            place.put("in.csv", text);
            let table = place.read("in.csv").unwrap();
            let error = place.write(&table, "out.xlsx").unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!place.path("out.xlsx").exists());
        }
        let table = place.read("in.csv").unwrap();
        let error = place.write(&table, "out.xls").unwrap_err().to_string();
        assert!(error.contains("written as `.xlsx`"), "{error}");
    }

    #[test]
    fn a_table_larger_than_a_sheet_is_refused() {
        let place = Place::new();
        let names: Vec<String> = (0..1_048_576).map(|n| n.to_string()).collect();
        place.put("in.csv", &format!("n\n{}\n", names.join("\n")));
        let table = place.read("in.csv").unwrap();
        let error = place.write(&table, "out.xlsx").unwrap_err().to_string();
        assert!(
            error.starts_with("a sheet has at most 1048576 rows"),
            "{error}"
        );
    }
}
