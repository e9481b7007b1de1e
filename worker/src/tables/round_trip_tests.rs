//! Whatever a table holds comes back from every format as it was.

use std::{fs, sync::Arc};

use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
};
use millstream_shared::flow::step::ColumnType;
use proptest::{
    collection::vec, num::f64, option::weighted, prelude::*, sample::select,
    test_runner::TestRunner,
};

use super::{
    Table,
    column::{Column, ColumnKind, Room, plain_type},
    memory::Collector,
    tests::{Place, shown},
};

/// One column of each type; the first one is never empty.
const COLUMNS: [(&str, ColumnType); 8] = [
    ("row", ColumnType::Integer),
    ("text, \"quoted\"", ColumnType::String),
    ("whole", ColumnType::Integer),
    ("number", ColumnType::Number),
    ("exact", ColumnType::Decimal),
    ("flag", ColumnType::Boolean),
    ("day", ColumnType::Date),
    ("at", ColumnType::Datetime),
];

/// Texts that some format or program takes for something else.
const ODD_TEXTS: [&str; 28] = [
    "",
    " ",
    " x ",
    "\t",
    "NULL",
    "null",
    "NA",
    "None",
    "nan",
    "true",
    "1",
    "007",
    "1e5",
    "-",
    ",",
    ";",
    "\"",
    "\"\"",
    "a\"b",
    "'",
    "a,b",
    "a\nb",
    "\n",
    "=1+1",
    "#N/A",
    "_x0041_",
    "<&>",
    "\u{1f600}ø\u{301}",
];

/// The bounds that values keep to, so that a format can hold them.
#[derive(Clone, Copy, PartialEq)]
enum Bounds {
    Types,
    Workbook,
}

type Row = Vec<Option<String>>;

fn texts(bounds: Bounds) -> BoxedStrategy<String> {
    let odd = select(&ODD_TEXTS[..]).prop_map(str::to_owned);
    let any = match bounds {
        Bounds::Types => any::<String>().boxed(),
        Bounds::Workbook => "[^\\p{Cc}\\p{Cn}]{0,20}".boxed(),
    };
    prop_oneof![odd, any].boxed()
}

fn numbers() -> BoxedStrategy<f64> {
    prop_oneof![
        f64::NORMAL | f64::SUBNORMAL | f64::POSITIVE | f64::NEGATIVE,
        select(vec![
            0.0,
            0.1,
            1e300,
            -1e-300,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            1e15,
            123.0
        ]),
    ]
    .boxed()
}

fn row(bounds: Bounds) -> impl Strategy<Value = Row> {
    let is_workbook = bounds == Bounds::Workbook;
    let whole = match is_workbook {
        true => (-9_007_199_254_740_991..=9_007_199_254_740_991i64).boxed(),
        false => prop_oneof![any::<i64>(), select(vec![i64::MIN, i64::MAX, 0])].boxed(),
    };
    let exact_max = if is_workbook {
        10i128.pow(15) - 1
    } else {
        10i128.pow(38) - 1
    };
    let exact = prop_oneof![
        -exact_max..=exact_max,
        select(vec![-exact_max, exact_max, 1, 0])
    ];
    let exact = exact.prop_map(|units| {
        let sign = if units < 0 { "-" } else { "" };
        let unit = 10u128.pow(9);
        let (whole, rest) = (units.unsigned_abs() / unit, units.unsigned_abs() % unit);
        format!("{sign}{whole}.{rest:09}")
    });
    // Days of the years 1 or 1900 to 9999.
    let first_day = if is_workbook { -25_567 } else { -719_162 };
    let days = prop_oneof![
        first_day..=2_932_896i64,
        select(vec![first_day, 2_932_896, 0])
    ];
    let step_us = if is_workbook { 1000 } else { 1 };
    let at = (days.clone(), 0..86_400_000_000i64);
    let at = at.prop_map(move |(day, us)| moment(day, us / step_us * step_us));
    let text = |value: String| value;
    (
        any::<i32>().prop_map(|n| n.to_string()),
        weighted(0.8, texts(bounds).prop_map(text)),
        weighted(0.8, whole.prop_map(|n| n.to_string())),
        weighted(0.8, numbers().prop_map(|n| format!("{n:?}"))),
        weighted(0.8, exact),
        weighted(0.8, any::<bool>().prop_map(|flag| flag.to_string())),
        weighted(0.8, days.prop_map(|day| moment(day, 0)[..10].to_owned())),
        weighted(0.8, at),
    )
        .prop_map(|(row, a, b, c, d, e, f, g)| vec![Some(row), a, b, c, d, e, f, g])
}

fn moment(day: i64, us: i64) -> String {
    let moment = chrono::DateTime::from_timestamp_micros(day * 86_400_000_000 + us).unwrap();
    moment.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn table(place: &Place, rows: &[Row]) -> Table {
    let field = |(name, kind): &(&str, ColumnType)| Field::new(*name, plain_type(*kind), true);
    let schema = Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()));
    let mut table = Collector::new(&place.work.budget, Arc::clone(&schema));
    for rows in rows.chunks(3) {
        let columns = COLUMNS.iter().enumerate().map(|(index, (_, kind))| {
            let mut column = Column::new(
                &ColumnKind::Plain(*kind),
                Room {
                    rows: rows.len(),
                    text: 0,
                },
            )
            .unwrap();
            for row in rows {
                match &row[index] {
                    Some(text) => column.push(text).unwrap(),
                    None => column.push_null(),
                }
            }
            column.finish().unwrap()
        });
        let columns = columns.collect();
        table
            .push(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap())
            .unwrap();
    }
    table.finish().unwrap()
}

/// The same rows where an empty text is a missing one.
fn without_empty(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    for value in rows.iter_mut().flatten() {
        value.take_if(|text| text.is_empty());
    }
    rows
}

#[test]
fn every_table_outlives_every_format() {
    let place = Place::new();
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    });
    runner
        .run(&vec(row(Bounds::Types), 0..12), |rows| {
            let given = table(&place, &rows);
            for file in ["t.json", "t.json.zst", "t.ndjson", "t.ndjson.gz"] {
                place.write(&given, file).unwrap();
                let columns = if rows.is_empty() {
                    &COLUMNS[..0]
                } else {
                    &COLUMNS[..]
                };
                if !columns.is_empty() {
                    prop_assert_eq!(place.shown_as(file, columns), shown(&given), "{}", file);
                }
            }
            for file in ["t.parquet", "t.arrow"] {
                place.write(&given, file).unwrap();
                prop_assert_eq!(place.shown(file), shown(&given), "{}", file);
            }
            let given = table(&place, &without_empty(&rows));
            for file in ["t.csv", "t.csv.gz"] {
                place.write(&given, file).unwrap();
                prop_assert_eq!(place.shown_as(file, &COLUMNS), shown(&given), "{}", file);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_table_that_a_workbook_can_hold_outlives_it() {
    let place = Place::new();
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    });
    runner
        .run(&vec(row(Bounds::Workbook), 0..12), |rows| {
            let given = table(&place, &without_empty(&rows));
            place.write(&given, "t.xlsx").unwrap();
            prop_assert_eq!(place.shown_as("t.xlsx", &COLUMNS), shown(&given));
            Ok(())
        })
        .unwrap();
}

#[test]
fn whatever_byte_of_a_file_is_wrong_the_worker_goes_on() {
    let place = Place::new();
    let rows: String = (0..3000)
        .map(|n| format!("{},same text\n", n % 7))
        .collect();
    for text in ["a,b\n1,x\n2,y\n", &format!("a,b\n{rows}")] {
        place.put("in.csv", text);
        let table = place.read("in.csv").unwrap();
        for (ending, stride) in [
            ("arrow", 3),
            ("parquet", 5),
            ("csv.zst", 11),
            ("csv.gz", 11),
            ("xlsx", 501),
        ] {
            let file = format!("damaged.{ending}");
            place.write(&table, &file).unwrap();
            let whole = fs::read(place.path(&file)).unwrap();
            for index in (0..whole.len()).step_by(stride) {
                let mut damaged = whole.clone();
                damaged[index] ^= 0x15;
                fs::write(place.path(&file), &damaged).unwrap();
                if let Err(error) = place.read(&file) {
                    assert!(!error.is_retriable(), "{file}: {error}");
                }
            }
        }
    }
}
