//! The shape of a JSON column, inferred from all of its values.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use indexmap::IndexMap;
use millstream_shared::flow::step::ColumnType;
use serde_json::Value;

use crate::tables::{
    column::{ColumnKind, plain_type},
    inferred::Inferred,
};

/// A column with more members than this in its objects, all levels counted,
/// is text: such objects are dictionaries and not records.
const NESTED_FIELDS_MAX: usize = 500;

/// What the values of a column seen so far have in common.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    /// There was no value.
    Nothing,
    /// Single values.
    Scalar(Inferred),
    /// Lists of one shape.
    List(Box<Shape>),
    /// Objects.
    Object(IndexMap<String, Shape>),
    /// Values that have no shape in common.
    Mixed,
}

impl Shape {
    /// The shape of one value, given as JSON.
    pub(super) fn of(json: &str) -> Self {
        match json.as_bytes().first() {
            Some(b'n') => Self::Nothing,
            Some(b'"') => Self::Scalar(Inferred::Text),
            Some(b'[' | b'{') => serde_json::from_str(json).map_or(Self::Mixed, Self::of_value),
            _ => Self::Scalar(Inferred::of(json)),
        }
    }

    fn of_value(value: Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Scalar(Inferred::Boolean),
            Value::String(_) => Self::Scalar(Inferred::Text),
            Value::Number(number) => Self::Scalar(Inferred::of(&number.to_string())),
            Value::Array(items) => {
                let items = items.into_iter().map(Self::of_value);
                Self::List(Box::new(items.fold(Self::Nothing, Self::and)))
            }
            Value::Object(members) => {
                let shape = |(name, value)| (name, Self::of_value(value));
                Self::Object(members.into_iter().map(shape).collect())
            }
        }
    }

    /// Takes in one more value, given as JSON.
    pub(super) fn observe(&mut self, json: &str) {
        let is_decided = match self {
            Self::Mixed => true,
            Self::Scalar(Inferred::Text) => !json.starts_with(['[', '{']),
            _ => false,
        };
        if !is_decided {
            *self = std::mem::replace(self, Self::Mixed).and(Self::of(json));
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            (Self::Scalar(one), Self::Scalar(other)) => Self::Scalar(one.and(other)),
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.and(*other))),
            (Self::Object(mut one), Self::Object(other)) => {
                for (name, shape) in other {
                    let known = one.entry(name).or_insert(Self::Nothing);
                    *known = std::mem::replace(known, Self::Mixed).and(shape);
                }
                if one.len() > NESTED_FIELDS_MAX {
                    return Self::Mixed;
                }
                Self::Object(one)
            }
            _ => Self::Mixed,
        }
    }

    /// What a column of this shape holds.
    pub(super) fn column_kind(&self) -> ColumnKind {
        let mut room = NESTED_FIELDS_MAX;
        match self {
            Self::Scalar(inferred) => ColumnKind::Plain(inferred.column_type()),
            Self::List(_) | Self::Object(_) => self
                .data_type(&mut room)
                .map_or(ColumnKind::Plain(ColumnType::String), ColumnKind::Nested),
            Self::Nothing | Self::Mixed => ColumnKind::Plain(ColumnType::String),
        }
    }

    /// The type of a nested column; none where it has no type of its own.
    fn data_type(&self, room: &mut usize) -> Option<DataType> {
        *room = room.checked_sub(1)?;
        match self {
            Self::Mixed => None,
            Self::Nothing => Some(plain_type(ColumnType::String)),
            Self::Scalar(inferred) => Some(plain_type(inferred.column_type())),
            Self::List(item) => {
                let item = Field::new_list_field(item.data_type(room)?, true);
                Some(DataType::List(Arc::new(item)))
            }
            // Parquet has no objects without members.
            Self::Object(members) if members.is_empty() => None,
            Self::Object(members) => {
                let field = |(name, shape): (&String, &Self)| {
                    Some(Field::new(name, shape.data_type(room)?, true))
                };
                let fields: Option<Fields> = members.iter().map(field).collect();
                Some(DataType::Struct(fields?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(values: &[&str]) -> ColumnKind {
        let mut shape = Shape::Nothing;
        values.iter().for_each(|value| shape.observe(value));
        shape.column_kind()
    }

    fn text() -> ColumnKind {
        ColumnKind::Plain(ColumnType::String)
    }

    #[test]
    fn single_values_are_typed_by_what_they_have_in_common() {
        for (values, expected) in [
            (&["null"][..], ColumnType::String),
            (&["1", "null"][..], ColumnType::Integer),
            (&["1", "2.5"][..], ColumnType::Number),
            (&["true", "false"][..], ColumnType::Boolean),
            (&[r#""2026-11-24""#][..], ColumnType::String),
            (&["1", r#""1""#][..], ColumnType::String),
            (&["18446744073709551615"][..], ColumnType::String),
        ] {
            assert_eq!(kind(values), ColumnKind::Plain(expected), "{values:?}");
        }
    }

    #[test]
    fn lists_and_objects_of_one_shape_stay_nested() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        assert_eq!(
            kind(&["[1]", "[]", "null", "[2.5]"]),
            ColumnKind::Nested(list)
        );

        let fields = vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, true),
        ];
        let object = DataType::Struct(fields.into());
        assert_eq!(
            kind(&[r#"{"a":1}"#, r#"{"b":"x"}"#]),
            ColumnKind::Nested(object)
        );
    }

    #[test]
    fn values_without_a_shape_in_common_are_text() {
        assert_eq!(kind(&["[1]", "1"]), text());
        assert_eq!(kind(&[r#""x""#, "{\"a\":1}"]), text());
        assert_eq!(kind(&["[1]", "[[1]]"]), text());
        assert_eq!(kind(&["{}"]), text());
        let dictionary: Vec<String> = (0..NESTED_FIELDS_MAX + 1)
            .map(|n| format!("{{\"k{n}\":1}}"))
            .collect();
        let dictionary: Vec<&str> = dictionary.iter().map(String::as_str).collect();
        assert_eq!(kind(&dictionary), text());
    }
}
