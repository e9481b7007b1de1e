//! Columns from the names of the folders that files lie in.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take,
    datatypes::{Field, Schema, SchemaRef},
    error::ArrowError,
};

use super::{NULL, unescaped};
use crate::tables::{
    TableError,
    batches::Columns,
    column::{Column, ColumnKind, Room},
    error::Shown,
    files::SourceFile,
    inferred::Inferred,
};

/// The columns that the folders of files give, with a value for each file.
#[derive(Default)]
pub(in crate::tables) struct Partitions {
    fields: Vec<Field>,
    /// By file, and then by column: one value each.
    values: Vec<Vec<ArrayRef>>,
}

impl Partitions {
    /// What the folders of `files` give. Where columns are `declared`, those
    /// that folders give are taken out of them.
    pub(in crate::tables) fn of(
        files: &[SourceFile],
        declared: Option<&mut Columns>,
    ) -> Result<Self, TableError> {
        let named: Vec<Vec<(String, Option<String>)>> = files
            .iter()
            .map(|file| named_values(&file.inside))
            .collect();
        let names = |file: &[(String, Option<String>)]| -> Vec<String> {
            file.iter().map(|(name, _)| name.clone()).collect()
        };
        let common = named.first().map(|first| names(first)).unwrap_or_default();
        if let Some(other) = named.iter().position(|file| names(file) != common) {
            let message = format!(
                "{} and {} lie in folders that are named after different columns",
                files[0].shown, files[other].shown
            );
            return Err(TableError::refused("columns_differ", message));
        }
        let kinds = kinds(&common, &named, declared);
        let mut partitions = Self {
            fields: Vec::new(),
            values: vec![Vec::new(); files.len()],
        };
        for (column, (name, kind)) in common.iter().zip(kinds).enumerate() {
            let Some(kind) = kind else {
                continue;
            };
            partitions
                .fields
                .push(Field::new(name, kind.data_type(), true));
            for (file, values) in named.iter().enumerate() {
                let value = single(&kind, values[column].1.as_deref()).map_err(|reason| {
                    let (file, name) = (&files[file].shown, Shown(name));
                    let message = format!("{file}: the folder of column {name}: {reason}");
                    TableError::refused("bad_partition", message)
                })?;
                partitions.values[file].push(value);
            }
        }
        Ok(partitions)
    }

    /// A table with columns of its own gets those that folders give, behind
    /// them and where it has none of that name.
    pub(in crate::tables) fn extended(&self, schema: &SchemaRef) -> SchemaRef {
        if self.fields.is_empty() {
            return Arc::clone(schema);
        }
        let own = schema.fields().iter().cloned();
        let given = self.given(schema).map(|(_, field)| Arc::new(field.clone()));
        Arc::new(Schema::new(own.chain(given).collect::<Vec<_>>()))
    }

    /// The values of the column at `place` for so many rows of a file.
    pub(in crate::tables) fn column(
        &self,
        file: usize,
        place: usize,
        rows: usize,
    ) -> Result<ArrayRef, ArrowError> {
        let first = UInt32Array::from(vec![0; rows]);
        take(&self.values[file][place], &first, None)
    }

    /// The columns that folders add to those of the files, `own`.
    pub(in crate::tables) fn given<'a>(
        &'a self,
        own: &'a Schema,
    ) -> impl Iterator<Item = (usize, &'a Field)> {
        let fields = self.fields.iter().enumerate();
        fields.filter(|(_, field)| own.index_of(field.name()).is_err())
    }
}

/// The values that the folders in the path of a file stand for, by column.
fn named_values(path: &str) -> Vec<(String, Option<String>)> {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let named = folders
        .split('/')
        .filter_map(|folder| folder.split_once('='));
    let named = named.filter(|(name, _)| !name.is_empty());
    let value = |value: &str| (!value.is_empty() && value != NULL).then(|| unescaped(value));
    named
        .map(|(name, text)| (unescaped(name), value(text)))
        .collect()
}

/// What each column holds; none where the flow does not want it.
fn kinds(
    names: &[String],
    named: &[Vec<(String, Option<String>)>],
    declared: Option<&mut Columns>,
) -> Vec<Option<ColumnKind>> {
    if let Some(declared) = declared {
        let kind = |name| declared.shift_remove(name);
        return names.iter().map(kind).collect();
    }
    let inferred = |column: usize| {
        let mut inferred = Inferred::Nothing;
        let values = named.iter().filter_map(|file| file[column].1.as_deref());
        values.for_each(|value| inferred.observe(value));
        Some(ColumnKind::Plain(inferred.column_type()))
    };
    (0..names.len()).map(inferred).collect()
}

fn single(kind: &ColumnKind, value: Option<&str>) -> Result<ArrayRef, String> {
    let mut column = Column::new(kind, Room { rows: 1, text: 0 })?;
    match value {
        None => column.push_null(),
        Some(text) => {
            let pushed = column.push(text);
            pushed.map_err(|reason| format!("{} {reason}", Shown(text)))?;
        }
    }
    column.finish()
}
