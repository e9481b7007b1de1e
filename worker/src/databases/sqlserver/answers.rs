//! What SQL Server answers, as columns.

use futures::TryStreamExt;
use millstream_shared::connection::Server;
use tiberius::{ColumnData, ColumnType, QueryItem, Row};

use super::{SqlServer, bound, failure::failure, moments, scan};
use crate::{
    databases::{
        Around, answer::Answer, cell::Cell, decimal::Decimal, error::DatabaseError, kind::Kind,
        session::Session, statement::Statement,
    },
    tables::{Engine, Table},
};

/// Up to here an amount of money, which the driver hands on as a floating-point
/// number, has all its four digits behind the point.
const MONEY_MAX: f64 = 1e11;

/// The rows that a statement answers, in a transaction that is rolled back.
pub(in crate::databases) async fn query(
    server: &Server,
    statement: &Statement<'_>,
    engine: &Engine,
    around: Around,
) -> Result<Table, DatabaseError> {
    scan::refuse_changes(statement.sql)?;
    let query = bound(statement)?;
    let mut session = SqlServer::connect(server, around).await?;
    session.begin().await?;
    let mut stream = query.query(&mut session.client).await.map_err(failure)?;
    let columns = stream.columns().await.map_err(failure)?.unwrap_or_default();
    let columns = columns.iter().map(|column| {
        let kind = kind_of(column.column_type()).map_err(|name| {
            let message = format!(
                "column `{}` is of the type {name}, which cannot be carried: cast it in the query",
                column.name()
            );
            DatabaseError::refused("unsupported_type", message)
        })?;
        Ok((column.name().to_owned(), kind))
    });
    let columns = columns.collect::<Result<Vec<_>, DatabaseError>>()?;
    let kinds: Vec<Kind> = columns.iter().map(|(_, kind)| kind.clone()).collect();
    let mut answer = Answer::new(engine, columns)?;
    while let Some(item) = stream.try_next().await.map_err(failure)? {
        match item {
            QueryItem::Row(row) => take_row(&mut answer, &kinds, &row)?,
            QueryItem::Metadata(metadata) if metadata.result_index() == 0 => {}
            QueryItem::Metadata(_) => {
                let message = "the statement answers several tables, and a step takes one";
                return Err(DatabaseError::refused("statement_refused", message));
            }
        }
    }
    drop(stream);
    let table = answer.finish()?;
    session.undo().await?;
    session.close().await;
    Ok(table)
}

fn take_row(answer: &mut Answer<'_>, kinds: &[Kind], row: &Row) -> Result<(), DatabaseError> {
    answer.take_row(kinds, |index, kind| {
        let data = row.get_column_data(index).map_err(failure)?;
        Ok(cell(kind, data))
    })
}

/// What a column of a type holds, or the name of a type that cannot be carried.
fn kind_of(column: ColumnType) -> Result<Kind, &'static str> {
    let integer = |bits| Kind::Integer {
        bits,
        is_signed: bits != 8,
    };
    Ok(match column {
        ColumnType::Null => Kind::Open(Box::new(Kind::Text)),
        ColumnType::Bit | ColumnType::Bitn => Kind::Boolean,
        ColumnType::Int1 => integer(8),
        ColumnType::Int2 => integer(16),
        ColumnType::Int4 => integer(32),
        ColumnType::Int8 | ColumnType::Intn => integer(64),
        ColumnType::Float4 => Kind::Single,
        ColumnType::Float8 | ColumnType::Floatn => Kind::Double,
        // Small amounts that may be missing have the type of large ones.
        ColumnType::Money | ColumnType::Money4 => Kind::Decimal {
            precision: 19,
            scale: 4,
        },
        // The driver keeps to itself how many digits there are, but not how many
        // of them stand behind the point.
        ColumnType::Decimaln | ColumnType::Numericn => Kind::Open(Box::new(Kind::OPEN_DECIMAL)),
        ColumnType::Guid => Kind::Uuid,
        ColumnType::BigVarChar
        | ColumnType::BigChar
        | ColumnType::NVarchar
        | ColumnType::NChar
        | ColumnType::Text
        | ColumnType::NText
        | ColumnType::Xml => Kind::Text,
        ColumnType::BigVarBin | ColumnType::BigBinary | ColumnType::Image => Kind::Bytes,
        ColumnType::Daten => Kind::Date,
        ColumnType::Timen => Kind::Time,
        ColumnType::Datetime
        | ColumnType::Datetime4
        | ColumnType::Datetimen
        | ColumnType::Datetime2 => Kind::Moment { is_utc: false },
        ColumnType::DatetimeOffsetn => Kind::Moment { is_utc: true },
        ColumnType::SSVariant => return Err("sql_variant"),
        ColumnType::Udt => return Err("a CLR type, such as hierarchyid or geometry"),
    })
}

/// A value, or why it cannot be carried.
fn cell<'v>(kind: &Kind, data: &'v ColumnData<'static>) -> Result<Cell<'v>, String> {
    let naive = |microseconds| Cell::Moment {
        microseconds,
        is_utc: false,
    };
    let cell = match data {
        ColumnData::F64(Some(value)) if matches!(kind, Kind::Decimal { .. }) => {
            Some(money(*value)?)
        }
        ColumnData::U8(value) => value.map(|value| Cell::Integer(value.into())),
        ColumnData::I16(value) => value.map(|value| Cell::Integer(value.into())),
        ColumnData::I32(value) => value.map(|value| Cell::Integer(value.into())),
        ColumnData::I64(value) => value.map(Cell::Integer),
        ColumnData::F32(value) => value.map(Cell::Single),
        ColumnData::F64(value) => value.map(Cell::Double),
        ColumnData::Bit(value) => value.map(Cell::Boolean),
        ColumnData::String(value) => value.as_deref().map(|text| Cell::Text(text.into())),
        ColumnData::Guid(value) => value.map(|id| Cell::Text(id.to_string().into())),
        ColumnData::Binary(value) => value.as_deref().map(|bytes| Cell::Bytes(bytes.into())),
        ColumnData::Numeric(value) => value.map(|number| {
            Cell::Decimal(Decimal {
                digits: number.value(),
                scale: number.scale().into(),
            })
        }),
        ColumnData::Xml(value) => value.as_deref().map(|xml| Cell::Text(xml.as_ref().into())),
        ColumnData::DateTime(value) => value.map(moments::of_datetime).map(naive),
        ColumnData::SmallDateTime(value) => value.map(moments::of_smalldatetime).map(naive),
        ColumnData::Time(value) => value.map(moments::microseconds).map(Cell::Time),
        ColumnData::Date(value) => value.map(moments::days).map(Cell::Date),
        ColumnData::DateTime2(value) => value.map(moments::of_datetime2).map(naive),
        ColumnData::DateTimeOffset(value) => value.map(|value| Cell::Moment {
            microseconds: moments::of_offset(value),
            is_utc: true,
        }),
    };
    Ok(cell.unwrap_or(Cell::Null))
}

/// An amount of money, of which the driver hands on the nearest floating-point
/// number.
fn money(value: f64) -> Result<Cell<'static>, String> {
    if value.abs() > MONEY_MAX {
        return Err(format!(
            "{value} is too much to be told to four digits behind the point: cast it to \
             `decimal(19, 4)` in the query"
        ));
    }
    Ok(Cell::Decimal(Decimal {
        // Far below the largest whole number that a floating-point number keeps.
        digits: (value * 1e4).round() as i128,
        scale: 4,
    }))
}

#[cfg(test)]
mod tests {
    use tiberius::numeric::Numeric;

    use super::*;

    #[test]
    fn money_has_its_four_digits() {
        for (units, shown) in [
            (1_i64, "0.0001"),
            (-12_345, "-1.2345"),
            (999_999_999_999_999, "99999999999.9999"),
            (999_999_999_999_997, "99999999999.9997"),
        ] {
            let value = units as f64 / 1e4;
            let Ok(Cell::Decimal(number)) = money(value) else {
                panic!("{units} was refused");
            };
            assert_eq!(number.to_string(), shown);
        }
        assert!(money(922_337_203_685_477.5).is_err());
    }

    #[test]
    fn values_are_carried_as_their_columns_say() {
        let money = Kind::Decimal {
            precision: 19,
            scale: 4,
        };
        let decimal = |text: &str| Cell::Decimal(Decimal::parse(text).unwrap());
        for (column, data, expected) in [
            (
                ColumnType::Int1,
                ColumnData::U8(Some(255)),
                Cell::Integer(255),
            ),
            (ColumnType::Int8, ColumnData::I64(None), Cell::Null),
            (
                ColumnType::Bitn,
                ColumnData::Bit(Some(true)),
                Cell::Boolean(true),
            ),
            (
                ColumnType::Money,
                ColumnData::F64(Some(1.5)),
                decimal("1.5000"),
            ),
            (
                ColumnType::Float8,
                ColumnData::F64(Some(1.5)),
                Cell::Double(1.5),
            ),
            (
                ColumnType::Numericn,
                ColumnData::Numeric(Some(Numeric::new_with_scale(-150, 2))),
                decimal("-1.50"),
            ),
        ] {
            let kind = kind_of(column).unwrap();
            assert_eq!(cell(&kind, &data), Ok(expected));
        }
        assert_eq!(kind_of(ColumnType::Money4), Ok(money));
        assert_eq!(kind_of(ColumnType::SSVariant), Err("sql_variant"));
        assert!(kind_of(ColumnType::Udt).is_err());
    }
}
