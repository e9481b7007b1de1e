//! A server of files over HTTP that does as a test says.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// How a file is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// In ranges where these are asked for, with an `ETag`.
    Ranges,
    /// The same, but each answer of more than so many bytes ends after them,
    /// once for every range.
    CutRanges(usize),
    /// Always as a whole.
    Whole,
    /// As a whole of which only so many bytes come.
    CutWhole(usize),
    /// By another address.
    Redirect(String),
    /// As a whole, and only to who shows this.
    Authorized(String),
    /// Not at all, with this status.
    Status(u16),
}

/// A server on a port of this machine. It ends with the test.
#[derive(Clone, Debug)]
pub struct WebFiles {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, (Serving, Arc<Vec<u8>>)>,
    /// The heads of all requests.
    asked: Vec<String>,
}

impl WebFiles {
    /// Starts a server without files.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let serving = serving.clone();
                // A client that goes away is none of its business.
                tokio::spawn(async move { drop(serving.answer(client).await) });
            }
        });
        server
    }

    /// Serves a file from now on.
    pub fn put(&self, path: &str, serving: Serving, bytes: impl Into<Vec<u8>>) {
        let file = (serving, Arc::new(bytes.into()));
        let mut state = self.state.lock().unwrap();
        state.files.insert(path.to_owned(), file);
    }

    /// The address of a file.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of the requests for a file so far.
    pub fn asked(&self, path: &str) -> Vec<String> {
        let start = format!("GET {path} ");
        let state = self.state.lock().unwrap();
        let asked = state.asked.iter().filter(|head| head.starts_with(&start));
        asked.cloned().collect()
    }

    /// Answers one request and closes the connection.
    async fn answer(&self, client: TcpStream) -> std::io::Result<()> {
        let mut client = BufReader::new(client);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if client.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let (found, is_first) = {
            let mut state = self.state.lock().unwrap();
            let is_first = !state.asked.contains(&head);
            state.asked.push(head.clone());
            (state.files.get(&path).cloned(), is_first)
        };
        let (serving, bytes) = found.unwrap_or((Serving::Status(404), Arc::default()));
        let (head, body) = answered(&serving, &bytes, &head, is_first);
        client.write_all(head.as_bytes()).await?;
        client.write_all(body).await?;
        client.shutdown().await
    }
}

/// The head of an answer, and what comes of its body.
fn answered<'b>(
    serving: &Serving,
    bytes: &'b [u8],
    head: &str,
    is_first: bool,
) -> (String, &'b [u8]) {
    let header = |name: &str| {
        let line = head.lines().find(|line| {
            let start = line.get(..name.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(name))
        });
        line.map(|line| line[name.len()..].trim().to_owned())
    };
    let whole = |body: &'b [u8]| {
        let length = bytes.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        (head, body)
    };
    let status = |status: u16, further: &str| {
        let head = format!(
            "HTTP/1.1 {status} Status\r\n{further}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        (head, &bytes[..0])
    };
    match serving {
        Serving::Whole => whole(bytes),
        Serving::CutWhole(length) => whole(&bytes[..*length]),
        Serving::Redirect(to) => status(302, &format!("location: {to}\r\n")),
        Serving::Authorized(wanted) => match header("authorization:") {
            Some(shown) if shown == *wanted => whole(bytes),
            _ => status(401, ""),
        },
        Serving::Status(code) => status(*code, ""),
        Serving::Ranges | Serving::CutRanges(_) => {
            let Some(range) = header("range:").and_then(|range| parsed(&range, bytes.len())) else {
                return whole(bytes);
            };
            let mut body = &bytes[range.clone()];
            let (length, size) = (body.len(), bytes.len());
            if let Serving::CutRanges(most) = serving
                && is_first
            {
                body = &body[..length.min(*most)];
            }
            let (start, end) = (range.start, range.end - 1);
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{end}/{size}\r\n\
                 etag: \"{size}-{:x}\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
                bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>()
            );
            (head, body)
        }
    }
}

fn parsed(range: &str, bytes: usize) -> Option<Range<usize>> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end: usize = end.parse().ok()?;
    (start < bytes).then(|| start..(end + 1).min(bytes))
}
