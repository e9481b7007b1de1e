//! Whatever a table holds comes back from every database as it was, or is
//! refused by the name of its column and the number of its row.

use std::{sync::Arc, time::Duration};

use chrono::NaiveDate;
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
};
use harness::{Database, PrivateMariadb, PrivatePostgres, SqliteFile};
use millstream_shared::{connection::Connection, flow::step::LoadStep, id::RunId};
use proptest::test_runner::TestRunner;
use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use serde_json::json;

use super::{
    Around, Load, Marker, Statement,
    cell::{Cell, days},
    column::Column,
    decimal::Decimal,
    error::DatabaseError,
    kind::Kind,
    rows::Rows,
};
use crate::tables::{
    Engine, Feed, Files, Table,
    tests::{new_engine, settings},
};

/// Names of columns that end quotes, mean something, or look like others.
const NAMES: [&str; 8] = [
    "order",
    "a b",
    "ø\"x",
    "back`tick",
    "[z]",
    "semi;colon --",
    "it's",
    "日本",
];

/// Texts that some database or driver takes for something else.
const TEXTS: [&str; 24] = [
    "",
    " ",
    " x ",
    "\t",
    "\n",
    "\r\n",
    "\\",
    "\\N",
    "\\.",
    "\\x00",
    "NULL",
    "null",
    "'",
    "''",
    "\"",
    "{a,b}",
    "{",
    "%s",
    "$1",
    "?",
    "0",
    "2026-01-01",
    "שלום\u{202e}مرحبا",
    "\u{1f600}ø\u{301}",
];

/// A column: what it holds and its values.
#[derive(Clone, Debug)]
struct Made {
    kind: Kind,
    cells: Vec<Cell<'static>>,
}

const DAY_US: i64 = 86_400_000_000;

fn ymd(year: i32, month: u32, day: u32) -> i32 {
    days(NaiveDate::from_ymd_opt(year, month, day).unwrap())
}

fn single_kinds() -> BoxedStrategy<Kind> {
    let integer = (select(vec![8_u8, 16, 32, 64]), any::<bool>());
    let integer = integer.prop_map(|(bits, is_signed)| Kind::Integer { bits, is_signed });
    let decimal = (1_u8..=38).prop_flat_map(|precision| {
        (0..=precision as i8).prop_map(move |scale| Kind::Decimal { precision, scale })
    });
    prop_oneof![
        integer,
        decimal,
        Just(Kind::Boolean),
        Just(Kind::Single),
        Just(Kind::Double),
        Just(Kind::Text),
        Just(Kind::Bytes),
        Just(Kind::Date),
        Just(Kind::Time),
        any::<bool>().prop_map(|is_utc| Kind::Moment { is_utc }),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<String> {
    prop_oneof![
        3 => select(&TEXTS[..]).prop_map(str::to_owned),
        3 => any::<String>(),
        // No database but SQLite has a place for it.
        1 => "[a-z]\0[a-z]",
    ]
    .boxed()
}

fn cells(kind: &Kind) -> BoxedStrategy<Cell<'static>> {
    match kind.clone() {
        Kind::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
        Kind::Integer {
            bits: 64,
            is_signed: false,
        } => prop_oneof![any::<u64>(), select(vec![0, u64::MAX])]
            .prop_map(Cell::Natural)
            .boxed(),
        Kind::Integer { bits, is_signed } => {
            let bits = u32::from(bits);
            let (least, most) = match is_signed {
                true => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
                false => (0, (1 << bits) - 1),
            };
            prop_oneof![least..=most, select(vec![least, most, 0])]
                .prop_map(Cell::Integer)
                .boxed()
        }
        Kind::Single => {
            let odd = select(vec![0.0, 0.1, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45]);
            prop_oneof![any::<f32>(), odd]
                .prop_map(Cell::Single)
                .boxed()
        }
        Kind::Double => {
            let odd = select(vec![
                0.0,
                0.1,
                f64::MAX,
                f64::MIN,
                f64::MIN_POSITIVE,
                5e-324,
                1e15,
                1e16,
            ]);
            prop_oneof![any::<f64>(), odd]
                .prop_map(Cell::Double)
                .boxed()
        }
        Kind::Decimal { precision, scale } => {
            let most = 10_i128.pow(u32::from(precision)) - 1;
            let scale = u32::from(scale.unsigned_abs());
            prop_oneof![-most..=most, select(vec![-most, most, 0, 1])]
                .prop_map(move |digits| Cell::Decimal(Decimal { digits, scale }))
                .boxed()
        }
        Kind::Bytes => vec(any::<u8>(), 0..20)
            .prop_map(|bytes| Cell::Bytes(bytes.into()))
            .boxed(),
        Kind::Date => dates().prop_map(Cell::Date).boxed(),
        Kind::Time => prop_oneof![0..DAY_US, select(vec![0, 1, DAY_US - 1])]
            .prop_map(Cell::Time)
            .boxed(),
        Kind::Moment { is_utc } => (dates(), prop_oneof![0..DAY_US, select(vec![0, DAY_US - 1])])
            .prop_map(move |(day, time)| Cell::Moment {
                microseconds: i64::from(day) * DAY_US + time,
                is_utc,
            })
            .boxed(),
        Kind::List(item) => vec(nullable(&item), 0..4).prop_map(Cell::List).boxed(),
        _ => texts().prop_map(|text| Cell::Text(text.into())).boxed(),
    }
}

/// Days within our era, at the bounds of databases and beyond them.
fn dates() -> BoxedStrategy<i32> {
    let (first, last) = (ymd(1, 1, 1), ymd(9999, 12, 31));
    let bounds = [
        first,
        last,
        first - 1,
        last + 1,
        ymd(-4712, 1, 1),
        ymd(-4713, 1, 1),
        ymd(1000, 1, 1),
        ymd(999, 12, 31),
        ymd(1970, 1, 1),
        ymd(1969, 12, 31),
        ymd(2038, 1, 19),
        ymd(2038, 1, 20),
        ymd(1582, 10, 10),
        ymd(2024, 2, 29),
        ymd(20_000, 1, 1),
    ];
    prop_oneof![3 => first..=last, 2 => ymd(1970, 1, 2)..=ymd(2038, 1, 18), 1 => select(bounds.to_vec())].boxed()
}

fn nullable(kind: &Kind) -> BoxedStrategy<Cell<'static>> {
    weighted(0.8, cells(kind))
        .prop_map(|cell| cell.unwrap_or(Cell::Null))
        .boxed()
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let list = single_kinds().prop_map(|item| Kind::List(Box::new(item)));
    let kinds = vec(prop_oneof![6 => single_kinds(), 1 => list], 1..=NAMES.len());
    (kinds, 0..10_usize).prop_flat_map(|(kinds, rows)| {
        let column = |kind: Kind| {
            vec(nullable(&kind), rows).prop_map(move |cells| Made {
                kind: kind.clone(),
                cells,
            })
        };
        kinds.into_iter().map(column).collect::<Vec<_>>()
    })
}

/// A kind of database, and one to try it on.
struct Tried {
    database: Database,
    connection: Connection,
    engine: Engine,
    files: Files,
    /// Where a file of SQLite lies.
    _folder: tempfile::TempDir,
    tables: usize,
}

const AROUND: Around = Around {
    lock_wait: Duration::from_secs(10),
};

impl Tried {
    fn new(database: Database, folder: tempfile::TempDir) -> Self {
        let folders = [folder.path().to_owned()];
        Self {
            connection: Connection::parse(&database.connection()).unwrap(),
            database,
            engine: new_engine(&settings()),
            files: Files::new(&folders).unwrap(),
            _folder: folder,
            tables: 0,
        }
    }

    /// Brings a table there and asks for it.
    async fn there_and_back(&mut self, table: &Table) -> Result<Table, DatabaseError> {
        self.tables += 1;
        let name = format!("t{}", self.tables);
        let step = json!({
            "connection": "db", "table": name, "from": "made", "mode": "append", "create": true,
        });
        let step: LoadStep = serde_json::from_value(step).unwrap();
        let marker = Marker {
            run: RunId::new(),
            step: "load".parse().unwrap(),
        };
        let load = Load::new(marker, &step, &Feed::Table(table.clone())).await?;
        AROUND.load(&self.connection, &load, &self.files).await?;
        let sql = format!("select * from {name}");
        let statement = Statement {
            sql: &sql,
            params: &[],
        };
        let asked = AROUND.query(&self.connection, &statement, &self.engine, &self.files);
        let answer = asked.await;
        self.database.run(&format!("drop table {name}")).await;
        answer
    }

    fn table(&self, columns: &[Made]) -> Table {
        let fields = columns.iter().zip(NAMES);
        let fields = fields.map(|(made, name)| Field::new(name, made.kind.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let array = |made: &Made| {
            let mut column = Column::new(made.kind.clone());
            for cell in &made.cells {
                column.push(cell.clone()).unwrap();
            }
            column.finish().unwrap()
        };
        let arrays = columns.iter().map(array).collect();
        let mut table = self.engine.collector(Arc::clone(&schema));
        let batch = RecordBatch::try_new(schema, arrays).unwrap();
        table.push(batch).unwrap();
        table.finish().unwrap()
    }

    /// The table comes back as it was, without the rows that are refused by
    /// name and for a reason.
    async fn try_out(&mut self, mut columns: Vec<Made>) -> Result<(), TestCaseError> {
        loop {
            match self.there_and_back(&self.table(&columns)).await {
                Ok(answer) => return self.compare(&columns, &answer),
                Err(error) => {
                    let place = place(&error.message);
                    let Some((column, row)) = place else {
                        return Err(TestCaseError::fail(format!("{error:?}")));
                    };
                    let index = NAMES.iter().position(|name| *name == column).unwrap();
                    let made = &columns[index];
                    prop_assert!(
                        may_be_refused(&self.database, &made.kind, &made.cells[row]),
                        "{:?} of {:?} was refused: {error}",
                        made.cells[row],
                        made.kind
                    );
                    for made in &mut columns {
                        made.cells.remove(row);
                    }
                }
            }
        }
    }

    fn compare(&self, columns: &[Made], answer: &Table) -> Result<(), TestCaseError> {
        let fields = answer.schema().fields();
        for (index, made) in columns.iter().enumerate() {
            let kind = kind_there(&self.database, &made.kind);
            let found = fields[index].data_type();
            prop_assert_eq!(found, &kind.data_type(), "{:?}", &made.kind);
        }
        let mut row = 0;
        let mut reader = answer.open().unwrap();
        while let Some(batch) = reader.next() {
            let rows = Rows::of(&batch.unwrap()).unwrap();
            for index in 0..rows.count() {
                for (made, found) in columns.iter().zip(rows.row(index)) {
                    let expected = cell_there(&self.database, &made.kind, &made.cells[row]);
                    prop_assert_eq!(found.unwrap(), expected, "{:?}", &made.kind);
                }
                row += 1;
            }
        }
        prop_assert_eq!(row, columns[0].cells.len());
        Ok(())
    }
}

/// The column and the row, from 0, that a message names.
fn place(message: &str) -> Option<(&str, usize)> {
    let rest = message.strip_prefix("column `")?;
    let (column, rest) = rest.split_once("`, row ")?;
    let (row, _) = rest.split_once(':')?;
    Some((column, row.parse::<usize>().ok()? - 1))
}

/// What a column of a kind is after its way there and back.
fn kind_there(database: &Database, kind: &Kind) -> Kind {
    let integer = |bits| Kind::Integer {
        bits,
        is_signed: true,
    };
    match (database, kind) {
        (Database::Postgres(_), Kind::List(item)) => {
            Kind::List(Box::new(kind_there(database, item)))
        }
        (_, Kind::List(_)) => Kind::Text,
        (Database::Postgres(_), Kind::Integer { bits, is_signed }) => match (bits, is_signed) {
            (64, false) => Kind::Decimal {
                precision: 20,
                scale: 0,
            },
            (8, _) => integer(16),
            (bits, false) => integer(bits * 2),
            (bits, true) => integer(*bits),
        },
        (Database::Sqlite(_), Kind::Integer { .. }) => integer(64),
        (Database::Sqlite(_), Kind::Single) => Kind::Double,
        (Database::Mariadb(_), Kind::Decimal { precision, scale }) => Kind::Decimal {
            precision: *precision,
            scale: (*scale).min(30),
        },
        (_, kind) => kind.clone(),
    }
}

/// What a value is after its way there and back.
fn cell_there(database: &Database, kind: &Kind, cell: &Cell<'static>) -> Cell<'static> {
    match (kind, kind_there(database, kind), cell) {
        (_, _, Cell::Null) => Cell::Null,
        (Kind::List(_), Kind::Text, cell) => Cell::Text(cell.to_json().to_string().into()),
        (Kind::List(item), _, Cell::List(cells)) => {
            let there = cells.iter().map(|cell| cell_there(database, item, cell));
            Cell::List(there.collect())
        }
        (_, Kind::Decimal { .. }, Cell::Natural(value)) => Cell::Decimal(Decimal {
            digits: (*value).into(),
            scale: 0,
        }),
        (_, Kind::Decimal { precision, scale }, Cell::Decimal(value)) => Cell::Decimal(Decimal {
            // Where it does not fit it was cut off, and differs.
            digits: value.digits_with(precision, scale).unwrap_or(i128::MAX),
            scale: u32::from(scale.unsigned_abs()),
        }),
        (
            _,
            Kind::Integer {
                is_signed: true, ..
            },
            Cell::Natural(value),
        ) => Cell::Integer((*value).try_into().unwrap()),
        (_, Kind::Double, Cell::Single(value)) => Cell::Double((*value).into()),
        (_, _, cell) => cell.clone(),
    }
}

/// Whether a database has a reason to refuse a value, or what it holds.
fn may_be_refused(database: &Database, kind: &Kind, cell: &Cell<'_>) -> bool {
    let within = |days: i64, first: i32, last: i32| (first.into()..=last.into()).contains(&days);
    match (database, cell) {
        (Database::Postgres(_), Cell::List(cells)) => {
            let Kind::List(item) = kind else {
                return false;
            };
            cells
                .iter()
                .any(|cell| may_be_refused(database, item, cell))
        }
        (_, Cell::Single(value)) => !value.is_finite(),
        (_, Cell::Double(value)) => !value.is_finite(),
        (Database::Postgres(_), Cell::Text(text)) => text.contains('\0'),
        (Database::Postgres(_), Cell::Date(day)) => *day < ymd(-4713, 11, 24),
        (Database::Postgres(_), Cell::Moment { microseconds, .. }) => {
            microseconds.div_euclid(DAY_US) < ymd(-4713, 11, 24).into()
        }
        (Database::Mariadb(_), Cell::Decimal(value)) => value.digits_with(38, 30).is_err(),
        (Database::Mariadb(_), Cell::Date(day)) => {
            !within((*day).into(), ymd(1000, 1, 1), ymd(9999, 12, 31))
        }
        (
            Database::Mariadb(_),
            Cell::Moment {
                microseconds,
                is_utc,
            },
        ) => {
            let day = microseconds.div_euclid(DAY_US);
            match is_utc {
                true => !within(day, ymd(1970, 1, 2), ymd(2038, 1, 18)),
                false => !within(day, ymd(1000, 1, 1), ymd(9999, 12, 31)),
            }
        }
        (Database::Sqlite(_), Cell::Natural(value)) => i64::try_from(*value).is_err(),
        (Database::Sqlite(_), Cell::Date(day)) => {
            !within((*day).into(), ymd(0, 1, 1), ymd(9999, 12, 31))
        }
        (Database::Sqlite(_), Cell::Moment { microseconds, .. }) => {
            let day = microseconds.div_euclid(DAY_US);
            !within(day, ymd(0, 1, 1), ymd(9999, 12, 31))
        }
        _ => false,
    }
}

/// How many random tables each database gets.
const CASES: u32 = 40;

async fn every_table_comes_back(database: Database, folder: tempfile::TempDir) {
    let mut tried = Tried::new(database, folder);
    let cases = harness::setting("MILLSTREAM_TEST_CASES");
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::with_cases(cases.map_or(CASES, |cases| cases.parse().unwrap()))
    });
    let tables = std::cell::RefCell::new(&mut tried);
    runner
        .run(&made(), |columns| {
            tokio::task::block_in_place(|| {
                let here = tokio::runtime::Handle::current();
                here.block_on(tables.borrow_mut().try_out(columns))
            })
        })
        .unwrap();
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_comes_back_from_postgresql_as_it_was() {
    let server = Database::Postgres(PrivatePostgres::start().await);
    every_table_comes_back(server, folder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_comes_back_from_mariadb_as_it_was() {
    let server = Database::Mariadb(PrivateMariadb::start().await);
    every_table_comes_back(server, folder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_comes_back_from_sqlite_as_it_was() {
    let folder = folder();
    let file = SqliteFile::at(folder.path().join("flows.sqlite"));
    every_table_comes_back(Database::Sqlite(file), folder).await;
}
