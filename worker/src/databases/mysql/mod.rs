//! MySQL and MariaDB.

mod answers;
mod failure;
mod insert;

use std::time::Duration;

use millstream_shared::connection::{Server, Tls};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Either, Executor, MySqlConnection, Row,
    SqlSafeStr, Statement as _,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlSslMode, MySqlStatement},
};
use tokio::time::timeout;

pub(super) use answers::query;

use super::{
    Around, CLOSING_MAX, CONNECT_MAX,
    cell::Cell,
    error::{self, DatabaseError},
    kind::Kind,
    marker::{self, Change, Marker},
    names::{Parts, STAGE, quoted},
    session::{Load, Session},
    statement::Statement,
};
use failure::failure;
use insert::{SCALE_MAX, bind, insert};

/// The usual port.
const PORT: u16 = 3306;

/// Ways of keeping tables that know transactions.
const TRANSACTIONAL: &[&str] = &["innodb", "ndbcluster", "ndb", "rocksdb", "tokudb"];

/// A connection to MySQL or MariaDB.
pub(super) struct Mysql {
    connection: MySqlConnection,
}

impl Mysql {
    /// Connects.
    pub(super) async fn connect(server: &Server, around: Around) -> Result<Self, DatabaseError> {
        let options = options(server);
        let connecting = MySqlConnection::connect_with(&options);
        let connection = match timeout(CONNECT_MAX, connecting).await {
            Ok(connected) => connected.map_err(|error| failure::of_connecting(error, server))?,
            Err(_) => {
                return Err(error::silent(server, PORT));
            }
        };
        let mut session = Self { connection };
        session.set_up(around.lock_wait).await?;
        Ok(session)
    }

    /// Has the server give up waiting for locks, and refuse what does not fit
    /// instead of storing something else.
    async fn set_up(&mut self, lock_wait: Duration) -> Result<(), DatabaseError> {
        let seconds = lock_wait.as_secs().max(1);
        self.run(format!(
            "set session innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}, \
             sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES')"
        ))
        .await
        .map(drop)
    }

    async fn run(&mut self, sql: String) -> Result<u64, DatabaseError> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        Ok(ran.await.map_err(failure)?.rows_affected())
    }

    /// Fails where the table of a load is not there, or knows no transactions.
    async fn check(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let sql = "select lower(engine) from information_schema.tables \
                   where table_schema = coalesce(?, database()) and table_name = ?";
        let row = sqlx::query(sql)
            .bind(load.table.schema)
            .bind(load.table.name)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(failure)?;
        let table = load.table.quoted('`');
        let Some(row) = row else {
            let message = format!("there is no table {table}");
            return Err(DatabaseError::refused("unknown_table", message));
        };
        let engine: Option<String> = row.try_get_unchecked(0).map_err(failure)?;
        match engine {
            Some(engine) if !TRANSACTIONAL.contains(&engine.as_str()) => {
                let message = format!(
                    "the table {table} is kept by {engine}, which knows no transactions: \
                     `alter table {table} engine = InnoDB` changes that"
                );
                Err(DatabaseError::refused("not_transactional", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is a unique index on exactly the keys of a load.
    async fn has_unique_index(&mut self, load: &Load<'_>) -> Result<bool, DatabaseError> {
        let keys = vec!["?"; load.keys.len()].join(", ");
        let count = load.keys.len();
        let sql = format!(
            "select 1 from information_schema.statistics \
             where table_schema = coalesce(?, database()) and table_name = ? and non_unique = 0 \
             group by index_name having count(*) = {count} \
             and sum(column_name in ({keys})) = {count} limit 1"
        );
        let mut asked = sqlx::query(AssertSqlSafe(sql))
            .bind(load.table.schema)
            .bind(load.table.name);
        for key in load.keys {
            asked = asked.bind(key);
        }
        let found = asked.fetch_optional(&mut self.connection).await;
        Ok(found.map_err(failure)?.is_some())
    }
}

/// The statement as the server understands it, and the values that it gets.
async fn prepared(
    connection: &mut MySqlConnection,
    statement: &Statement<'_>,
) -> Result<(MySqlStatement, MySqlArguments), DatabaseError> {
    let sql = AssertSqlSafe(statement.sql.to_owned()).into_sql_str();
    let prepared = connection.prepare(sql).await.map_err(failure)?;
    let wanted = match prepared.parameters() {
        Some(Either::Right(wanted)) => wanted,
        _ => 0,
    };
    statement.check_params(wanted)?;
    let mut arguments = MySqlArguments::default();
    for value in statement.params {
        let cell = match value {
            Value::Null => Cell::Null,
            Value::Bool(value) => Cell::Boolean(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), ..) => Cell::Integer(number),
                (_, Some(number), _) => Cell::Natural(number),
                (_, _, Some(number)) => Cell::Double(number),
                _ => Cell::Text(number.to_string().into()),
            },
            Value::String(text) => Cell::Text(text.as_str().into()),
            nested => Cell::Text(nested.to_string().into()),
        };
        let bound = bind(&mut arguments, &cell);
        bound.map_err(|reason| DatabaseError::refused("wrong_params", reason))?;
    }
    Ok((prepared, arguments))
}

impl Session for Mysql {
    const DEFINITIONS_COMMIT: bool = true;

    async fn prepare_markers(&mut self) -> Result<(), DatabaseError> {
        let table = marker::TABLE;
        let sql = "select 1 from information_schema.tables \
                   where table_schema = database() and table_name = ?";
        let found = sqlx::query(sql).bind(table);
        let found = found.fetch_optional(&mut self.connection).await;
        if found.map_err(failure)?.is_some() {
            return Ok(());
        }
        let made = self.run(format!(
            "create table if not exists {table} (run varchar(64) not null, \
             step varchar(190) not null, `rows` bigint not null, inserted bigint, updated bigint, \
             at datetime(6) not null default current_timestamp(6), primary key (run, step), \
             index {table}_at (at)) character set ascii collate ascii_bin engine = InnoDB"
        ));
        made.await.map(drop).map_err(|error| DatabaseError {
            message: format!(
                "the table `{table}`, which keeps that a step is done, cannot be made: {}",
                error.message
            ),
            ..error
        })
    }

    async fn begin(&mut self) -> Result<(), DatabaseError> {
        self.run("start transaction".to_owned()).await.map(drop)
    }

    async fn mark(&mut self, marker: &Marker) -> Result<Option<Change>, DatabaseError> {
        let table = marker::TABLE;
        let sql = format!("insert into {table} (run, step, `rows`) values (?, ?, 0)");
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(marker.run())
            .bind(marker.step())
            .execute(&mut self.connection);
        match written.await {
            Ok(_) => return Ok(None),
            Err(error) if failure::is_duplicate(&error) => {}
            Err(error) => return Err(failure(error)),
        }
        let sql = format!(
            "select `rows`, inserted, updated from {table} where run = ? and step = ? \
             lock in share mode"
        );
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
            "update {} set `rows` = ?, inserted = ?, updated = ? where run = ? and step = ?",
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
        let sql = load.definition('`', type_of);
        self.run(format!("{sql} engine = InnoDB")).await.map(drop)
    }

    async fn clear(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        // Truncating would commit, and readers see neither old nor new rows.
        self.check(load).await?;
        let table = load.table.quoted('`');
        self.run(format!("delete from {table}")).await.map(drop)
    }

    async fn append(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        self.check(load).await?;
        let table = load.table.quoted('`');
        insert(&mut self.connection, &table, load).await
    }

    async fn upsert(&mut self, load: &Load<'_>) -> Result<Change, DatabaseError> {
        self.check(load).await?;
        if !self.has_unique_index(load).await? {
            return Err(load.no_unique_index());
        }
        let stage = quoted(STAGE, '`');
        let parts = Parts::new(&load.table, stage, &load.names(), load.keys, '`');
        let (table, stage, columns) = (&parts.table, &parts.stage, parts.columns());
        self.run(format!(
            "create temporary table {stage} engine = InnoDB as select {columns} from {table} limit 0"
        ))
        .await?;
        insert(&mut self.connection, stage, load).await?;
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
        // `on duplicate key update` would update whichever row any unique index
        // finds, so the keys are compared here.
        let (same, assignments) = (parts.same_keys(), parts.assignments("t.", "s."));
        if !assignments.is_empty() {
            let sql = format!("update {table} t join {stage} s on {same} set {assignments}");
            self.run(sql).await?;
        }
        self.run(format!(
            "insert into {table} ({columns}) select {columns} from {stage} s \
             where not exists (select 1 from {table} t where {same})"
        ))
        .await?;
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
            "delete from {table} where at < utc_timestamp() - interval {days} day limit {most}"
        ))
        .await
        .map(drop)
    }

    async fn close(self) {
        drop(timeout(CLOSING_MAX, self.connection.close()).await);
    }
}

fn options(server: &Server) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port.map_or(PORT, u16::from))
        .database(&server.database)
        .username(&server.user)
        .pipes_as_concat(false)
        .ssl_mode(match server.tls {
            Tls::Disable => MySqlSslMode::Disabled,
            Tls::Prefer => MySqlSslMode::Preferred,
            Tls::Require => MySqlSslMode::Required,
            Tls::Verify => MySqlSslMode::VerifyIdentity,
        });
    if let Some(password) = &server.password {
        options = options.password(password.reveal());
    }
    if let Some(ca) = &server.ca {
        options = options.ssl_ca_from_pem(ca.clone().into_bytes());
    }
    options.disable_statement_logging()
}

/// What a column is called that is made for values of a kind.
fn type_of(kind: &Kind, is_key: bool) -> String {
    match kind {
        Kind::Boolean => "tinyint(1)".to_owned(),
        Kind::Integer { bits, is_signed } => {
            let name = match bits {
                8 => "tinyint",
                16 => "smallint",
                32 => "int",
                _ => "bigint",
            };
            let sign = if *is_signed { "" } else { " unsigned" };
            format!("{name}{sign}")
        }
        Kind::Single => "float".to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Decimal { precision, scale } => {
            format!(
                "decimal({}, {})",
                precision.max(&1),
                (*scale).clamp(0, SCALE_MAX)
            )
        }
        // A text of any length has no index.
        Kind::Text if is_key => "varchar(255)".to_owned(),
        Kind::Text => "longtext".to_owned(),
        Kind::Uuid => "char(36)".to_owned(),
        Kind::Bytes if is_key => "varbinary(255)".to_owned(),
        Kind::Bytes => "longblob".to_owned(),
        Kind::Date => "date".to_owned(),
        Kind::Time => "time(6)".to_owned(),
        // Without `null`, the first such column would change with every row.
        Kind::Moment { is_utc: true } if !is_key => "timestamp(6) null".to_owned(),
        Kind::Moment { .. } => "datetime(6)".to_owned(),
        Kind::List(_) | Kind::Object => "json".to_owned(),
        Kind::Open(otherwise) => type_of(otherwise, is_key),
    }
}
