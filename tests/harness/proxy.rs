//! A network between a process and Redis that can be cut.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::sleep,
};

use crate::PrivateRedis;

/// What becomes of what is sent through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes through.
    Open,
    /// It goes through after so long.
    Slow(Duration),
    /// Nothing comes through, and nobody is told: connections stay open.
    Silent,
    /// All connections end, and new ones end at once.
    Cut,
}

/// A way to a Redis over TCP. It ends with the test.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
    lost: Lost,
}

/// What the next command that is answered by an end of its connection names.
type Lost = Arc<Mutex<Option<String>>>;

impl Proxy {
    /// An open way to a server.
    pub async fn to(redis: &PrivateRedis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passage, seen) = watch::channel(Passage::Open);
        let lost = Lost::default();
        tokio::spawn(accept(listener, redis.socket(), seen, Arc::clone(&lost)));
        Self {
            address,
            passage,
            lost,
        }
    }

    /// Lets the next command that names `text` through, and ends its connection
    /// in place of the answer.
    pub fn lose_the_answer_to(&self, text: &str) {
        *self.lost.lock().unwrap() = Some(text.to_owned());
    }

    /// Whether that has happened.
    pub fn has_lost_it(&self) -> bool {
        self.lost.lock().unwrap().is_none()
    }

    /// Its address, as the programs take that of Redis.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes what becomes of what is sent, also of what is under way.
    pub fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

async fn accept(
    listener: TcpListener,
    server: PathBuf,
    passage: watch::Receiver<Passage>,
    lost: Lost,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (passage, lost) = (passage.clone(), Arc::clone(&lost));
        tokio::spawn(carry(client, server.clone(), passage, lost));
    }
}

/// Carries one connection until one of its ends closes it or it is cut.
async fn carry(
    mut client: TcpStream,
    server: PathBuf,
    mut passage: watch::Receiver<Passage>,
    lost: Lost,
) {
    let mut cut = passage.clone();
    let ending = AtomicBool::new(false);
    // Looks at what a client sends, and says whether answers still get through.
    let ask = |bytes: &[u8]| {
        let mut lost = lost.lock().unwrap();
        let named = |text: &String| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        if lost.as_ref().is_some_and(named) {
            *lost = None;
            ending.store(true, Ordering::Relaxed);
        }
        true
    };
    let answer = |_: &[u8]| !ending.load(Ordering::Relaxed);
    let carried = async {
        passage.wait_for(is_passable).await.ok()?;
        let mut server = UnixStream::connect(Path::new(&server)).await.ok()?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = pump(from_client, to_server, passage.clone(), ask) => {}
            () = pump(from_server, to_client, passage.clone(), answer) => {}
        }
        Some(())
    };
    tokio::select! {
        _ = carried => {}
        _ = cut.wait_for(|passage| *passage == Passage::Cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: watch::Receiver<Passage>,
    goes_on: impl Fn(&[u8]) -> bool,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let Ok(now) = passage.wait_for(is_passable).await.map(|now| *now) else {
            return;
        };
        if let Passage::Slow(delay) = now {
            sleep(delay).await;
        }
        if !goes_on(&bytes[..length]) || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

fn is_passable(passage: &Passage) -> bool {
    matches!(passage, Passage::Open | Passage::Slow(_))
}
