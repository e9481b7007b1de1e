//! Microsoft SQL Server.

mod answers;
mod bulk;
mod convert;
mod failure;
mod moments;
mod scan;
mod upsert;
#[cfg(test)]
mod wire_tests;

use std::time::Duration;

use millstream_shared::connection::{Server, Tls};
use serde_json::Value;
use tiberius::{
    AuthMethod, ColumnData, Config, EncryptionLevel, FromSqlOwned, Query, Row, error::Error,
    numeric::Numeric,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

pub(super) use answers::query;
pub(super) use scan::refuse_transactions;

use super::{
    Around, CLOSING_MAX, CONNECT_MAX,
    error::{self, DatabaseError},
    kind::Kind,
    marker::{self, Change, Marker},
    session::{Load, Session},
    statement::Statement,
};
use failure::failure;
use upsert::{Upsert, literal};

/// The usual port.
const PORT: u16 = 1433;

/// How often a server may say that another one is meant, or that it cannot
/// encrypt.
const DIALS_MAX: usize = 4;

/// What the columns of the table of markers hold.
const RUN_TYPE: &str = "varchar(64)";
const STEP_TYPE: &str = "varchar(190)";

type Client = tiberius::Client<Compat<TcpStream>>;

/// A connection to SQL Server.
///
/// After an error the server has rolled the transaction back, and nothing else
/// is to be done with it.
pub(super) struct SqlServer {
    client: Client,
    lock_wait: Duration,
}

impl SqlServer {
    /// Connects.
    pub(super) async fn connect(server: &Server, around: Around) -> Result<Self, DatabaseError> {
        let client = match timeout(CONNECT_MAX, dial(server)).await {
            Ok(dialled) => dialled?,
            Err(_) => {
                return Err(error::silent(server, PORT));
            }
        };
        let lock_wait = around.lock_wait;
        let mut session = Self { client, lock_wait };
        session.run(set_up(lock_wait)).await?;
        Ok(session)
    }

    /// Executes statements without values, for good: what they set holds for the
    /// connection.
    async fn run(&mut self, sql: String) -> Result<(), DatabaseError> {
        self.try_run(sql).await.map_err(failure)
    }

    async fn try_run(&mut self, sql: String) -> Result<(), Error> {
        let answered = self.client.simple_query(sql).await?;
        answered.into_results().await.map(drop)
    }

    /// Executes a statement and answers how many rows it changed.
    async fn execute(&mut self, query: Query<'_>) -> Result<u64, DatabaseError> {
        let done = query.execute(&mut self.client).await.map_err(failure)?;
        Ok(done.total())
    }

    /// The first row that a statement answers.
    async fn row(&mut self, query: Query<'_>) -> Result<Option<Row>, DatabaseError> {
        let answered = query.query(&mut self.client).await.map_err(failure)?;
        answered.into_row().await.map_err(failure)
    }

    /// Waits until nobody else is at the same marker, and keeps others away from
    /// it until the transaction ends.
    ///
    /// Locking the place of a row that is not there would do that too, but also
    /// for all others that are to come behind the last one, as new ones do.
    async fn lock(&mut self, marker: &Marker) -> Result<(), DatabaseError> {
        let milliseconds = milliseconds(self.lock_wait);
        let mut query = Query::new(format!(
            "declare @granted int; exec @granted = sp_getapplock @Resource = @P1, \
             @LockMode = N'Exclusive', @LockOwner = N'Transaction', \
             @LockTimeout = {milliseconds}; select @granted"
        ));
        query.bind(format!(
            "{} {} {}",
            marker::TABLE,
            marker.run(),
            marker.step()
        ));
        let row = self.row(query).await?;
        match row.map(|row| value::<i32>(&row, 0)).transpose()?.flatten() {
            Some(0..) => Ok(()),
            Some(-1) => Err(DatabaseError::passing(
                "lock_timeout",
                format!("another worker is at the same step, for longer than {milliseconds} ms"),
            )),
            Some(-3) => Err(DatabaseError::passing(
                "deadlock",
                "the lock on the marker of the step was in a deadlock",
            )),
            other => Err(DatabaseError::refused(
                "database_refused",
                format!("the lock on the marker of the step was refused ({other:?})"),
            )),
        }
    }

    /// Fails where a statement has ended the transaction that holds the marker.
    async fn check_transaction(&mut self) -> Result<(), DatabaseError> {
        let query = Query::new("select @@trancount, convert(int, xact_state())");
        let row = self.row(query).await?;
        let state = match &row {
            Some(row) => (value::<i32>(row, 0)?, value::<i32>(row, 1)?),
            None => (None, None),
        };
        if state == (Some(1), Some(1)) {
            return Ok(());
        }
        let message = "something that the statement called has ended the transaction, or begun one \
                       and left it open, so that nothing says whether the step is done: have it \
                       leave that to the step. What it has committed itself stays";
        Err(DatabaseError::refused("statement_refused", message))
    }
}

/// A connection to a server, or to the one that it names in its stead.
async fn dial(server: &Server) -> Result<Client, DatabaseError> {
    let (mut host, mut port) = (server.host.clone(), server.port.map_or(PORT, u16::from));
    let mut tls = server.tls;
    for _ in 0..DIALS_MAX {
        let stream = TcpStream::connect((host.as_str(), port)).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|error| error::unreachable(server, PORT, &error))?;
        let config = config(server, &host, port, tls);
        match Client::connect(config, stream.compat_write()).await {
            Ok(client) => return Ok(client),
            Err(Error::Routing { host: to, port: at }) => (host, port) = (to, at),
            Err(error) if tls == Tls::Prefer && failure::is_without_encryption(&error) => {
                tls = Tls::Disable;
            }
            Err(error) => return Err(failure::of_connecting(error, server)),
        }
    }
    let message = format!("{} names one other server after another", server.host);
    Err(DatabaseError::passing("database_unreachable", message))
}

fn config(server: &Server, host: &str, port: u16, tls: Tls) -> Config {
    let mut config = Config::new();
    config.host(host);
    config.port(port);
    config.database(&server.database);
    config.application_name("millstream");
    let password = server.password.as_ref();
    let password = password.map_or("", |password| password.reveal());
    config.authentication(AuthMethod::sql_server(&server.user, password));
    config.encryption(match tls {
        Tls::Disable => EncryptionLevel::NotSupported,
        Tls::Prefer | Tls::Require | Tls::Verify => EncryptionLevel::Required,
    });
    // The driver takes one of the two and panics at both.
    match (tls, &server.ca) {
        (Tls::Verify, Some(ca)) => config.trust_cert_ca_bundle(ca.as_bytes()),
        (Tls::Verify, None) => {}
        _ => config.trust_cert(),
    }
    // The step has a limit of its own for all that it does, and so has dialling.
    config.command_timeout(None);
    config.handshake_timeout(None);
    config
}

/// Has the server roll back at the first error, give up waiting for locks, and
/// hand on texts of any length. The others are what bulk loads and indexes on
/// views and calculated columns want.
fn set_up(lock_wait: Duration) -> String {
    format!(
        "set ansi_nulls, ansi_padding, ansi_warnings, arithabort, concat_null_yields_null, \
         quoted_identifier on; set ansi_null_dflt_on on; set numeric_roundabort off; \
         set implicit_transactions off; set cursor_close_on_commit off; set nocount off; \
         set textsize 2147483647; set xact_abort on; set lock_timeout {}",
        milliseconds(lock_wait)
    )
}

fn milliseconds(lock_wait: Duration) -> i32 {
    i32::try_from(lock_wait.as_millis()).unwrap_or(i32::MAX)
}

/// A value of a row; none where there is none.
fn value<T: FromSqlOwned>(row: &Row, index: usize) -> Result<Option<T>, DatabaseError> {
    let data = row.get_column_data(index).map_err(failure)?;
    T::from_sql_owned(data.clone()).map_err(failure)
}

/// A statement with its values.
fn bound<'s>(statement: &Statement<'s>) -> Result<Query<'s>, DatabaseError> {
    statement.check_params(scan::placeholders(statement.sql)?)?;
    let mut query = Query::new(statement.sql);
    for value in statement.params {
        query.bind(param(value));
    }
    Ok(query)
}

fn param(value: &Value) -> ColumnData<'_> {
    match value {
        Value::Null => ColumnData::String(None),
        Value::Bool(value) => ColumnData::Bit(Some(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => ColumnData::I64(Some(number)),
            (_, Some(number), _) => {
                ColumnData::Numeric(Some(Numeric::new_with_scale(number.into(), 0)))
            }
            (_, _, Some(number)) => ColumnData::F64(Some(number)),
            _ => ColumnData::String(Some(number.to_string().into())),
        },
        Value::String(text) => ColumnData::String(Some(text.as_str().into())),
        nested => ColumnData::String(Some(nested.to_string().into())),
    }
}

/// The condition that a row is the one of the marker in `@P1` and `@P2`, whose
/// types would otherwise keep the index from being used.
fn is_of_marker() -> String {
    format!("[run] = convert({RUN_TYPE}, @P1) and [step] = convert({STEP_TYPE}, @P2)")
}

impl Session for SqlServer {
    const DEFINITIONS_COMMIT: bool = false;

    async fn prepare_markers(&mut self) -> Result<(), DatabaseError> {
        let (table, collation) = (marker::TABLE, "collate Latin1_General_BIN2 not null");
        let made = self.try_run(format!(
            "if object_id({}) is null create table {table} ([run] {RUN_TYPE} {collation}, \
             [step] {STEP_TYPE} {collation}, [rows] bigint not null, [inserted] bigint null, \
             [updated] bigint null, [at] datetime2(6) not null default sysutcdatetime(), \
             primary key ([run], [step]), index {table}_at ([at]))",
            literal(table)
        ));
        match made.await {
            Ok(()) => Ok(()),
            Err(error) if failure::is_there(&error) => Ok(()),
            Err(error) => {
                let error = failure(error);
                let message = format!(
                    "the table `{table}`, which keeps that a step is done, cannot be made: {}",
                    error.message
                );
                Err(DatabaseError { message, ..error })
            }
        }
    }

    async fn begin(&mut self) -> Result<(), DatabaseError> {
        self.client.begin_transaction().await.map_err(failure)
    }

    async fn mark(&mut self, marker: &Marker) -> Result<Option<Change>, DatabaseError> {
        self.lock(marker).await?;
        let (table, is_of_marker) = (marker::TABLE, is_of_marker());
        // An error about a second row of the same key would end the transaction.
        let mut query = Query::new(format!(
            "insert into {table} ([run], [step], [rows]) select @P1, @P2, 0 \
             where not exists (select 1 from {table} where {is_of_marker})"
        ));
        query.bind(marker.run());
        query.bind(marker.step());
        if self.execute(query).await? > 0 {
            return Ok(None);
        }
        let mut query = Query::new(format!(
            "select [rows], [inserted], [updated] from {table} where {is_of_marker}"
        ));
        query.bind(marker.run());
        query.bind(marker.step());
        let row = self.row(query).await?.ok_or_else(|| {
            let message = "the marker of the step went while it was looked at";
            DatabaseError::passing("serialization_failure", message)
        })?;
        Ok(Some(Change::of_marker(
            value(&row, 0)?.unwrap_or_default(),
            value(&row, 1)?,
            value(&row, 2)?,
        )))
    }

    async fn note(&mut self, marker: &Marker, change: Change) -> Result<(), DatabaseError> {
        let (rows, inserted, updated) = change.for_marker();
        let mut query = Query::new(format!(
            "update {} set [rows] = @P3, [inserted] = @P4, [updated] = @P5 where {}",
            marker::TABLE,
            is_of_marker()
        ));
        query.bind(marker.run());
        query.bind(marker.step());
        query.bind(rows);
        query.bind(inserted);
        query.bind(updated);
        self.execute(query).await.map(drop)
    }

    async fn make_table(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let (table, members) = (load.table.quoted('['), load.members('[', type_of));
        self.run(format!(
            "if object_id({}) is null create table {table} ({members})",
            literal(&table)
        ))
        .await
    }

    async fn clear(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        // Truncating would keep readers out until the end, and needs more rights.
        let table = load.table.quoted('[');
        self.run(format!("delete from {table}")).await
    }

    async fn append(&mut self, load: &Load<'_>) -> Result<(), DatabaseError> {
        let table = load.table.quoted('[');
        bulk::insert(&mut self.client, &table, load).await
    }

    async fn upsert(&mut self, load: &Load<'_>) -> Result<Change, DatabaseError> {
        let upsert = Upsert::of(load);
        // This also fails where there is no such table or column.
        bulk::check(&mut self.client, &load.table.quoted('['), load).await?;
        let index = Query::new(upsert.find_unique_index());
        if self.row(index).await?.is_none() {
            return Err(load.no_unique_index());
        }
        self.run(upsert.make_stage()).await?;
        bulk::insert(&mut self.client, upsert.stage(), load).await?;
        if let Some(row) = self.row(Query::new(upsert.find_duplicate())).await? {
            let keys: Option<String> = value(&row, 0)?;
            return Err(load.duplicate(&keys.unwrap_or_default()));
        }
        let known = self.row(Query::new(upsert.count_known())).await?;
        let known: Option<i64> = known.map(|row| value(&row, 0)).transpose()?.flatten();
        if let Some(update) = upsert.update() {
            self.run(update).await?;
        }
        self.run(upsert.insert()).await?;
        Ok(load
            .upserted(known.unwrap_or_default().unsigned_abs())
            .await)
    }

    async fn change(&mut self, statement: &Statement<'_>) -> Result<u64, DatabaseError> {
        let rows = self.execute(bound(statement)?).await?;
        self.check_transaction().await?;
        Ok(rows)
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.client.commit_transaction().await.map_err(failure)
    }

    async fn undo(&mut self) -> Result<(), DatabaseError> {
        self.client.rollback_transaction().await.map_err(failure)
    }

    async fn delete_old_markers(&mut self) -> Result<(), DatabaseError> {
        let (table, days, most) = (marker::TABLE, marker::DAYS, marker::DELETED_MAX);
        self.run(format!(
            "delete top ({most}) from {table} with (readpast) \
             where [at] < dateadd(day, -{days}, sysutcdatetime())"
        ))
        .await
    }

    async fn close(self) {
        drop(timeout(CLOSING_MAX, self.client.close()).await);
    }
}

/// What a column is called that is made for values of a kind.
fn type_of(kind: &Kind, is_key: bool) -> String {
    match kind {
        Kind::Boolean => "bit".to_owned(),
        Kind::Integer { bits, is_signed } => match (bits, is_signed) {
            // The one whole number of eight bits has no sign.
            (8, false) => "tinyint".to_owned(),
            (8, true) | (16, true) => "smallint".to_owned(),
            (16, false) | (32, true) => "int".to_owned(),
            (32, false) | (_, true) => "bigint".to_owned(),
            (_, false) => "decimal(20, 0)".to_owned(),
        },
        Kind::Single => "real".to_owned(),
        Kind::Double => "float".to_owned(),
        Kind::Decimal { precision, scale } => {
            // Digits that are missing before the point count as well.
            let whole = i16::from(*precision) - i16::from(*scale);
            let scale = (*scale).max(0);
            let precision = whole.max(0) + i16::from(scale);
            format!("decimal({}, {scale})", precision.clamp(1, 38))
        }
        // A key of an index has at most 900 bytes, of which a letter takes two.
        Kind::Text if is_key => "nvarchar(255)".to_owned(),
        Kind::Text => "nvarchar(max)".to_owned(),
        Kind::Uuid => "uniqueidentifier".to_owned(),
        Kind::Bytes if is_key => "varbinary(255)".to_owned(),
        Kind::Bytes => "varbinary(max)".to_owned(),
        Kind::Date => "date".to_owned(),
        Kind::Time => "time(6)".to_owned(),
        Kind::Moment { is_utc: true } => "datetimeoffset(6)".to_owned(),
        Kind::Moment { is_utc: false } => "datetime2(6)".to_owned(),
        Kind::List(_) | Kind::Object => "nvarchar(max)".to_owned(),
        Kind::Open(otherwise) => type_of(otherwise, is_key),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(tls: Tls, ca: Option<&str>) -> Server {
        Server {
            host: "db.example".to_owned(),
            port: None,
            database: "shop".to_owned(),
            user: "flows".to_owned(),
            password: None,
            tls,
            ca: ca.map(str::to_owned),
        }
    }

    #[test]
    fn the_way_is_encrypted_as_the_connection_says() {
        for (tls, encryption, is_looked_at, authorities) in [
            (Tls::Disable, "encryption: NotSupported", false, "[]"),
            (Tls::Prefer, "encryption: Required", false, "[]"),
            (Tls::Require, "encryption: Required", false, "[]"),
            (
                Tls::Verify,
                "encryption: Required",
                true,
                "[Bundle { len: 3 }]",
            ),
        ] {
            let config = config(&server(tls, Some("pem")), "db.example", PORT, tls);
            let shown = format!("{config:?}");
            assert!(shown.contains(encryption), "{shown}");
            assert!(
                shown.contains(&format!("bypass: {}", !is_looked_at)),
                "{shown}"
            );
            assert!(
                shown.contains(&format!("extra_cas: {authorities}")),
                "{shown}"
            );
            assert_eq!(config.get_command_timeout(), None);
            assert_eq!(config.get_handshake_timeout(), None);
        }
        let shown = format!(
            "{:?}",
            config(&server(Tls::Verify, None), "h", 1, Tls::Verify)
        );
        assert!(shown.contains("bypass: false"), "{shown}");
    }

    #[test]
    fn a_column_is_made_that_holds_all_values_of_its_kind() {
        let integer = |bits, is_signed| Kind::Integer { bits, is_signed };
        let decimal = |precision, scale| Kind::Decimal { precision, scale };
        for (kind, expected) in [
            (integer(8, true), "smallint"),
            (integer(8, false), "tinyint"),
            (integer(16, true), "smallint"),
            (integer(16, false), "int"),
            (integer(32, false), "bigint"),
            (integer(64, true), "bigint"),
            (integer(64, false), "decimal(20, 0)"),
            (decimal(10, 2), "decimal(10, 2)"),
            (decimal(2, 5), "decimal(5, 5)"),
            (decimal(5, -2), "decimal(7, 0)"),
            (decimal(38, -2), "decimal(38, 0)"),
            (Kind::Text, "nvarchar(max)"),
            (Kind::List(Box::new(Kind::Text)), "nvarchar(max)"),
            (Kind::Moment { is_utc: true }, "datetimeoffset(6)"),
        ] {
            assert_eq!(type_of(&kind, false), expected, "{kind:?}");
        }
        assert_eq!(type_of(&Kind::Text, true), "nvarchar(255)");
    }

    #[test]
    fn a_value_of_a_placeholder_keeps_its_type() {
        assert_eq!(param(&json!(null)), ColumnData::String(None));
        assert_eq!(param(&json!(-1)), ColumnData::I64(Some(-1)));
        assert_eq!(param(&json!(1.5)), ColumnData::F64(Some(1.5)));
        assert_eq!(param(&json!(true)), ColumnData::Bit(Some(true)));
        let large = Numeric::new_with_scale(u64::MAX.into(), 0);
        assert_eq!(param(&json!(u64::MAX)), ColumnData::Numeric(Some(large)));
        let nested = ColumnData::String(Some(r#"{"a":[1]}"#.into()));
        assert_eq!(param(&json!({ "a": [1] })), nested);
    }

    #[test]
    fn no_wait_for_locks_is_longer_than_the_server_can_count() {
        assert_eq!(milliseconds(Duration::from_millis(1500)), 1500);
        assert_eq!(milliseconds(Duration::MAX), i32::MAX);
    }
}
