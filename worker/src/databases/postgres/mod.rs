//! PostgreSQL.

mod answers;
mod binary;
mod copy;
mod failure;
mod params;

use std::time::Duration;

use millstream_shared::connection::{Server, Tls};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, PgConnection, Row,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::timeout;

pub(super) use answers::query;

use super::{
    Around, CLOSING_MAX, CONNECT_MAX,
    error::{self, DatabaseError},
    kind::Kind,
    marker::{self, Change, Marker},
    names::{Parts, STAGE},
    session::{Load, Session},
    statement::Statement,
};
use failure::failure;

/// The usual port.
const PORT: u16 = 5432;

/// How soon the server notices that nobody waits for an answer any more.
const NOTICED_AFTER: &str = "5s";

/// How often the table of markers is looked for while another worker makes it.
const MARKERS_TRIES: usize = 5;

/// A connection to PostgreSQL.
pub(super) struct Postgres {
    connection: PgConnection,
}

impl Postgres {
    /// Connects.
    pub(super) async fn connect(server: &Server, around: Around) -> Result<Self, DatabaseError> {
        let options = options(server);
        let connecting = PgConnection::connect_with(&options);
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

    /// Has the server give up waiting for locks, and notice who has gone.
    async fn set_up(&mut self, lock_wait: Duration) -> Result<(), DatabaseError> {
        let milliseconds = lock_wait.as_millis();
        self.run(format!(
            "set lock_timeout = {milliseconds}; set tcp_keepalives_idle = 30; \
             set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3"
        ))
        .await?;
        // Older servers have no such setting, and some systems no such notice.
        let notice = format!("set client_connection_check_interval = '{NOTICED_AFTER}'");
        drop(self.run(notice).await);
        Ok(())
    }

    /// Executes statements without values, and answers how many rows changed.
    async fn run(&mut self, sql: String) -> Result<u64, DatabaseError> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        Ok(ran.await.map_err(failure)?.rows_affected())
    }

    async fn markers_are_there(&mut self) -> Result<bool, DatabaseError> {
        let sql = format!("select to_regclass('{}') is not null", marker::TABLE);
        let asked = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.connection);
        asked.await.and_then(|row| row.try_get(0)).map_err(failure)
    }
}

impl Session for Postgres {
    const DEFINITIONS_COMMIT: bool = false;

    async fn prepare_markers(&mut self) -> Result<(), DatabaseError> {
        let table = marker::TABLE;
        let mut refused = None;
        for _ in 0..MARKERS_TRIES {
            if self.markers_are_there().await? {
                return Ok(());
            }
            // Another worker may be making it: then this fails, and it is there.
            let made = self.run(format!(
                "create table {table} (run text not null, step text not null, rows bigint not null, \
                 inserted bigint, updated bigint, at timestamptz not null default now(), \
                 primary key (run, step)); create index on {table} (at)"
            ));
            refused = made.await.err();
            if refused.is_none() {
                return Ok(());
            }
        }
        Err(refused.map_or_else(
            || DatabaseError::passing("database_failed", "the table of markers comes and goes"),
            |error| DatabaseError {
                message: format!(
                    "the table `{table}`, which keeps that a step is done, cannot be made: {}",
                    error.message
                ),
                ..error
            },
        ))
    }

    async fn begin(&mut self) -> Result<(), DatabaseError> {
        self.run("begin".to_owned()).await.map(drop)
    }

    async fn mark(&mut self, marker: &Marker) -> Result<Option<Change>, DatabaseError> {
        let table = marker::TABLE;
        let sql = format!(
            "insert into {table} (run, step, rows) values ($1, $2, 0) on conflict do nothing"
        );
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(marker.run())
            .bind(marker.step())
            .execute(&mut self.connection);
        if written.await.map_err(failure)?.rows_affected() == 1 {
            return Ok(None);
        }
        let sql =
            format!("select rows, inserted, updated from {table} where run = $1 and step = $2");
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
            "update {} set rows = $3, inserted = $4, updated = $5 where run = $1 and step = $2",
            marker::TABLE
        );
        let (rows, inserted, updated) = change.for_marker();
        let noted = sqlx::query(AssertSqlSafe(sql))
            .bind(marker.run())
            .bind(marker.step())
            .bind(rows)
            .bind(inserted)
            .bind(updated)
            .execute(&mut self.connection);
        noted.await.map(drop).map_err(failure)
    }

    async fn make_table(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let sql = load.definition('"', |kind, _| type_of(kind));
        self.run(sql).await.map(drop)
    }

    async fn clear(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        // Readers see the old rows until the new ones are there, which they
        // would not if the table were truncated.
        let table = load.table.quoted('"');
        self.run(format!("delete from {table}")).await.map(drop)
    }

    async fn append(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let table = load.table.quoted('"');
        copy::copy(&mut self.connection, &table, load).await
    }

    async fn upsert(&mut self, load: &Load<'_>) -> Result<Change, DatabaseError> {
        let stage = format!("pg_temp.{STAGE}");
        let parts = Parts::new(&load.table, stage, &load.names(), load.keys, '"');
        self.run(format!(
            "create temp table {STAGE} on commit drop as select {} from {} with no data",
            parts.columns(),
            parts.table
        ))
        .await?;
        // Planned before any row is sent, so that it fails early.
        let planned = sqlx::raw_sql(AssertSqlSafe(format!(
            "explain {}",
            parts.merge_on_conflict()
        )));
        let planned = planned.execute(&mut self.connection).await;
        planned.map_err(|error| match failure::code(&error) {
            // There is nothing that the keys could conflict with.
            Some("42P10") => load.no_unique_index(),
            _ => failure(error),
        })?;
        copy::copy(&mut self.connection, &parts.stage, load).await?;
        let duplicate = sqlx::query(AssertSqlSafe(parts.find_duplicate()))
            .fetch_optional(&mut self.connection)
            .await
            .map_err(failure)?;
        if let Some(keys) = duplicate {
            let keys: String = keys.try_get(0).map_err(failure)?;
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
        let (_, arguments) = params::prepared(&mut self.connection, statement).await?;
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
            "delete from {table} where (run, step) in (select run, step from {table} \
             where at < now() - interval '{days} days' limit {most} for update skip locked)"
        ))
        .await
        .map(drop)
    }

    async fn close(self) {
        drop(timeout(CLOSING_MAX, self.connection.close()).await);
    }
}

fn options(server: &Server) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port.map_or(PORT, u16::from))
        .database(&server.database)
        .username(&server.user)
        .password(
            server
                .password
                .as_ref()
                .map_or("", |password| password.reveal()),
        )
        .application_name("millstream")
        .ssl_mode(match server.tls {
            Tls::Disable => PgSslMode::Disable,
            Tls::Prefer => PgSslMode::Prefer,
            Tls::Require => PgSslMode::Require,
            Tls::Verify => PgSslMode::VerifyFull,
        });
    if let Some(ca) = &server.ca {
        options = options.ssl_root_cert_from_pem(ca.clone().into_bytes());
    }
    options.disable_statement_logging()
}

/// What a column is called that is made for values of a kind.
fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer { bits, is_signed } => match (bits, is_signed) {
            (8, _) | (16, true) => "smallint".to_owned(),
            (16, false) | (32, true) => "integer".to_owned(),
            (32, false) | (_, true) => "bigint".to_owned(),
            (_, false) => "numeric(20, 0)".to_owned(),
        },
        Kind::Single => "real".to_owned(),
        Kind::Double => "double precision".to_owned(),
        Kind::Decimal { precision, scale } => {
            // Digits that are missing before the point count as well.
            let whole = i16::from(*precision) - i16::from(*scale);
            let scale = (*scale).max(0);
            let precision = whole.max(0) + i16::from(scale);
            format!("numeric({}, {scale})", precision.max(1))
        }
        Kind::Text => "text".to_owned(),
        Kind::Uuid => "uuid".to_owned(),
        Kind::Bytes => "bytea".to_owned(),
        Kind::Date => "date".to_owned(),
        Kind::Time => "time".to_owned(),
        Kind::Moment { is_utc: true } => "timestamptz".to_owned(),
        Kind::Moment { is_utc: false } => "timestamp".to_owned(),
        Kind::List(item) if matches!(**item, Kind::Object) => "jsonb".to_owned(),
        Kind::List(item) => format!("{}[]", type_of(item)),
        Kind::Object => "jsonb".to_owned(),
        Kind::Open(otherwise) => type_of(otherwise),
    }
}
