//! The client against real servers on the loopback address.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Client, allow::AllowList, answer::Answer, client::BODY_BYTES_MAX, request::Request};
use crate::steps::StepError;

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

async fn exchange(allow: &str, step: Value) -> Result<Answer, StepError> {
    let client = Client::new(AllowList::parse(allow).unwrap()).unwrap();
    let step = serde_json::from_value(step).unwrap();
    client
        .exchange(Request::new(&step, "run-step").unwrap())
        .await
}

fn failure(result: Result<Answer, StepError>) -> StepError {
    match result {
        Ok(answer) => panic!("an answer of status {} came", answer.status),
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
    let answer = exchange(
        "127.0.0.1",
        json!({ "method": "POST", "url": server.url("/hook"), "query": { "q": "a b" },
                "headers": { "X-Tag": "t" }, "json": { "rows": 3 },
                "auth": { "basic": { "username": "u", "password": "p" } } }),
    )
    .await
    .unwrap();

    let output = answer.output(&crate::mask::Mask::default());
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
    assert_eq!(answer.body, b"hello");
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
    assert_eq!(answer.body, b"there");
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
    assert_eq!(answer.unwrap().body.len(), BODY_BYTES_MAX);
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
