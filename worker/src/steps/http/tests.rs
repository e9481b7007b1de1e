//! The client against real servers on the loopback address.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use millstream_shared::{byte_size::ByteSize, connection::ClientAuth};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Client,
    allow::AllowList,
    answer::Limit,
    body::Body,
    client::Lookup,
    request::Request,
    sending::Sender,
    single::{self, BODY_BYTES_MAX},
    tokens::Grant,
};
use crate::{
    mask::Mask,
    steps::{StepError, StepOutput},
};

/// A server that answers every request with what `answer` makes of it, and
/// remembers the requests as they came.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&seen);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&remembered));
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    let bytes = answer(&request);
                    seen.lock().unwrap().push(request);
                    // The client may have hung up: that is for it to judge.
                    let _ = stream.write_all(&bytes).await;
                });
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return text;
            }
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let ours = name.eq_ignore_ascii_case("content-length");
            ours.then(|| value.trim().parse::<usize>().unwrap())
        });
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn client(allow: &str) -> Client {
    let size = ByteSize::of(1 << 20);
    Client::new(AllowList::parse(allow).unwrap(), size).unwrap()
}

fn request(step: Value) -> Request {
    let step = serde_json::from_value(step).unwrap();
    Request::new(&step, None, Body::plain(&step), "run-step").unwrap()
}

fn sender<'s>(client: &'s Client, mask: &'s Mask, grant: Option<&'s Grant>) -> Sender<'s> {
    Sender {
        client,
        grant,
        mask,
        accept: &[],
        time: Duration::from_secs(60),
    }
}

async fn exchange(allow: &str, step: Value) -> Result<StepOutput, StepError> {
    let (client, mask) = (client(allow), Mask::default());
    let sender = sender(&client, &mask, None);
    single::whole(sender.send(request(step)).await?).await
}

fn failure(result: Result<StepOutput, StepError>) -> StepError {
    match result {
        Ok(output) => panic!("an answer came: {}", output.value),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_request_arrives_as_its_step_says() {
    let server = Server::start(|_| {
        reply(
            "201 Created",
            "content-type: application/json\r\n",
            r#"{"ok":true}"#,
        )
    })
    .await;
    let output = exchange(
        "127.0.0.1",
        json!({ "method": "POST", "url": server.url("/hook"), "query": { "q": "a b" },
                "headers": { "X-Tag": "t" }, "json": { "rows": 3 },
                "auth": { "basic": { "username": "u", "password": "p" } } }),
    )
    .await
    .unwrap();

    assert_eq!(output.value["status"], 201);
    assert_eq!(output.value["body"], json!({ "ok": true }));
    assert_eq!(output.bytes, Some(11));
    let request = server.seen().remove(0).to_ascii_lowercase();
    assert!(
        request.starts_with("post /hook?q=a+b http/1.1\r\n"),
        "{request}"
    );
    for line in [
        "x-tag: t",
        "idempotency-key: run-step",
        "content-type: application/json",
        "authorization: basic dtpw",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"rows\":3}"), "{request}");
}

#[tokio::test]
async fn inner_addresses_are_refused_as_literals_and_as_names() {
    let server = Server::start(|_| reply("200 OK", "", "")).await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
    ] {
        let url = format!("http://{host}:{port}/x?key=hush");
        let error = failure(exchange("", json!({ "url": url })).await);
        assert_eq!((error.code, error.retriable), ("http_forbidden", false));
        assert!(!error.message.contains("hush"), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_host_listed_by_its_name_is_reached() {
    let server = Server::start(|_| reply("200 OK", "", "hello")).await;
    let url = format!("http://localhost:{}/", server.address.port());
    let answer = exchange("localhost", json!({ "url": url })).await.unwrap();
    assert_eq!(answer.value["body"], "hello");
}

#[tokio::test]
async fn a_redirect_is_followed_and_secrets_stay_behind() {
    let second = Server::start(|_| reply("200 OK", "", "there")).await;
    let target = second.url("/second");
    let first =
        Server::start(move |_| reply("302 Found", &format!("location: {target}\r\n"), "")).await;
    let answer = exchange(
        "127.0.0.1",
        json!({ "method": "POST", "url": first.url("/first"), "body": "data",
                "auth": { "bearer": { "token": "hush" } } }),
    )
    .await
    .unwrap();
    assert_eq!(answer.value["body"], "there");
    assert!(first.seen()[0].contains("hush"));
    let arrived = second.seen().remove(0);
    assert!(arrived.starts_with("GET /second "), "{arrived}");
    assert!(!arrived.contains("hush"), "{arrived}");
    assert!(!arrived.contains("data"), "{arrived}");
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_ends_the_request() {
    let inner = Server::start(|_| reply("200 OK", "", "secret")).await;
    for host in ["127.0.0.1", "localhost"] {
        let target = format!("http://{host}:{}/", inner.address.port());
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let location = format!("location: {target}\r\n");
            let bytes = reply("307 Temporary Redirect", &location, "");
            stream.write_all(&bytes).await.unwrap();
        });
        let url = format!("http://{address}/");
        let error = failure(exchange("127.0.0.2", json!({ "url": url })).await);
        assert_eq!(error.code, "http_forbidden", "{error}");
    }
    assert!(inner.seen().is_empty());
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = Server::start(|_| reply("302 Found", "location: /again\r\n", "")).await;
    let error = failure(exchange("127.0.0.1", json!({ "url": server.url("/") })).await);
    assert_eq!((error.code, error.retriable), ("http_redirects", false));
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn a_refused_request_fails_with_its_status() {
    let server = Server::start(|_| reply("503 Service Unavailable", "", "x".repeat(100_000))).await;
    let url = server.url("/a?token=hush-hush");
    let error = failure(exchange("127.0.0.1", json!({ "url": url })).await);
    assert_eq!((error.code, error.retriable), ("http_status", true));
    let start = format!(
        "GET {} answered 503 Service Unavailable: xxx",
        server.url("/a")
    );
    assert!(error.message.starts_with(&start), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_there_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/x?token=hush");
    let error = failure(exchange("127.0.0.1", json!({ "url": url })).await);
    assert_eq!((error.code, error.retriable), ("http_transport", true));
    assert!(error.message.contains("refused"), "{error}");
    assert!(!error.message.contains("hush"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_transport_failure() {
    let server =
        Server::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec()).await;
    let error = failure(exchange("127.0.0.1", json!({ "url": server.url("/") })).await);
    assert_eq!((error.code, error.retriable), ("http_transport", true));
}

#[tokio::test]
async fn a_packed_answer_is_unpacked_and_its_full_size_is_limited() {
    let packed = gzip(&vec![b'a'; BODY_BYTES_MAX]);
    let too_large = gzip(&vec![b'a'; BODY_BYTES_MAX + 1]);
    assert!(too_large.len() < 100_000);
    let server = Server::start(move |request| {
        let body = if request.starts_with("GET /ok") {
            &packed
        } else {
            &too_large
        };
        reply("200 OK", "content-encoding: gzip\r\n", body)
    })
    .await;
    let answer = exchange("127.0.0.1", json!({ "url": server.url("/ok") })).await;
    assert_eq!(answer.unwrap().bytes, Some(BODY_BYTES_MAX as u64));
    let error = failure(exchange("127.0.0.1", json!({ "url": server.url("/bomb") })).await);
    assert_eq!((error.code, error.retriable), ("http_too_large", false));
}

/// Packs with the program, so that no crate is needed for one test.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let packed = std::process::Command::new("gzip")
        .arg("--stdout")
        .arg(file.path())
        .output()
        .unwrap();
    assert!(packed.status.success());
    packed.stdout
}

/// Waits until a connection is asked for, answers its head, and then nothing
/// more for as long as the client stays.
async fn silent_server(head: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // Ends when the client hangs up.
        let _ = stream.read(&mut [0; 1]).await;
    });
    address
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_does_not_end_is_given_up() {
    for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"] {
        let address = silent_server(head).await;
        let (client, mask) = (client("127.0.0.1"), Mask::default());
        let short = Sender {
            time: Duration::from_millis(200),
            ..sender(&client, &mask, None)
        };
        let asking = async {
            let request = request(json!({ "url": format!("http://{address}/x") }));
            single::whole(short.send(request).await?).await
        };
        let error = failure(asking.await);
        assert_eq!((error.code, error.retriable), ("http_timeout", true));
        let expected = format!("GET http://{address}/x took longer than 200ms");
        assert_eq!(error.message, expected);
    }
}

#[tokio::test]
async fn an_answer_that_pauses_for_too_long_is_given_up() {
    let address = silent_server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
    let client = client("127.0.0.1");
    let request = request(json!({ "url": format!("http://{address}/x") }));
    let limit = Limit::with_silence(Duration::from_secs(60), Duration::from_millis(200));
    let mut incoming = client.open(&request, limit).await.unwrap();
    let reading = incoming.in_memory(100);
    let soon = tokio::time::timeout(Duration::from_secs(20), reading);
    let error = soon.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.retriable), ("http_timeout", true));
    assert!(error.message.ends_with("paused for 200ms"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_at_its_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let client = client("127.0.0.1");
    let request = request(json!({ "url": format!("http://{address}/x") }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer");
    let limit = Limit::of(Duration::from_secs(60));
    let mut incoming = client.open(&request, limit).await.unwrap();
    let error = incoming.write_to(&path, client.answer_size).await;
    let error = error.unwrap_err();
    assert_eq!((error.code, error.retriable), ("http_too_large", false));
    assert!(
        error
            .message
            .ends_with("more than the 1 MiB that --http-answer-size allows"),
        "{error}"
    );
}

/// A name server that changes its mind: the first time it gives an address that
/// may be reached.
fn changing_lookup(
    _: String,
) -> futures::future::BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let address = match ASKED.fetch_add(1, Ordering::SeqCst) {
        0 => "127.0.0.2:0",
        _ => "127.0.0.1:0",
    };
    async move { Ok(vec![address.parse().unwrap()]) }.boxed()
}

#[tokio::test]
async fn a_name_that_leads_inward_at_the_second_look_is_refused_then() {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let bytes = reply("302 Found", "location: /again\r\n", "");
        stream.write_all(&bytes).await.unwrap();
    });
    let allow = AllowList::parse("127.0.0.2").unwrap();
    let lookup: Lookup = changing_lookup;
    let client = Client::with_lookup(allow, ByteSize::of(1), lookup).unwrap();
    let mask = Mask::default();
    let request = request(json!({ "url": format!("http://changing.example:{port}/") }));
    let error = sender(&client, &mask, None)
        .send(request)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code, "http_forbidden", "{error}");
    assert!(error.message.contains("/again"), "{error}");
    assert!(inner.accept().now_or_never().is_none(), "it was dialled");
}

#[tokio::test]
async fn a_body_is_not_sent_on_to_another_host() {
    let second = Server::start(|_| reply("200 OK", "", "there")).await;
    let target = second.url("/second");
    let location = format!("location: {target}\r\n");
    let first = Server::start(move |_| reply("307 Temporary Redirect", &location, "")).await;
    let step = json!({ "method": "POST", "url": first.url("/first"), "body": "hush" });
    let error = failure(exchange("127.0.0.1", step).await);
    assert_eq!((error.code, error.retriable), ("http_request", false));
    assert!(
        error.message.contains("redirected to another host"),
        "{error}"
    );
    assert!(second.seen().is_empty());
}

fn grant(server: &Server, client_auth: ClientAuth) -> Grant {
    Grant {
        token_url: server.url("/token").parse().unwrap(),
        client_id: "me".to_owned(),
        client_secret: "hush/hush".to_owned(),
        client_auth,
        scope: Some("read write".to_owned()),
        audience: None,
    }
}

/// A service that takes only the token that was handed out last, at `/token`.
/// Each lives for an hour.
async fn guarded_server() -> Server {
    let handed_out = AtomicUsize::new(0);
    Server::start(move |request| {
        if request.starts_with("POST /token ") {
            let count = handed_out.fetch_add(1, Ordering::SeqCst) + 1;
            let token = json!({ "access_token": format!("token-{count}"), "expires_in": 3600 });
            return reply("200 OK", "", token.to_string());
        }
        let expected = format!(
            "authorization: Bearer token-{}",
            handed_out.load(Ordering::SeqCst)
        );
        let is_known = request.contains(&expected);
        // The first one is forgotten as soon as it was used once.
        if is_known && request.starts_with("GET /expire ") {
            handed_out.fetch_add(1, Ordering::SeqCst);
        }
        reply(
            if is_known {
                "200 OK"
            } else {
                "401 Unauthorized"
            },
            "",
            "",
        )
    })
    .await
}

fn tokens_asked(server: &Server) -> usize {
    let seen = server.seen();
    seen.iter()
        .filter(|request| request.starts_with("POST /token "))
        .count()
}

#[tokio::test]
async fn one_token_is_asked_for_however_many_steps_want_it() {
    let server = guarded_server().await;
    let (client, mask) = (client("127.0.0.1"), Mask::default());
    let grant = grant(&server, ClientAuth::Basic);
    let sender = sender(&client, &mask, Some(&grant));
    let all = (0..20).map(|_| sender.send(request(json!({ "url": server.url("/x") }))));
    for answer in join_all(all).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(tokens_asked(&server), 1);
    let asked = server.seen().remove(0);
    // `me:hush%2Fhush`, as RFC 6749 writes it.
    assert!(
        asked.contains("authorization: Basic bWU6aHVzaCUyRmh1c2g="),
        "{asked}"
    );
    assert!(
        asked.ends_with("grant_type=client_credentials&scope=read+write"),
        "{asked}"
    );
    assert_eq!(mask.text("token-1 hush/hush"), "*** ***");
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_renewed_once() {
    let server = guarded_server().await;
    let (client, mask) = (client("127.0.0.1"), Mask::default());
    let grant = grant(&server, ClientAuth::Body);
    let sender = sender(&client, &mask, Some(&grant));
    let get = |path: &str| sender.send(request(json!({ "url": server.url(path) })));
    assert_eq!(get("/expire").await.unwrap().status(), 200);
    assert_eq!(get("/x").await.unwrap().status(), 200);
    assert_eq!(tokens_asked(&server), 2);
    let asked = server.seen().remove(0);
    assert!(
        asked.ends_with("&client_id=me&client_secret=hush%2Fhush"),
        "{asked}"
    );
    assert!(!asked.contains("authorization"), "{asked}");

    let closed = Server::start(|request| {
        let is_token = request.starts_with("POST /token ");
        let token = r#"{"access_token": "token", "token_type": "Bearer"}"#;
        match is_token {
            true => reply("200 OK", "", token),
            false => reply("401 Unauthorized", "", "no token for you"),
        }
    })
    .await;
    let grant = super::tests::grant(&closed, ClientAuth::Basic);
    let sender = super::tests::sender(&client, &mask, Some(&grant));
    let mut refused = request(json!({ "url": closed.url("/x") }));
    refused.mask = mask.clone();
    let error = sender.send(refused).await.err().unwrap();
    assert_eq!((error.code, error.retriable), ("http_status", false));
    assert!(
        error.message.ends_with("401 Unauthorized: no *** for you"),
        "{error}"
    );
    assert_eq!(closed.seen().len(), 4);
}

#[tokio::test]
async fn an_authority_that_gives_no_token_is_told_as_such() {
    for (status, body, retriable, expected) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client hush/hush"}"#,
            false,
            "invalid_client ***",
        ),
        ("503 Service Unavailable", "", true, "503"),
        ("302 Found", "", false, "no token could be had"),
        (
            "200 OK",
            r#"{"access_token": ["hush-token"]}"#,
            false,
            "without an `access_token`",
        ),
        (
            "200 OK",
            r#"{"access_token":"hush","token_type":"mac"}"#,
            false,
            "no bearer token",
        ),
    ] {
        let location = "location: /elsewhere\r\n";
        let server = Server::start(move |_| reply(status, location, body)).await;
        let (client, mask) = (client("127.0.0.1"), Mask::default());
        let grant = grant(&server, ClientAuth::Basic);
        let sender = sender(&client, &mask, Some(&grant));
        let request = request(json!({ "url": server.url("/x") }));
        let error = sender.send(request).await.err().unwrap();
        assert_eq!(
            (error.code, error.retriable),
            ("oauth_refused", retriable),
            "{error}"
        );
        assert!(error.message.contains(expected), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_token_stays_with_the_service_that_it_is_for() {
    let second = Server::start(|_| reply("200 OK", "", "")).await;
    let server = guarded_server().await;
    let (client, mask) = (client("127.0.0.1"), Mask::default());
    let grant = grant(&server, ClientAuth::Basic);
    let sender = sender(&client, &mask, Some(&grant));
    let first = request(json!({ "url": server.url("/x") }));
    let page = first
        .for_page(2, second.url("/page").parse().unwrap())
        .unwrap();
    assert_eq!(sender.send(page).await.unwrap().status(), 200);
    let seen = second.seen().remove(0);
    assert!(
        !seen.to_ascii_lowercase().contains("authorization"),
        "{seen}"
    );
    assert!(seen.contains("idempotency-key: run-step-2"), "{seen}");
    let page = first
        .for_page(2, server.url("/page").parse().unwrap())
        .unwrap();
    assert_eq!(sender.send(page).await.unwrap().status(), 200);
}
