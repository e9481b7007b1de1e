//! Rows into a table of SQL Server, by bulk loads.

use std::vec::IntoIter;

use tiberius::{ColumnData, Query, SqlBulkCopyOption, SqlBulkCopyOptions, TokenRow, error::Error};

use super::{Client, convert::Target, failure::failure};
use crate::{
    databases::{
        error::{DatabaseError, Place},
        names::quoted,
        rows::Rows,
        session::Load,
    },
    fault,
};

/// After how many rows a test may let the process die.
const POINT_EVERY: u64 = 500;

/// A row on its way.
struct Row {
    values: Vec<ColumnData<'static>>,
    /// From 1.
    number: u64,
    /// Whether the driver would refuse it in a bulk load.
    is_large: bool,
}

/// Brings the rows of a load into `table`, which is quoted. Constraints hold and
/// triggers run as for any `insert`, and a missing value stays missing where the
/// column has a default.
pub(super) async fn insert(
    client: &mut Client,
    table: &str,
    load: &Load<'_>,
) -> Result<(), DatabaseError> {
    let names = names(load);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut coming = Coming {
        targets: targets(client, table, &names, load).await?,
        load,
        rows: Vec::new().into_iter(),
    };
    while let Some(row) = coming.next().await? {
        let large = if row.is_large {
            Some(row)
        } else {
            bulk(client, table, &names, row, &mut coming).await?
        };
        if let Some(row) = large {
            alone(client, table, &names, row).await?;
        }
    }
    Ok(())
}

/// Fails where rows of a load cannot go into `table`, which is quoted.
pub(super) async fn check(
    client: &mut Client,
    table: &str,
    load: &Load<'_>,
) -> Result<(), DatabaseError> {
    let names = names(load);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    targets(client, table, &names, load).await.map(drop)
}

fn names(load: &Load<'_>) -> Vec<String> {
    let names = load.columns.iter().map(|(name, _)| quoted(name, '['));
    names.collect()
}

fn options() -> SqlBulkCopyOptions {
    SqlBulkCopyOption::CheckConstraints
        | SqlBulkCopyOption::FireTriggers
        | SqlBulkCopyOption::KeepNulls
}

/// The columns that rows go into. The driver would leave out those that cannot
/// be written.
async fn targets(
    client: &mut Client,
    table: &str,
    names: &[&str],
    load: &Load<'_>,
) -> Result<Vec<Target>, DatabaseError> {
    let columns = client
        .column_metadata(table, names)
        .await
        .map_err(failure)?;
    let columns = columns.iter().zip(&load.columns);
    let targets = columns.map(|(column, (name, _))| {
        if !column.base().is_updateable() {
            let message = format!(
                "column `{name}` cannot be written: the server itself makes the values of identity, \
                 computed and rowversion columns"
            );
            return Err(DatabaseError::refused("unknown_column", message));
        }
        Target::of(column).map_err(|kind| {
            let message =
                format!("column `{name}` is of the type {kind}, which no value can be loaded into");
            DatabaseError::refused("unsupported_type", message)
        })
    });
    targets.collect()
}

/// Brings rows by one bulk load, from `first` to the last or to one that is too
/// large for it, which is handed back.
async fn bulk(
    client: &mut Client,
    table: &str,
    names: &[&str],
    first: Row,
    coming: &mut Coming<'_>,
) -> Result<Option<Row>, DatabaseError> {
    let loading = client.bulk_insert_with_options(table, names, options(), &[]);
    let mut loading = loading.await.map_err(failure)?;
    let (mut next, mut count) = (Some(first), 0_u64);
    while let Some(row) = next.take_if(|row| !row.is_large) {
        let number = row.number;
        let mut values = TokenRow::with_capacity(row.values.len());
        for value in row.values {
            values.push(value);
        }
        let sent = loading.send(values).await;
        sent.map_err(|error| of_row(error, number))?;
        count += 1;
        if count.is_multiple_of(POINT_EVERY) {
            fault::reach(fault::MID_COPY);
        }
        next = coming.next().await?;
    }
    fault::reach(fault::MID_COPY);
    loading.finalize().await.map_err(failure)?;
    Ok(next)
}

/// Brings one row by a statement of its own.
async fn alone(
    client: &mut Client,
    table: &str,
    names: &[&str],
    row: Row,
) -> Result<(), DatabaseError> {
    let values = Query::placeholders(1, names.len());
    let sql = format!(
        "insert into {table} ({}) values ({values})",
        names.join(", ")
    );
    let mut query = Query::new(sql);
    for value in row.values {
        query.bind(value);
    }
    let inserted = query.execute(client).await;
    inserted
        .map(drop)
        .map_err(|error| of_row(error, row.number))
}

/// Why a row could not be brought.
fn of_row(error: Error, number: u64) -> DatabaseError {
    let is_about_value = matches!(error, Error::BulkInput(_) | Error::Encoding(_));
    let error = failure(error);
    if !is_about_value {
        return error;
    }
    DatabaseError::refused("type_mismatch", format!("row {number}: {}", error.message))
}

/// The rows that are still to be brought, as the columns take them.
struct Coming<'l> {
    targets: Vec<Target>,
    load: &'l Load<'l>,
    rows: IntoIter<Row>,
}

impl Coming<'_> {
    async fn next(&mut self) -> Result<Option<Row>, DatabaseError> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some((rows, before)) = self.load.next().await? else {
                return Ok(None);
            };
            let rows = (0..rows.count()).map(|row| self.row(&rows, row, before));
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            self.rows = rows.into_iter();
        }
    }

    /// A row of a piece that comes behind so many others.
    fn row(&self, rows: &Rows, row: usize, before: u64) -> Result<Row, DatabaseError> {
        let number = before + row as u64 + 1;
        let mut values = Vec::with_capacity(self.targets.len());
        let mut is_large = false;
        for (index, cell) in rows.row(row).enumerate() {
            let target = &self.targets[index];
            let value = cell
                .map_err(str::to_owned)
                .and_then(|cell| target.value(&cell));
            let value = value.map_err(|reason| {
                let place = Place {
                    column: &self.load.columns[index].0,
                    row: number,
                };
                DatabaseError::value("type_mismatch", place, reason)
            })?;
            is_large |= target.is_too_large_for_bulk(&value);
            values.push(value);
        }
        Ok(Row {
            values,
            number,
            is_large,
        })
    }
}
