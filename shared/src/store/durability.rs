//! How safe an accepted start is, where a caller asks for more than the server
//! gives to all: written through to the disk, or known to a replica.

use std::{fmt, str::FromStr};

use redis::{Value, from_redis_value};

use super::{Enqueue, Enqueued, Store, StoreError, link::Link, partition::Partition, start};

/// How safe a start is when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As the server keeps everything: in its memory, and a moment later on its
    /// disk.
    Memory,
    /// On the disk of the server.
    Fsync,
    /// With one replica of the server at least.
    Replicated,
}

impl Durability {
    /// The level's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no durability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a durability: it must be `memory`, `fsync` or `replicated`")]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(word: &str) -> Result<Self, UnknownDurability> {
        let levels = [Self::Memory, Self::Fsync, Self::Replicated];
        let known = levels.into_iter().find(|level| level.as_str() == word);
        known.ok_or_else(|| UnknownDurability(word.to_owned()))
    }
}

/// A start, and how safe it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// What became of the start.
    pub enqueued: Enqueued,
    /// The level that was reached in time; it may be less than was asked for.
    pub reached: Durability,
}

/// How the server says that a write is safe.
#[derive(Clone, Copy)]
enum Confirmation {
    /// By answering it.
    Answer,
    /// By `WAITAOF`.
    WaitAof,
    /// By `WAIT`.
    Wait,
}

/// How long what is written only to wait for it lives.
const MARK_MS: u64 = 1000;

impl Store {
    /// Accepts a start as [`Store::enqueue`] does, and waits until it is as safe
    /// as asked for, for half the time that a command may take.
    ///
    /// # Errors
    /// [`StoreError::Unsuitable`] where the server has no way to that level;
    /// nothing is accepted then. Otherwise as [`Store::enqueue`].
    pub async fn enqueue_durably(
        &self,
        start: &Enqueue,
        asked: Durability,
    ) -> Result<Durable, StoreError> {
        let partition = self.of(start.run);
        let confirmation = match asked {
            Durability::Memory => {
                return Ok(Durable {
                    enqueued: self.enqueue(start).await?,
                    reached: asked,
                });
            }
            Durability::Fsync => to_disk(partition.link()).await?,
            Durability::Replicated => to_replica(partition.link()).await?,
        };
        let timeout_ms = (self.shared.timeout / 2).as_millis() as u64;
        confirmed(partition, start, asked, confirmation, timeout_ms).await
    }
}

/// What a wait confirms is what its own connection has written.
async fn confirmed(
    partition: &Partition,
    start: &Enqueue,
    asked: Durability,
    confirmation: Confirmation,
    timeout_ms: u64,
) -> Result<Durable, StoreError> {
    let mut connection = partition.link().waiting_connection().await?;
    let call = start::call(partition, start)?;
    let answer = partition
        .link()
        .observe(call.invoke_on(&mut connection).await)?;
    let enqueued = start::enqueued(answer)?;
    match enqueued {
        Enqueued::Accepted { .. } => {}
        Enqueued::Replayed { .. } => {
            // Who sends a start again may not have heard how safe the first one
            // was. It is as safe as whatever is written after it.
            let mut mark = redis::cmd("SET");
            mark.arg(partition.turn("mark"))
                .arg("")
                .arg("PX")
                .arg(MARK_MS);
            partition
                .link()
                .observe(mark.exec_async(&mut connection).await)?;
        }
        Enqueued::OtherBody | Enqueued::Full(_) => {
            let reached = Durability::Memory;
            return Ok(Durable { enqueued, reached });
        }
    }
    let mut wait = match confirmation {
        Confirmation::Answer => {
            return Ok(Durable {
                enqueued,
                reached: asked,
            });
        }
        Confirmation::WaitAof => redis::cmd("WAITAOF"),
        Confirmation::Wait => redis::cmd("WAIT"),
    };
    wait.arg(1);
    if matches!(confirmation, Confirmation::WaitAof) {
        wait.arg(0);
    }
    let waited = wait.arg(timeout_ms).query_async(&mut connection).await;
    let reached = match waited {
        Ok(Value::Int(1..)) => asked,
        Ok(Value::Array(counts)) if matches!(counts.first(), Some(Value::Int(1..))) => asked,
        Ok(_) => Durability::Memory,
        Err(error) => {
            // It is accepted: that it cannot be said to be safer is no failure.
            tracing::warn!(%error, "a start could not be confirmed");
            Durability::Memory
        }
    };
    Ok(Durable { enqueued, reached })
}

async fn to_disk(link: &Link) -> Result<Confirmation, StoreError> {
    let setting = async |name: &str| {
        let mut ask = redis::cmd("CONFIG");
        let told: Result<Vec<String>, _> = link.ask(ask.arg("GET").arg(name)).await;
        told.ok().and_then(|told| told.into_iter().nth(1))
    };
    let appends = setting("appendonly").await;
    if appends.as_deref() == Some("no") {
        return Err(StoreError::Unsuitable(
            "redis has no append-only file, so nothing gets to its disk at once".into(),
        ));
    }
    let mut ask = redis::cmd("COMMAND");
    // Not everybody may ask.
    let known: Result<Vec<Value>, _> = link.ask(ask.arg("INFO").arg("WAITAOF")).await;
    if known.is_ok_and(|known| !matches!(known.first(), None | Some(Value::Nil))) {
        return Ok(Confirmation::WaitAof);
    }
    if setting("appendfsync").await.as_deref() == Some("always") {
        return Ok(Confirmation::Answer);
    }
    Err(StoreError::Unsuitable(
        "redis cannot say when a write is on its disk: that needs version 7.2 or newer, or appendfsync always".into(),
    ))
}

async fn to_replica(link: &Link) -> Result<Confirmation, StoreError> {
    let role: Vec<Value> = link.ask(&redis::cmd("ROLE")).await?;
    let replicas = role.into_iter().nth(2).map(from_redis_value::<Vec<Value>>);
    match replicas {
        Some(Ok(replicas)) if !replicas.is_empty() => Ok(Confirmation::Wait),
        _ => Err(StoreError::Unsuitable(
            "redis has no replica at the moment".into(),
        )),
    }
}
