//! What can be said of a table without the engine.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Int64Type},
};

use super::{Table, TableError};

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

    /// The counts in its first row, one for each column; 0 for a missing one.
    pub(crate) fn counts(&self) -> Result<Vec<u64>, TableError> {
        let Some(rows) = self.open()?.next().transpose()? else {
            return Ok(Vec::new());
        };
        let count = |column: &ArrayRef| {
            let counts = column.as_primitive_opt::<Int64Type>()?;
            let count = counts.is_valid(0).then(|| counts.value(0))?;
            u64::try_from(count).ok()
        };
        let columns = rows.columns().iter();
        Ok(columns.map(|column| count(column).unwrap_or(0)).collect())
    }
}
