//! Values as a column of a table of SQL Server takes them in a bulk load, which
//! converts nothing.

use std::borrow::Cow;

use encoding_rs::Encoding;
use tiberius::{
    ColumnData, ColumnFlag, FixedLenType, MetaDataColumn, TypeInfo, Uuid, VarLenContext,
    VarLenType, numeric::Numeric, xml::XmlData,
};

use super::moments;
use crate::databases::{cell::Cell, decimal::Decimal, texts};

/// The size that says a column has none.
const NO_SIZE: usize = 0xFFFF;

/// That a collation keeps its texts in UTF-8.
const IN_UTF8: u32 = 1 << 26;

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Target {
    takes: Takes,
    /// Whether a value may be missing.
    is_open: bool,
}

/// What a column takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Boolean,
    /// A whole number of so many bytes; one byte has no sign.
    Integer(u8),
    Single,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Money {
        is_small: bool,
    },
    /// Text in UTF-16, of so many bytes at the most.
    Unicode(usize),
    /// Text in another encoding, of so many bytes at the most. The driver knows
    /// no UTF-8 there; what is ASCII alone is the same in all of them.
    Encoded {
        most: usize,
        encoding: &'static Encoding,
        only_ascii: bool,
    },
    Bytes(usize),
    Uuid,
    Date,
    Time {
        scale: u8,
    },
    Datetime,
    SmallDatetime,
    Datetime2 {
        scale: u8,
    },
    Offset {
        scale: u8,
    },
    Xml,
}

impl Target {
    /// The column that this describes, or the name of a type that no value goes
    /// into.
    pub(super) fn of(column: &MetaDataColumn<'_>) -> Result<Self, String> {
        let base = column.base();
        let is_fixed = matches!(base.ty(), TypeInfo::FixedLen(_));
        Ok(Self {
            takes: takes(base.ty())?,
            is_open: !is_fixed
                && (base.is_nullable() || base.flags().contains(ColumnFlag::NullableUnknown)),
        })
    }

    /// A value as the column takes it, or why it cannot be had.
    pub(super) fn value(&self, cell: &Cell<'_>) -> Result<ColumnData<'static>, String> {
        if *cell == Cell::Null {
            return if self.is_open {
                Ok(self.nothing())
            } else {
                Err("has no value, which the column does not allow".to_owned())
            };
        }
        self.some(cell)
    }

    /// Whether the driver would refuse a value because it takes the mark of a
    /// column without a size for a size.
    pub(super) fn is_too_large_for_bulk(&self, value: &ColumnData<'_>) -> bool {
        match (self.takes, value) {
            (Takes::Unicode(NO_SIZE), ColumnData::String(Some(text))) => {
                text.encode_utf16().count() * 2 > NO_SIZE
            }
            // No encoding needs more than two bytes for what UTF-8 has in one.
            (Takes::Encoded { most: NO_SIZE, .. }, ColumnData::String(Some(text))) => {
                text.len() * 2 > NO_SIZE
            }
            (Takes::Bytes(NO_SIZE), ColumnData::Binary(Some(bytes))) => bytes.len() > NO_SIZE,
            _ => false,
        }
    }

    fn nothing(&self) -> ColumnData<'static> {
        match self.takes {
            Takes::Boolean => ColumnData::Bit(None),
            Takes::Integer(1) => ColumnData::U8(None),
            Takes::Integer(2) => ColumnData::I16(None),
            Takes::Integer(4) => ColumnData::I32(None),
            Takes::Integer(_) => ColumnData::I64(None),
            Takes::Single => ColumnData::F32(None),
            Takes::Double => ColumnData::F64(None),
            Takes::Decimal { .. } | Takes::Money { .. } => ColumnData::Numeric(None),
            Takes::Unicode(_) | Takes::Encoded { .. } => ColumnData::String(None),
            Takes::Bytes(_) => ColumnData::Binary(None),
            Takes::Uuid => ColumnData::Guid(None),
            Takes::Date => ColumnData::Date(None),
            Takes::Time { .. } => ColumnData::Time(None),
            Takes::Datetime => ColumnData::DateTime(None),
            Takes::SmallDatetime => ColumnData::SmallDateTime(None),
            Takes::Datetime2 { .. } => ColumnData::DateTime2(None),
            Takes::Offset { .. } => ColumnData::DateTimeOffset(None),
            Takes::Xml => ColumnData::Xml(None),
        }
    }

    fn some(&self, cell: &Cell<'_>) -> Result<ColumnData<'static>, String> {
        let misfit = |reason: &str| cell.shown_before(reason);
        Ok(match self.takes {
            Takes::Boolean => ColumnData::Bit(Some(boolean(cell)?)),
            Takes::Integer(bytes) => integer(cell, bytes)?,
            Takes::Single => {
                let number = cell.to_number()? as f32;
                if !number.is_finite() {
                    return Err(misfit("is larger than the column can hold"));
                }
                ColumnData::F32(Some(number))
            }
            Takes::Double => ColumnData::F64(Some(cell.to_number()?)),
            Takes::Decimal { precision, scale } => {
                let digits = decimal(cell)?.digits_with(precision, scale as i8);
                let digits = digits.map_err(misfit)?;
                ColumnData::Numeric(Some(Numeric::new_with_scale(digits, scale)))
            }
            Takes::Money { is_small } => {
                let digits = decimal(cell)?.digits_with(19, 4).map_err(misfit)?;
                let fits = if is_small {
                    i32::try_from(digits).is_ok()
                } else {
                    i64::try_from(digits).is_ok()
                };
                if !fits {
                    return Err(misfit("is larger than the column can hold"));
                }
                ColumnData::Numeric(Some(Numeric::new_with_scale(digits, 4)))
            }
            Takes::Unicode(most) => {
                let text = text(cell)?;
                if most != NO_SIZE && text.encode_utf16().count() * 2 > most {
                    return Err(misfit("is longer than the column can hold"));
                }
                ColumnData::String(Some(text.into()))
            }
            Takes::Encoded {
                most,
                encoding,
                only_ascii,
            } => {
                let text = text(cell)?;
                check_encoded(&text, most, encoding, only_ascii).map_err(misfit)?;
                ColumnData::String(Some(text.into()))
            }
            Takes::Bytes(most) => match cell {
                Cell::Bytes(bytes) if most != NO_SIZE && bytes.len() > most => {
                    return Err("has more bytes than the column can hold".to_owned());
                }
                Cell::Bytes(bytes) => ColumnData::Binary(Some(Cow::Owned(bytes.to_vec()))),
                _ => return Err(misfit("is not bytes")),
            },
            Takes::Uuid => match cell {
                Cell::Text(text) => ColumnData::Guid(Some(
                    Uuid::try_parse(text).map_err(|_| misfit("is not a UUID"))?,
                )),
                _ => return Err(misfit("is not a UUID")),
            },
            Takes::Xml => match cell {
                Cell::Text(text) => ColumnData::Xml(Some(Cow::Owned(XmlData::new(text)))),
                _ => return Err(misfit("is not a text")),
            },
            _ => self.of_time(cell)?,
        })
    }

    /// A day, a time of day, or a moment.
    fn of_time(&self, cell: &Cell<'_>) -> Result<ColumnData<'static>, String> {
        let misfit = |reason: &str| cell.shown_before(reason);
        Ok(match self.takes {
            Takes::Date => ColumnData::Date(Some(
                moments::to_date(i64::from(day(cell)?)).map_err(misfit)?,
            )),
            Takes::Time { scale } => {
                let microseconds = match cell {
                    Cell::Time(microseconds) => Some(*microseconds),
                    Cell::Text(text) => texts::time(text),
                    _ => None,
                };
                let time = microseconds.ok_or_else(|| misfit("is not a time of day"))?;
                ColumnData::Time(Some(moments::to_time(time, scale).map_err(misfit)?))
            }
            Takes::SmallDatetime => ColumnData::SmallDateTime(Some(
                moments::to_smalldatetime(moment(cell)?).map_err(misfit)?,
            )),
            Takes::Datetime2 { scale } => ColumnData::DateTime2(Some(
                moments::to_datetime2(moment(cell)?, scale).map_err(misfit)?,
            )),
            Takes::Offset { scale } => ColumnData::DateTimeOffset(Some(
                moments::to_offset(moment(cell)?, scale).map_err(misfit)?,
            )),
            _ => ColumnData::DateTime(Some(moments::to_datetime(moment(cell)?).map_err(misfit)?)),
        })
    }
}

fn takes(info: &TypeInfo) -> Result<Takes, String> {
    match info {
        TypeInfo::FixedLen(fixed) => fixed_takes(*fixed),
        TypeInfo::VarLenSized(context) => sized_takes(context),
        TypeInfo::VarLenSizedPrecision {
            precision, scale, ..
        } => Ok(Takes::Decimal {
            precision: *precision,
            scale: *scale,
        }),
        TypeInfo::Xml { .. } => Ok(Takes::Xml),
        TypeInfo::Udt(info) => Err(info.type_name.clone()),
    }
}

fn fixed_takes(fixed: FixedLenType) -> Result<Takes, String> {
    Ok(match fixed {
        FixedLenType::Bit => Takes::Boolean,
        FixedLenType::Int1 => Takes::Integer(1),
        FixedLenType::Int2 => Takes::Integer(2),
        FixedLenType::Int4 => Takes::Integer(4),
        FixedLenType::Int8 => Takes::Integer(8),
        FixedLenType::Float4 => Takes::Single,
        FixedLenType::Float8 => Takes::Double,
        FixedLenType::Money => Takes::Money { is_small: false },
        FixedLenType::Money4 => Takes::Money { is_small: true },
        FixedLenType::Datetime => Takes::Datetime,
        FixedLenType::Datetime4 => Takes::SmallDatetime,
        FixedLenType::Null => return Err("null".to_owned()),
    })
}

fn sized_takes(context: &VarLenContext) -> Result<Takes, String> {
    let size = context.len();
    // The driver says it in one byte.
    let scale = size as u8;
    Ok(match context.r#type() {
        VarLenType::Bitn => Takes::Boolean,
        VarLenType::Intn => Takes::Integer(scale),
        VarLenType::Floatn if size == 4 => Takes::Single,
        VarLenType::Floatn => Takes::Double,
        VarLenType::Money => Takes::Money {
            is_small: size == 4,
        },
        VarLenType::NVarchar | VarLenType::NChar => Takes::Unicode(size),
        VarLenType::NText => Takes::Unicode(usize::MAX),
        VarLenType::BigVarChar | VarLenType::BigChar => encoded(context, size)?,
        VarLenType::Text => encoded(context, usize::MAX)?,
        VarLenType::BigVarBin | VarLenType::BigBinary => Takes::Bytes(size),
        VarLenType::Guid => Takes::Uuid,
        VarLenType::Daten => Takes::Date,
        VarLenType::Timen => Takes::Time { scale },
        VarLenType::Datetimen if size == 4 => Takes::SmallDatetime,
        VarLenType::Datetimen => Takes::Datetime,
        VarLenType::Datetime2 => Takes::Datetime2 { scale },
        VarLenType::DatetimeOffsetn => Takes::Offset { scale },
        VarLenType::Image => return Err("image".to_owned()),
        VarLenType::SSVariant => return Err("sql_variant".to_owned()),
        other => return Err(format!("{other:?}").to_ascii_lowercase()),
    })
}

fn encoded(context: &VarLenContext, most: usize) -> Result<Takes, String> {
    let collation = context.collation().ok_or("varchar")?;
    let encoding = collation
        .encoding()
        .map_err(|error| format!("varchar ({error})"))?;
    Ok(Takes::Encoded {
        most,
        encoding,
        only_ascii: collation.info() & IN_UTF8 != 0,
    })
}

fn check_encoded(
    text: &str,
    most: usize,
    encoding: &'static Encoding,
    only_ascii: bool,
) -> Result<(), &'static str> {
    if only_ascii && !text.is_ascii() {
        return Err(
            "has letters beyond ASCII, which are not written into varchar columns in UTF-8: \
             nvarchar takes them",
        );
    }
    let (bytes, _, is_changed) = encoding.encode(text);
    if is_changed {
        return Err("has letters that the encoding of the column does not know");
    }
    if most != NO_SIZE && bytes.len() > most {
        return Err("is longer than the column can hold");
    }
    Ok(())
}

fn boolean(cell: &Cell<'_>) -> Result<bool, String> {
    match cell {
        Cell::Boolean(value) => Some(*value),
        Cell::Integer(value @ (0 | 1)) => Some(*value == 1),
        Cell::Natural(value @ (0 | 1)) => Some(*value == 1),
        Cell::Text(text) => match text.as_ref() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| cell.shown_before("is neither true nor false"))
}

fn integer(cell: &Cell<'_>, bytes: u8) -> Result<ColumnData<'static>, String> {
    let number: Option<i64> = match cell {
        Cell::Boolean(value) => Some(i64::from(*value)),
        Cell::Integer(value) => Some(*value),
        Cell::Natural(value) => i64::try_from(*value).ok(),
        Cell::Decimal(value) => value
            .digits_with(19, 0)
            .ok()
            .and_then(|digits| digits.try_into().ok()),
        Cell::Single(value) => whole(f64::from(*value)),
        Cell::Double(value) => whole(*value),
        Cell::Text(text) => text.parse().ok(),
        _ => None,
    };
    let data = number.and_then(|number| {
        Some(match bytes {
            1 => ColumnData::U8(Some(number.try_into().ok()?)),
            2 => ColumnData::I16(Some(number.try_into().ok()?)),
            4 => ColumnData::I32(Some(number.try_into().ok()?)),
            _ => ColumnData::I64(Some(number)),
        })
    });
    data.ok_or_else(|| match bytes {
        1 => cell.shown_before("is not a whole number from 0 to 255"),
        _ => cell.shown_before(&format!(
            "is not a whole number of {} bits",
            u16::from(bytes) * 8
        )),
    })
}

/// A number that stands for one whole number alone: beyond this, neighbours are
/// more than one apart.
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
}

fn decimal(cell: &Cell<'_>) -> Result<Decimal, String> {
    let whole = |digits| Ok(Decimal { digits, scale: 0 });
    let parsed = match cell {
        Cell::Decimal(value) => return Ok(*value),
        Cell::Integer(value) => return whole(i128::from(*value)),
        Cell::Natural(value) => return whole(i128::from(*value)),
        // By the digits that show it.
        Cell::Single(value) => Decimal::parse(&value.to_string()),
        Cell::Double(value) => Decimal::parse(&value.to_string()),
        Cell::Text(text) => Decimal::parse(text),
        _ => Err("is not a decimal number"),
    };
    parsed.map_err(|reason| cell.shown_before(reason))
}

fn day(cell: &Cell<'_>) -> Result<i32, String> {
    match cell {
        Cell::Date(days) => Some(*days),
        Cell::Text(text) => texts::date(text),
        _ => None,
    }
    .ok_or_else(|| cell.shown_before("is not a date"))
}

fn moment(cell: &Cell<'_>) -> Result<i64, String> {
    match cell {
        Cell::Moment { microseconds, .. } => Some(*microseconds),
        Cell::Date(days) => Some(i64::from(*days) * 86_400_000_000),
        Cell::Text(text) => texts::moment(text),
        _ => None,
    }
    .ok_or_else(|| cell.shown_before("is not a date and time"))
}

fn text(cell: &Cell<'_>) -> Result<String, String> {
    match cell {
        Cell::Bytes(_) => Err(cell.shown_before("is not a text")),
        cell => Ok(cell.to_text()),
    }
}

#[cfg(test)]
mod tests {
    use tiberius::{BaseMetaDataColumn, Collation};

    use super::*;

    /// A column of a type that may be without a value.
    fn target(ty: TypeInfo) -> Target {
        let base = BaseMetaDataColumn {
            flags: ColumnFlag::Nullable | ColumnFlag::Updateable,
            ty,
            table_name: None,
        };
        let column = MetaDataColumn {
            base,
            col_name: "a".into(),
        };
        Target::of(&column).unwrap()
    }

    fn sized(kind: VarLenType, size: usize) -> Target {
        // Of Latin letters, in Windows' encoding.
        let collation = Some(Collation::new(0x0409, 0));
        target(TypeInfo::VarLenSized(VarLenContext::new(
            kind, size, collation,
        )))
    }

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn whole_numbers_fit_or_are_refused() {
        let tiny = sized(VarLenType::Intn, 1);
        assert_eq!(
            tiny.value(&Cell::Integer(255)),
            Ok(ColumnData::U8(Some(255)))
        );
        for wrong in [
            Cell::Integer(-1),
            Cell::Integer(256),
            Cell::Double(0.5),
            text("x"),
        ] {
            let reason = tiny.value(&wrong).unwrap_err();
            assert!(reason.contains("from 0 to 255"), "{reason}");
        }
        let int = sized(VarLenType::Intn, 4);
        for fitting in [text("-7"), Cell::Double(-7.0), Cell::Integer(-7)] {
            assert_eq!(int.value(&fitting), Ok(ColumnData::I32(Some(-7))));
        }
        assert!(int.value(&Cell::Natural(1 << 31)).is_err());
        let big = sized(VarLenType::Intn, 8);
        assert!(big.value(&Cell::Natural(u64::MAX)).is_err());
        assert_eq!(big.value(&Cell::Null), Ok(ColumnData::I64(None)));
        let bit = sized(VarLenType::Bitn, 1);
        assert_eq!(bit.value(&text("true")), Ok(ColumnData::Bit(Some(true))));
        assert!(bit.value(&Cell::Integer(2)).is_err());
    }

    #[test]
    fn a_column_that_needs_a_value_gets_one() {
        let int = target(TypeInfo::FixedLen(FixedLenType::Int4));
        assert!(int.value(&Cell::Null).is_err());
        assert_eq!(int.value(&Cell::Integer(1)), Ok(ColumnData::I32(Some(1))));
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let decimal = target(TypeInfo::VarLenSizedPrecision {
            ty: VarLenType::Decimaln,
            size: 9,
            precision: 10,
            scale: 2,
        });
        let exact = |value: &Cell<'_>| match decimal.value(value) {
            Ok(ColumnData::Numeric(Some(number))) => Some((number.value(), number.scale())),
            _ => None,
        };
        for fitting in [
            text("1.5"),
            Cell::Double(1.5),
            Cell::Decimal(Decimal::parse("1.50").unwrap()),
        ] {
            assert_eq!(exact(&fitting), Some((150, 2)));
        }
        assert_eq!(exact(&Cell::Double(0.1)), Some((10, 2)));
        assert_eq!(exact(&text("1.005")), None);
        assert_eq!(exact(&Cell::Integer(100_000_000)), None);
        assert_eq!(exact(&Cell::Double(f64::NAN)), None);
        let small = sized(VarLenType::Money, 4);
        assert!(small.value(&text("214748.3647")).is_ok());
        assert!(small.value(&text("214748.3648")).is_err());
        let money = sized(VarLenType::Money, 8);
        assert!(money.value(&text("-922337203685477.5808")).is_ok());
        assert!(money.value(&text("922337203685477.5808")).is_err());
        assert!(money.value(&text("0.00001")).is_err());
    }

    #[test]
    fn floating_point_numbers_are_finite() {
        let single = sized(VarLenType::Floatn, 4);
        assert_eq!(single.value(&text("0.5")), Ok(ColumnData::F32(Some(0.5))));
        assert!(single.value(&Cell::Double(1e300)).is_err());
        let double = sized(VarLenType::Floatn, 8);
        assert_eq!(
            double.value(&Cell::Double(1e300)),
            Ok(ColumnData::F64(Some(1e300)))
        );
        assert!(double.value(&Cell::Double(f64::INFINITY)).is_err());
        assert!(double.value(&text("nan")).is_err());
    }

    #[test]
    fn texts_are_as_long_as_the_column_allows() {
        let unicode = sized(VarLenType::NVarchar, 4);
        assert!(unicode.value(&text("ab")).is_ok());
        // Two units of UTF-16.
        assert!(unicode.value(&text("\u{1F600}")).is_ok());
        assert!(unicode.value(&text("abc")).is_err());
        assert_eq!(
            unicode.value(&Cell::Integer(12)),
            Ok(ColumnData::String(Some("12".into())))
        );
        let encoded = sized(VarLenType::BigVarChar, 2);
        assert!(encoded.value(&text("ø€")).is_ok());
        assert!(encoded.value(&text("abc")).is_err());
        let reason = encoded.value(&text("Ж")).unwrap_err();
        assert!(reason.contains("encoding"), "{reason}");
        let context = VarLenContext::new(
            VarLenType::BigVarChar,
            20,
            Some(Collation::new(0x0409 | IN_UTF8, 0)),
        );
        let utf8 = target(TypeInfo::VarLenSized(context));
        assert!(utf8.value(&text("abc")).is_ok());
        assert!(utf8.value(&text("ø")).is_err());
        let bytes = sized(VarLenType::BigVarBin, 2);
        assert!(bytes.value(&Cell::Bytes(vec![1, 2].into())).is_ok());
        assert!(bytes.value(&Cell::Bytes(vec![1, 2, 3].into())).is_err());
        assert!(bytes.value(&text("a")).is_err());
        assert!(unicode.value(&Cell::Bytes(vec![1].into())).is_err());
    }

    #[test]
    fn what_a_bulk_load_cannot_hold_is_known() {
        let without_size = sized(VarLenType::NVarchar, NO_SIZE);
        for (length, is_too_large) in [(32_767, false), (32_768, true)] {
            let value = without_size.value(&text(&"a".repeat(length))).unwrap();
            assert_eq!(without_size.is_too_large_for_bulk(&value), is_too_large);
        }
        let bytes = sized(VarLenType::BigVarBin, NO_SIZE);
        for (length, is_too_large) in [(65_535, false), (65_536, true)] {
            let value = bytes.value(&Cell::Bytes(vec![0; length].into())).unwrap();
            assert_eq!(bytes.is_too_large_for_bulk(&value), is_too_large);
        }
    }

    #[test]
    fn texts_become_what_they_say() {
        let date = sized(VarLenType::Daten, 3);
        let data = date.value(&text("2026-11-24"));
        assert_eq!(data, date.value(&Cell::Date(20_781)));
        assert!(date.value(&text("2026-02-30")).is_err());
        assert!(date.value(&Cell::Date(-800_000)).is_err());
        let time = sized(VarLenType::Timen, 6);
        assert_eq!(
            time.value(&text("00:00:01")),
            time.value(&Cell::Time(1_000_000))
        );
        let moment = Cell::Moment {
            microseconds: 1,
            is_utc: true,
        };
        let naive = sized(VarLenType::Datetime2, 6);
        assert_eq!(
            naive.value(&text("1970-01-01 00:00:00.000001")),
            naive.value(&moment)
        );
        assert!(naive.value(&text("tomorrow")).is_err());
        let Ok(ColumnData::DateTimeOffset(Some(there))) =
            sized(VarLenType::DatetimeOffsetn, 7).value(&moment)
        else {
            panic!("no moment");
        };
        assert_eq!((moments::of_offset(there), there.offset()), (1, 0));
        assert!(matches!(
            sized(VarLenType::Datetimen, 8).value(&moment),
            Ok(ColumnData::DateTime(Some(_)))
        ));
        assert!(matches!(
            sized(VarLenType::Datetimen, 4).value(&Cell::Date(0)),
            Ok(ColumnData::SmallDateTime(Some(_)))
        ));
        let id = sized(VarLenType::Guid, 16);
        let there = id.value(&text("01234567-89ab-cdef-0123-456789abcdef"));
        assert!(matches!(there, Ok(ColumnData::Guid(Some(_)))));
        assert!(id.value(&text("0123")).is_err());
        let xml = target(TypeInfo::Xml {
            schema: None,
            size: 0,
        });
        assert!(matches!(
            xml.value(&text("<a/>")),
            Ok(ColumnData::Xml(Some(_)))
        ));
    }

    #[test]
    fn types_that_nothing_goes_into_are_named() {
        let context = VarLenContext::new(VarLenType::SSVariant, 0, None);
        let named = takes(&TypeInfo::VarLenSized(context)).unwrap_err();
        assert_eq!(named, "sql_variant");
    }
}
