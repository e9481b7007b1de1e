//! What can be said of a table without the engine.

use datafusion::arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type},
};

use super::Table;

/// What the values of a column can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Numbers, exact or not.
    Number,
    /// Texts.
    Text,
    /// Days and moments, which are written as texts.
    Time,
    /// `true` and `false`.
    Truth,
    /// Lists, structs, bytes and the like.
    Other,
}

impl Table {
    /// The names of its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
    }

    /// The kind of a column, if there is one of this name.
    pub(crate) fn kind_of(&self, column: &str) -> Option<Kind> {
        let (_, field) = self.schema().fields().find(column)?;
        Some(match field.data_type() {
            kind if kind.is_numeric() => Kind::Number,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            kind if kind.is_temporal() => Kind::Time,
            DataType::Boolean => Kind::Truth,
            _ => Kind::Other,
        })
    }

    /// The count in the first row of the column at a place; 0 where there is none.
    pub(crate) fn count_in(&self, place: usize) -> u64 {
        let batch = self.batches().iter().find(|batch| batch.num_rows() > 0);
        let counts = batch.and_then(|batch| batch.columns().get(place));
        let counts = counts.and_then(|counts| counts.as_primitive_opt::<Int64Type>());
        let count = counts
            .filter(|counts| counts.is_valid(0))
            .map(|counts| counts.value(0));
        count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or_default()
    }
}
