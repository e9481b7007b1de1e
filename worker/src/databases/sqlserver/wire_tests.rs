//! Loads, changes and queries over the wire, to a server of the test's own that
//! speaks as much of TDS as they need. It shows what is sent in what order, and
//! not that SQL Server would take it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use millstream_shared::{connection::Connection, flow::step::LoadStep, id::RunId};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    databases::{
        Around, Change, Marker, error::DatabaseError, rows::Rows, session::Load,
        statement::Statement,
    },
    tables::{
        Feed, Files, Table,
        tests::{new_engine, settings},
    },
};

const AROUND: Around = Around {
    lock_wait: Duration::from_millis(1500),
};

/// Kinds of messages.
const BATCH: u8 = 1;
const CALL: u8 = 3;
const BULK: u8 = 7;
const TRANSACTION: u8 = 14;
const LOGIN: u8 = 16;
const PRELOGIN: u8 = 18;

/// What the server does otherwise than usual.
#[derive(Clone, Copy, Debug, Default)]
struct Script {
    refuses_login: bool,
    knows_marker: bool,
    /// Ends the transaction by itself.
    ends_transaction: bool,
    refuses_rows: bool,
    /// Says nothing to a statement that holds this.
    is_silent_at: Option<&'static str>,
}

/// A server and what it was told.
struct Server {
    port: u16,
    told: Arc<Mutex<Vec<String>>>,
    bulk: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            told: Arc::default(),
            bulk: Arc::default(),
        };
        let (told, bulk) = (Arc::clone(&server.told), Arc::clone(&server.bulk));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let talk = Talk {
                    stream,
                    script,
                    told: Arc::clone(&told),
                    bulk: Arc::clone(&bulk),
                };
                tokio::spawn(talk.serve());
            }
        });
        server
    }

    fn connection(&self, tls: &str) -> Connection {
        let connection = json!({
            "kind": "sqlserver", "host": "127.0.0.1", "port": self.port, "database": "shop",
            "user": "flows", "password": "canary-password", "tls": tls,
        });
        Connection::parse(&connection).unwrap()
    }

    /// The beginnings of what it was told behind the login and the settings.
    fn told(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let short = |line: &String| line.chars().take(46).collect::<String>();
        told.iter().map(short).collect()
    }

    async fn wait_for(&self, line: &str) {
        let wait = async {
            while !self.told().iter().any(|told| told.starts_with(line)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap();
    }
}

/// One connection to it.
struct Talk {
    stream: TcpStream,
    script: Script,
    told: Arc<Mutex<Vec<String>>>,
    bulk: Arc<Mutex<Vec<u8>>>,
}

impl Talk {
    async fn serve(mut self) {
        while let Some((kind, message)) = self.message().await {
            let line = match kind {
                BATCH => text(&message[22..]),
                CALL => statement(&message[22..]),
                TRANSACTION => match message[22] {
                    5 => "[begin]".to_owned(),
                    7 => "[commit]".to_owned(),
                    _ => "[rollback]".to_owned(),
                },
                BULK => "[rows]".to_owned(),
                LOGIN => "[login]".to_owned(),
                _ => "[prelogin]".to_owned(),
            };
            // Whatever is between begin and end says that it is.
            let has_headers = matches!(kind, BATCH | CALL | TRANSACTION);
            let is_within = has_headers && message[10..18] != [0; 8];
            let mark = if is_within { "~" } else { "" };
            self.told.lock().unwrap().push(format!("{mark}{line}"));
            if self
                .script
                .is_silent_at
                .is_some_and(|part| line.contains(part))
            {
                continue;
            }
            let answer = self.answer(kind, &line);
            if kind == BULK {
                *self.bulk.lock().unwrap() = message;
            }
            let mut packet = vec![4, 1];
            packet.extend((answer.len() as u16 + 8).to_be_bytes());
            packet.extend([0, 0, 1, 0]);
            packet.extend(answer);
            if self.stream.write_all(&packet).await.is_err() {
                break;
            }
        }
        self.told.lock().unwrap().push("[closed]".to_owned());
    }

    /// The next message, of one packet or more.
    async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 8];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) - 8;
            let start = message.len();
            message.resize(start + length, 0);
            self.stream.read_exact(&mut message[start..]).await.ok()?;
            if head[1] & 1 == 1 {
                return Some((head[0], message));
            }
        }
    }

    fn answer(&self, kind: u8, line: &str) -> Vec<u8> {
        let script = self.script;
        match kind {
            // A version, and that nothing is encrypted.
            PRELOGIN => vec![0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 0, 0, 0, 0, 2],
            LOGIN if script.refuses_login => refusal(18456, "Login failed for user 'flows'."),
            LOGIN => {
                let mut ack = vec![1, 0x74, 0, 0, 4, 1];
                ack.extend(wide("x"));
                ack.extend([16, 0, 0, 0]);
                let mut answer = vec![0xAD];
                answer.extend((ack.len() as u16).to_le_bytes());
                answer.extend(ack);
                answer.extend(done(0xFD, None));
                answer
            }
            TRANSACTION => {
                let mut answer = match line {
                    "[begin]" => vec![0xE3, 11, 0, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0],
                    "[commit]" => vec![0xE3, 11, 0, 9, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
                    _ => vec![0xE3, 11, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
                };
                answer.extend(done(0xFD, None));
                answer
            }
            BULK if script.refuses_rows => {
                refusal(2627, "Violation of PRIMARY KEY constraint 'pk'.")
            }
            BULK => done(0xFD, Some(2)),
            BATCH if line.starts_with("SELECT TOP 0") => {
                let mut answer = two_columns();
                answer.extend(done(0xFD, Some(0)));
                answer
            }
            CALL if line.contains("sp_getapplock") => numbers(4, &[Some(0)]),
            CALL if line.contains("@@trancount") => {
                let open = i64::from(!script.ends_transaction);
                numbers(4, &[Some(open), Some(open)])
            }
            CALL if line.starts_with("insert into millstream_steps") => {
                called(u64::from(!script.knows_marker))
            }
            CALL if line.starts_with("select [rows]") => numbers(8, &[Some(5), None, Some(3)]),
            CALL if line.contains("from sys.indexes") => numbers(4, &[Some(1)]),
            CALL if line.contains("having count(*) > 1") => called(0),
            CALL if line.contains("count_big(*)") => numbers(8, &[Some(1)]),
            CALL if line.starts_with("select id, name") => {
                let mut answer = two_columns();
                answer.extend([0xD1, 7, 0, 0, 0]);
                answer.extend(large("ø"));
                answer.extend([0xD1, 8, 0, 0, 0]);
                answer.extend(u64::MAX.to_le_bytes());
                answer.extend(called(2));
                answer
            }
            CALL => called(3),
            _ => done(0xFD, None),
        }
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn text(bytes: &[u8]) -> String {
    let units = bytes
        .chunks(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    char::decode_utf16(units).map(Result::unwrap).collect()
}

/// The text that `sp_executesql` is to execute.
fn statement(call: &[u8]) -> String {
    // The number of the procedure and its options, then the name and the status
    // of the parameter, which is called `stmt`, and its type.
    let value = &call[6 + 1 + 8 + 1 + 1 + 2 + 5..];
    if call[17..19] == [0xFF, 0xFF] {
        let length = u32::from_le_bytes(value[8..12].try_into().unwrap()) as usize;
        return text(&value[12..12 + length]);
    }
    let length = usize::from(u16::from_le_bytes([value[0], value[1]]));
    text(&value[2..2 + length])
}

/// That a statement has ended, having changed so many rows.
fn done(token: u8, rows: Option<u64>) -> Vec<u8> {
    let status = if rows.is_some() { 0x10 } else { 0 };
    let mut answer = vec![token, status, 0, 0xC1, 0];
    answer.extend(rows.unwrap_or_default().to_le_bytes());
    answer
}

/// That a procedure has ended after a statement that changed so many rows.
fn called(rows: u64) -> Vec<u8> {
    let mut answer = done(0xFF, Some(rows));
    answer[1] |= 1;
    answer.extend([0x79, 0, 0, 0, 0]);
    answer.extend(done(0xFE, None));
    answer
}

fn refusal(number: u32, message: &str) -> Vec<u8> {
    let mut error = Vec::from(number.to_le_bytes());
    error.extend([1, 14]);
    error.extend((message.encode_utf16().count() as u16).to_le_bytes());
    error.extend(wide(message));
    error.extend([0, 0, 1, 0, 0, 0]);
    let mut answer = vec![0xAA];
    answer.extend((error.len() as u16).to_le_bytes());
    answer.extend(error);
    let mut end = done(0xFD, None);
    end[1] = 2;
    answer.extend(end);
    answer
}

/// A row of whole numbers of so many bytes.
fn numbers(bytes: u8, row: &[Option<i64>]) -> Vec<u8> {
    let mut answer = vec![0x81, row.len() as u8, 0];
    for _ in row {
        answer.extend([0, 0, 0, 0, 1, 0, 0x26, bytes, 1]);
        answer.extend(wide("n"));
    }
    answer.push(0xD1);
    for number in row {
        match number {
            Some(number) => {
                answer.push(bytes);
                answer.extend(&number.to_le_bytes()[..usize::from(bytes)]);
            }
            None => answer.push(0),
        }
    }
    answer.extend(called(1));
    answer
}

/// `id int not null, name nvarchar(max) null`.
fn two_columns() -> Vec<u8> {
    let mut answer = vec![0x81, 2, 0];
    answer.extend([0, 0, 0, 0, 4, 0, 0x38, 2]);
    answer.extend(wide("id"));
    answer.extend([0, 0, 0, 0, 5, 0, 0xE7, 0xFF, 0xFF, 9, 4, 0, 0, 0, 4]);
    answer.extend(wide("name"));
    answer
}

/// A text as it is sent where it may have any length.
fn large(text: &str) -> Vec<u8> {
    let text = wide(text);
    let mut answer = Vec::from(0xFFFF_FFFF_FFFF_FFFE_u64.to_le_bytes());
    answer.extend((text.len() as u32).to_le_bytes());
    answer.extend(text);
    answer.extend([0; 4]);
    answer
}

fn files() -> Files {
    Files::new(&[std::env::temp_dir()]).unwrap()
}

fn marker() -> Marker {
    Marker {
        run: RunId::new(),
        step: "load".parse().unwrap(),
    }
}

fn table(names: &[Option<&str>]) -> Table {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=names.len() as i64));
    let names: ArrayRef = Arc::new(StringArray::from_iter(names));
    let fields = [("id", DataType::Int64), ("name", DataType::Utf8)];
    let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
    let schema = Arc::new(Schema::new(Vec::from(fields)));
    let mut table = new_engine(&settings()).collector(Arc::clone(&schema));
    let batch = RecordBatch::try_new(schema, vec![ids, names]).unwrap();
    table.push(batch).unwrap();
    table.finish().unwrap()
}

async fn load(
    server: &Server,
    step: Value,
    names: &[Option<&str>],
) -> Result<Change, DatabaseError> {
    let step: LoadStep = serde_json::from_value(step).unwrap();
    let load = Load::new(marker(), &step, &Feed::Table(table(names))).await?;
    let connection = server.connection("disable");
    AROUND.load(&connection, &load, &files()).await
}

async fn execute(server: &Server, sql: &str) -> Result<Change, DatabaseError> {
    let statement = Statement {
        sql,
        params: &[json!(1)],
    };
    let (connection, marker, files) = (server.connection("disable"), marker(), files());
    let executing = AROUND.execute(&connection, &marker, &statement, &files);
    executing.await
}

async fn query(server: &Server, tls: &str, sql: &str) -> Result<Vec<String>, DatabaseError> {
    let statement = Statement { sql, params: &[] };
    let (connection, engine, files) = (server.connection(tls), new_engine(&settings()), files());
    let table = AROUND.query(&connection, &statement, &engine, &files);
    let table = table.await?;
    let mut found = Vec::new();
    let mut reader = table.open()?;
    while let Some(batch) = reader.next() {
        let rows = Rows::of(&batch?)?;
        let shown = |row| {
            format!(
                "{:?}",
                rows.row(row).map(Result::unwrap).collect::<Vec<_>>()
            )
        };
        found.extend((0..rows.count()).map(shown));
    }
    Ok(found)
}

fn append() -> Value {
    json!({
        "connection": "db", "table": "dbo.t", "from": "made", "mode": "append", "create": true,
    })
}

#[tokio::test]
async fn a_load_is_one_transaction_with_its_marker() {
    let server = Server::start(Script::default()).await;
    let change = load(&server, append(), &[Some("ø"), None]).await.unwrap();
    assert_eq!((change.rows, change.inserted), (2, Some(2)));
    assert_eq!(
        server.told(),
        [
            "[prelogin]",
            "[login]",
            "set ansi_nulls, ansi_padding, ansi_warnings, a",
            "if object_id(N'millstream_steps') is null crea",
            "[begin]",
            "~declare @granted int; exec @granted = sp_getap",
            "~insert into millstream_steps ([run], [step], [",
            "~if object_id(N'[dbo].[t]') is null create tab",
            "~SELECT TOP 0 [id], [name] FROM [dbo].[t]",
            "~SELECT TOP 0 [id], [name] FROM [dbo].[t]",
            "~INSERT BULK [dbo].[t] ([id] int, [name] nvarch",
            "[rows]",
            "~update millstream_steps set [rows] = @P3, [ins",
            "~[commit]",
            "delete top (1000) from millstream_steps with (",
        ]
        .map(|line| line.chars().take(46).collect::<String>())
    );
    let told = server.told.lock().unwrap().join("\n");
    let with = "WITH (CHECK_CONSTRAINTS, KEEP_NULLS, FIRE_TRIGGERS)";
    assert!(told.contains(with), "{told}");
    assert!(told.contains("set xact_abort on; set lock_timeout 1500"));
    let mut rows = vec![0xD1, 1, 0, 0, 0];
    rows.extend(large("ø"));
    rows.extend([0xD1, 2, 0, 0, 0]);
    rows.extend(u64::MAX.to_le_bytes());
    let bulk = server.bulk.lock().unwrap();
    let place = bulk.windows(rows.len()).position(|part| part == rows);
    assert!(place.is_some(), "{bulk:?}");
}

#[tokio::test]
async fn an_upsert_stages_its_rows() {
    let server = Server::start(Script::default()).await;
    let step = json!({
        "connection": "db", "table": "t", "from": "made", "mode": "upsert", "keys": ["id"],
    });
    let change = load(&server, step, &[Some("a"), Some("b")]).await.unwrap();
    assert_eq!((change.inserted, change.updated), (Some(1), Some(1)));
    let told = server.told();
    let beginnings = [
        "~select top (1) 1 from sys.indexes",
        "~select top (0) [id], [name] into [#mill",
        "~INSERT BULK [#millstream_stage]",
        "~select top (1) convert(nvarchar(max), [id])",
        "~select count_big(*) from [#millstream",
        "~update t set [name] = s.[name] from [t] t",
        "~insert into [t] ([id], [name])",
        "~update millstream_steps",
        "~[commit]",
    ];
    let mut lines = told.iter();
    for beginning in beginnings {
        let found = lines.any(|line| line.starts_with(beginning));
        assert!(found, "{beginning} is missing in {told:#?}");
    }
}

#[tokio::test]
async fn a_text_that_the_driver_takes_in_no_bulk_load_goes_alone() {
    let server = Server::start(Script::default()).await;
    let long = "x".repeat(100_000);
    let names = [Some("a"), Some(&long), Some("b")];
    load(&server, append(), &names).await.unwrap();
    let told = server.told();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let between = told.iter().filter(|line| **line == "[rows]").count();
    assert_eq!(between, 2, "{told:#?}");
    let alone = "~insert into [dbo].[t] ([id], [name]) values (@P";
    assert!(told.iter().any(|line| alone.starts_with(line)), "{told:#?}");
    assert!(told.contains(&"~[commit]"), "{told:#?}");
}

#[tokio::test]
async fn rows_that_are_refused_are_not_committed() {
    let script = Script {
        refuses_rows: true,
        ..Script::default()
    };
    let server = Server::start(script).await;
    let error = load(&server, append(), &[Some("a")]).await.unwrap_err();
    assert_eq!(error.code, "constraint_violation");
    server.wait_for("[closed]").await;
    let told = server.told();
    assert!(!told.contains(&"~[commit]".to_owned()), "{told:#?}");
}

#[tokio::test]
async fn who_finds_the_marker_changes_nothing() {
    let script = Script {
        knows_marker: true,
        ..Script::default()
    };
    let server = Server::start(script).await;
    let change = execute(&server, "delete from t where a = @P1").await;
    let change = change.unwrap();
    assert_eq!(
        (change.rows, change.inserted, change.updated),
        (5, None, Some(3))
    );
    server.wait_for("[closed]").await;
    let told = server.told();
    assert!(
        !told.iter().any(|line| line.contains("delete from t")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn a_change_is_committed_unless_its_transaction_was_ended() {
    let server = Server::start(Script::default()).await;
    let change = execute(&server, "delete from t where a = @P1").await;
    assert_eq!(change.unwrap().rows, 3);
    assert!(server.told().contains(&"~[commit]".to_owned()));

    let script = Script {
        ends_transaction: true,
        ..Script::default()
    };
    let server = Server::start(script).await;
    let error = execute(&server, "exec p @P1").await.unwrap_err();
    assert_eq!(error.code, "statement_refused");
    server.wait_for("[closed]").await;
    assert!(!server.told().contains(&"~[commit]".to_owned()));
    for (sql, code) in [
        ("exec p @P1; commit", "statement_refused"),
        ("exec p @P1, @P2", "wrong_params"),
    ] {
        assert_eq!(execute(&server, sql).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn a_query_is_rolled_back() {
    let server = Server::start(Script::default()).await;
    let found = query(&server, "disable", "select id, name from t").await;
    let rows = [r#"[Integer(7), Text("ø")]"#, r"[Integer(8), Null]"];
    assert_eq!(found.unwrap(), rows);
    let told = server.told();
    let (begin, told) = (told[3].as_str(), &told[4..]);
    assert_eq!(begin, "[begin]");
    assert_eq!(told[0], "~select id, name from t");
    assert_eq!(told[1], "~[rollback]");
    let error = query(&server, "disable", "delete from t")
        .await
        .unwrap_err();
    assert_eq!(error.code, "statement_refused");
}

#[tokio::test]
async fn a_login_that_is_refused_says_so() {
    let script = Script {
        refuses_login: true,
        ..Script::default()
    };
    let server = Server::start(script).await;
    let error = query(&server, "disable", "select 1").await.unwrap_err();
    assert_eq!((error.code, error.is_passing), ("access_denied", false));
    assert_eq!(error.message, "Login failed for user 'flows'.");
}

#[tokio::test]
async fn a_server_without_encryption_is_taken_where_it_may() {
    let server = Server::start(Script::default()).await;
    let found = query(&server, "prefer", "select id, name from t").await;
    assert_eq!(found.unwrap().len(), 2);
    for tls in ["require", "verify"] {
        let error = query(&server, tls, "select 1").await.unwrap_err();
        assert_eq!(error.code, "tls_failed", "{tls}");
    }
}

#[tokio::test]
async fn who_gives_up_closes_the_connection() {
    let script = Script {
        is_silent_at: Some("waiting"),
        ..Script::default()
    };
    let server = Server::start(script).await;
    let asking = query(&server, "disable", "select waiting from t");
    tokio::select! {
        _ = asking => panic!("nobody answered"),
        () = server.wait_for("~select waiting") => {}
    }
    server.wait_for("[closed]").await;
}

#[tokio::test]
async fn another_kind_of_server_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let server = Server {
        port,
        told: Arc::default(),
        bulk: Arc::default(),
    };
    let error = query(&server, "disable", "select 1").await.unwrap_err();
    assert_eq!(error.code, "database_unreachable", "{error}");
}
