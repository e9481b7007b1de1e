//! SQLite.

mod answers;
mod examine;
mod failure;
mod fit;
#[cfg(test)]
mod tests;

use std::path::Path;

use millstream_shared::connection::SqliteFile;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Either, Executor, Row, SqlSafeStr,
    SqliteConnection, Statement as _,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};
use tokio::time::timeout;

pub(super) use answers::query;

use super::{
    Around, CLOSING_MAX,
    error::{DatabaseError, Place},
    kind::Kind,
    marker::{self, Change, Marker},
    names::{Parts, STAGE, TableName, quoted},
    session::{Load, Session},
    statement::Statement,
};
use crate::{fault, tables::Files};
use examine::{Allowed, examine};
use failure::failure;

/// How many values one statement brings at the most.
const VALUES_MAX: usize = 10_000;

/// A connection to a file of SQLite.
pub(super) struct Sqlite {
    connection: SqliteConnection,
}

impl Sqlite {
    /// Opens the file, which is made where it is not there.
    pub(super) async fn connect(
        file: &SqliteFile,
        files: &Files,
        around: Around,
    ) -> Result<Self, DatabaseError> {
        let path = files.database(&file.path)?;
        Self::open(options(&path, around).create_if_missing(true)).await
    }

    /// The same for a statement that a step may execute.
    pub(super) async fn connect_for(
        statement: &Statement<'_>,
        file: &SqliteFile,
        files: &Files,
        around: Around,
    ) -> Result<Self, DatabaseError> {
        let mut session = Self::connect(file, files, around).await?;
        session.take_back().await?;
        let (path, sql) = (files.database(&file.path)?, statement.sql.to_owned());
        examine(path, sql, Allowed::Changing, around).await?;
        Ok(session)
    }

    /// Opens the file for a statement that can change nothing.
    async fn connect_reading(
        statement: &Statement<'_>,
        file: &SqliteFile,
        files: &Files,
        around: Around,
    ) -> Result<Self, DatabaseError> {
        let path = files.database(&file.path)?;
        let sql = statement.sql.to_owned();
        let examined = examine(path.clone(), sql.clone(), Allowed::Reading, around).await;
        match examined {
            Err(error) if error.code == failure::UNFINISHED => {
                let mut writer = Self::open(options(&path, around)).await?;
                writer.take_back().await?;
                writer.close().await;
                examine(path.clone(), sql, Allowed::Reading, around).await?;
            }
            examined => examined?,
        }
        Self::open(options(&path, around).read_only(true)).await
    }

    async fn open(options: SqliteConnectOptions) -> Result<Self, DatabaseError> {
        let connection = SqliteConnection::connect_with(&options).await;
        let connection = connection.map_err(failure)?;
        Ok(Self { connection })
    }

    /// Takes back what somebody left half done who died while writing: SQLite does
    /// so when somebody reads who may write as well.
    async fn take_back(&mut self) -> Result<(), DatabaseError> {
        let reading = "select 1 from sqlite_schema limit 1".to_owned();
        self.run(reading).await.map(drop)
    }

    async fn run(&mut self, sql: String) -> Result<u64, DatabaseError> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        Ok(ran.await.map_err(failure)?.rows_affected())
    }

    /// What the columns of a table are declared to hold.
    async fn kinds(&mut self, load: &Load<'_>) -> Result<Vec<Kind>, DatabaseError> {
        let declared = declared(&mut self.connection, &load.table).await?;
        if declared.is_empty() {
            let message = format!("there is no table {}", load.table.quoted('`'));
            return Err(DatabaseError::refused("unknown_table", message));
        }
        let kind = |name: &String| {
            let is_same = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
            let Some((_, text)) = declared.iter().find(is_same) else {
                let table = load.table.quoted('`');
                let message = format!("the table {table} has no column `{name}`");
                return Err(DatabaseError::refused("unknown_column", message));
            };
            Ok(answers::kind_of(text))
        };
        load.columns.iter().map(|(name, _)| kind(name)).collect()
    }

    /// Brings the rows of a load into `table`, which is quoted, many with each
    /// statement.
    async fn insert(
        &mut self,
        table: &str,
        load: &Load<'_>,
        kinds: &[Kind],
    ) -> Result<(), DatabaseError> {
        let names = load.columns.iter().map(|(name, _)| quoted(name, '"'));
        let names = names.collect::<Vec<_>>().join(", ");
        let values = format!("({})", vec!["?"; kinds.len()].join(", "));
        let rows_max = (VALUES_MAX / kinds.len()).clamp(1, 500);
        while let Some((rows, before)) = load.next().await? {
            let first_row = before + 1;
            let mut next = 0;
            while next < rows.count() {
                let end = rows.count().min(next + rows_max);
                let mut arguments = SqliteArguments::default();
                for row in next..end {
                    for (index, cell) in rows.row(row).enumerate() {
                        let place = Place {
                            column: &load.columns[index].0,
                            row: first_row + row as u64,
                        };
                        let bound = cell
                            .map_err(str::to_owned)
                            .and_then(|cell| fit::bind(&mut arguments, &kinds[index], &cell));
                        bound.map_err(|reason| {
                            DatabaseError::value("type_mismatch", place, reason)
                        })?;
                    }
                }
                let values = vec![values.as_str(); end - next].join(", ");
                let sql = format!("insert into {table} ({names}) values {values}");
                let inserted = sqlx::query_with(AssertSqlSafe(sql), arguments);
                let inserted = inserted.execute(&mut self.connection);
                inserted.await.map_err(failure)?;
                fault::reach(fault::MID_COPY);
                next = end;
            }
        }
        Ok(())
    }
}

fn options(path: &Path, around: Around) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(around.lock_wait)
        .disable_statement_logging()
}

/// The names of a table's columns and the types that they are declared with.
async fn declared(
    connection: &mut SqliteConnection,
    table: &TableName<'_>,
) -> Result<Vec<(String, String)>, DatabaseError> {
    let sql = "select name, type from pragma_table_info(?, ?)";
    let rows = sqlx::query(sql)
        .bind(table.name)
        .bind(table.schema.unwrap_or("main"))
        .fetch_all(connection)
        .await
        .map_err(failure)?;
    let column = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter()
        .map(column)
        .collect::<Result<_, _>>()
        .map_err(failure)
}

/// The values of a statement's placeholders, as many as it has.
async fn prepared(
    connection: &mut SqliteConnection,
    statement: &Statement<'_>,
) -> Result<(sqlx::sqlite::SqliteStatement, SqliteArguments), DatabaseError> {
    let sql = AssertSqlSafe(statement.sql.to_owned()).into_sql_str();
    let prepared = connection.prepare(sql).await.map_err(failure)?;
    let wanted = match prepared.parameters() {
        Some(Either::Right(wanted)) => wanted,
        _ => 0,
    };
    statement.check_params(wanted)?;
    let mut arguments = SqliteArguments::default();
    for value in statement.params {
        let bound = match value {
            Value::Null => fit::add(&mut arguments, None::<i64>),
            Value::Bool(value) => fit::add(&mut arguments, i64::from(*value)),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => fit::add(&mut arguments, number),
                (None, Some(number)) => fit::add(&mut arguments, number),
                (None, None) => fit::add(&mut arguments, number.to_string()),
            },
            Value::String(text) => fit::add(&mut arguments, text.clone()),
            nested => fit::add(&mut arguments, nested.to_string()),
        };
        bound.map_err(|reason| DatabaseError::refused("wrong_params", reason))?;
    }
    Ok((prepared, arguments))
}

impl Session for Sqlite {
    const DEFINITIONS_COMMIT: bool = false;

    async fn prepare_markers(&mut self) -> Result<(), DatabaseError> {
        let table = marker::TABLE;
        self.run(format!(
            "create table if not exists {table} (run text not null, step text not null, \
             rows integer not null, inserted integer, updated integer, \
             at integer not null default (unixepoch()), primary key (run, step)); \
             create index if not exists {table}_at on {table} (at)"
        ))
        .await
        .map(drop)
    }

    async fn begin(&mut self) -> Result<(), DatabaseError> {
        // There is one writer at a time: who else is one is waited for here.
        self.run("begin immediate".to_owned()).await.map(drop)
    }

    async fn mark(&mut self, marker: &Marker) -> Result<Option<Change>, DatabaseError> {
        let table = marker::TABLE;
        let sql = format!(
            "insert into {table} (run, step, rows) values (?, ?, 0) on conflict do nothing"
        );
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(marker.run())
            .bind(marker.step())
            .execute(&mut self.connection);
        if written.await.map_err(failure)?.rows_affected() == 1 {
            return Ok(None);
        }
        let sql = format!("select rows, inserted, updated from {table} where run = ? and step = ?");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(marker.run())
            .bind(marker.step())
            .fetch_one(&mut self.connection)
            .await
            .map_err(failure)?;
        let change = || {
            Ok(Change::of_marker(
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
            ))
        };
        change().map(Some).map_err(failure)
    }

    async fn note(&mut self, marker: &Marker, change: Change) -> Result<(), DatabaseError> {
        let sql = format!(
            "update {} set rows = ?, inserted = ?, updated = ? where run = ? and step = ?",
            marker::TABLE
        );
        let (rows, inserted, updated) = change.for_marker();
        let noted = sqlx::query(AssertSqlSafe(sql))
            .bind(rows)
            .bind(inserted)
            .bind(updated)
            .bind(marker.run())
            .bind(marker.step())
            .execute(&mut self.connection);
        noted.await.map(drop).map_err(failure)
    }

    async fn make_table(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let sql = load.definition('"', |kind, _| type_of(kind));
        self.run(sql).await.map(drop)
    }

    async fn clear(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let table = load.table.quoted('"');
        self.run(format!("delete from {table}")).await.map(drop)
    }

    async fn append(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let kinds = self.kinds(load).await?;
        let table = load.table.quoted('"');
        self.insert(&table, load, &kinds).await
    }

    async fn upsert(&mut self, load: &Load<'_>) -> Result<Change, DatabaseError> {
        let kinds = self.kinds(load).await?;
        let stage = format!("temp.{STAGE}");
        let parts = Parts::new(&load.table, stage, &load.names(), load.keys, '"');
        self.run(format!(
            "create temp table {STAGE} as select {} from {} limit 0",
            parts.columns(),
            parts.table
        ))
        .await?;
        // Understood before any row is brought, so that it fails early.
        let merge = AssertSqlSafe(parts.merge_on_conflict()).into_sql_str();
        let understood = self.connection.prepare(merge).await;
        understood.map_err(|error| {
            if failure::lacks_unique_index(&error) {
                load.no_unique_index()
            } else {
                failure(error)
            }
        })?;
        self.insert(&parts.stage, load, &kinds).await?;
        let duplicate = sqlx::query(AssertSqlSafe(parts.find_duplicate()))
            .fetch_optional(&mut self.connection)
            .await
            .map_err(failure)?;
        if let Some(keys) = duplicate {
            let keys: String = keys.try_get_unchecked(0).map_err(failure)?;
            return Err(load.duplicate(&keys));
        }
        let known = sqlx::query(AssertSqlSafe(parts.count_known())).fetch_one(&mut self.connection);
        let known: i64 = known
            .await
            .and_then(|row| row.try_get(0))
            .map_err(failure)?;
        self.run(parts.merge_on_conflict()).await?;
        Ok(load.upserted(known.unsigned_abs()).await)
    }

    async fn change(&mut self, statement: &Statement<'_>) -> Result<u64, DatabaseError> {
        let (_, arguments) = prepared(&mut self.connection, statement).await?;
        let sql = AssertSqlSafe(statement.sql.to_owned());
        let changed = sqlx::query_with(sql, arguments).execute(&mut self.connection);
        Ok(changed.await.map_err(failure)?.rows_affected())
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.run("commit".to_owned()).await.map(drop)
    }

    async fn undo(&mut self) -> Result<(), DatabaseError> {
        self.run("rollback".to_owned()).await.map(drop)
    }

    async fn delete_old_markers(&mut self) -> Result<(), DatabaseError> {
        let (table, days, most) = (marker::TABLE, marker::DAYS, marker::DELETED_MAX);
        self.run(format!(
            "delete from {table} where rowid in (select rowid from {table} \
             where at < unixepoch() - {days} * 86400 limit {most})"
        ))
        .await
        .map(drop)
    }

    async fn close(self) {
        drop(timeout(CLOSING_MAX, self.connection.close()).await);
    }
}

/// What a column is declared as that is made for values of a kind. SQLite holds
/// what it is given, except that it makes numbers of texts where the declared
/// type does not speak of text.
fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "BOOLEAN".to_owned(),
        Kind::Integer { .. } => "INTEGER".to_owned(),
        Kind::Single | Kind::Double => "DOUBLE".to_owned(),
        Kind::Decimal { precision, scale } => format!("DECIMAL_TEXT({precision}, {scale})"),
        Kind::Text | Kind::Uuid => "TEXT".to_owned(),
        Kind::Bytes => "BLOB".to_owned(),
        Kind::Date => "DATE".to_owned(),
        Kind::Time => "TIME".to_owned(),
        Kind::Moment { is_utc: true } => "TIMESTAMPTZ".to_owned(),
        Kind::Moment { is_utc: false } => "TIMESTAMP".to_owned(),
        Kind::List(_) | Kind::Object => "JSON_TEXT".to_owned(),
        Kind::Open(otherwise) => type_of(otherwise),
    }
}
