//! The blocking read of the queues, on a connection of its own: whoever
//! blocks on a shared connection stalls everybody else on it.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, RedisError, Value, aio::MultiplexedConnection, from_redis_value,
};

use super::{
    Store, StoreError,
    connect::{open, unexpected},
    keys,
    queue::{all_queues, queues},
};
use crate::{
    id::{ProcessId, RunId, WorkerTag},
    run::Priority,
};

/// How much longer than asked a blocking read may take before its connection
/// counts as dead. Generous: older servers start the time anew when a client
/// that waits is touched.
const MARGIN: Duration = Duration::from_secs(5);

/// An entry that was delivered to a worker and not begun yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub(super) stream: String,
    pub(super) entry: String,
    /// The run that the entry names; empty where it names none.
    pub(super) run: String,
}

impl Delivered {
    /// Whether the run is to be executed by a worker that executes nothing else.
    pub fn is_for_one_alone(&self) -> bool {
        keys::is_alone_queue(&self.stream)
    }

    /// The run that the entry names, if it names one.
    pub fn run(&self) -> Option<RunId> {
        self.run.parse().ok()
    }
}

/// Waits for runs in a partition's queues of some tags.
pub struct QueueReader {
    store: Store,
    partition: u8,
    streams: Vec<String>,
    /// All streams of which this worker may hold entries.
    held_in: Vec<String>,
    worker: ProcessId,
    block: Duration,
    connection: Option<MultiplexedConnection>,
}

impl Store {
    /// A reader for `worker` that waits at most `block` at a time.
    pub fn queue_reader(
        &self,
        partition: u8,
        tags: &[WorkerTag],
        worker: ProcessId,
        block: Duration,
    ) -> QueueReader {
        QueueReader {
            store: self.clone(),
            partition,
            streams: queues(tags, Priority::ALL)
                .map(|queue| self.at(partition).queue(&queue))
                .collect(),
            held_in: all_queues(tags)
                .map(|queue| self.at(partition).queue(&queue))
                .collect(),
            worker,
            block,
            connection: None,
        }
    }
}

impl QueueReader {
    /// Waits for an entry of each queue at most, or until the time to block is
    /// over. Dropping the future may leave an entry delivered to nobody; the
    /// lease brings it back.
    ///
    /// After an error, and at the first call, everything that this worker holds
    /// is delivered again, whether it knows or not: the caller leaves out what it
    /// executes and begins the rest.
    ///
    /// # Errors
    /// Fails where Redis does; the next call connects anew.
    pub async fn next(&mut self) -> Result<Vec<Delivered>, StoreError> {
        let read = match &mut self.connection {
            Some(connection) => {
                let block_ms = (self.block.as_millis() as u64).max(1);
                let command = read_command(&self.streams, self.worker, Some(block_ms));
                command.query_async(connection).await
            }
            None => self.reconnect().await,
        };
        let answer = match read {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NOGROUP") => {
                self.create_groups().await?;
                return Ok(Vec::new());
            }
            Err(error) => {
                self.connection = None;
                return Err(error.into());
            }
        };
        delivered(answer).map_err(|_| unexpected("XREADGROUP"))
    }

    /// Gives the connection up: the next call opens another one, and answers
    /// with everything that this worker holds.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Opens the connection and asks for entries whose delivery got lost with
    /// the last one. Those that the worker executes are among them: the caller
    /// leaves them out.
    async fn reconnect(&mut self) -> Result<Value, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(MARGIN))
            .set_response_timeout(Some(self.block + MARGIN));
        let link = self.store.at(self.partition).link();
        let connection = self.connection.insert(open(link, &config).await?);
        let command = read_command(&self.held_in, self.worker, None);
        command.query_async(connection).await
    }

    /// Makes the groups that are missing, from the start of their streams, so
    /// that nothing that waits there is passed over.
    async fn create_groups(&mut self) -> Result<(), StoreError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        for stream in &self.held_in {
            let mut create = redis::cmd("XGROUP");
            create
                .arg("CREATE")
                .arg(stream)
                .arg(keys::GROUP)
                .arg("0")
                .arg("MKSTREAM");
            match create.exec_async(connection).await {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads new entries and waits for them, or, without a time to block, entries
/// that were delivered before.
fn read_command(streams: &[String], worker: ProcessId, block_ms: Option<u64>) -> redis::Cmd {
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(keys::GROUP).arg(worker.to_string());
    match block_ms {
        // One entry a queue: what more there is, the claim takes.
        Some(block_ms) => read.arg("COUNT").arg(1).arg("BLOCK").arg(block_ms),
        None => &mut read,
    };
    read.arg("STREAMS").arg(streams);
    let from = if block_ms.is_some() { ">" } else { "0" };
    read.arg(vec![from; streams.len()]);
    read
}

type Entries = Vec<(String, Option<Vec<String>>)>;

fn delivered(answer: Value) -> Result<Vec<Delivered>, redis::ParsingError> {
    let streams: Option<Vec<(String, Entries)>> = from_redis_value(answer)?;
    let mut delivered = Vec::new();
    for (stream, entries) in streams.unwrap_or_default() {
        for (entry, fields) in entries {
            let run = match fields.as_deref() {
                Some([name, run, ..]) if name == "run" => run.clone(),
                _ => String::new(),
            };
            delivered.push(Delivered {
                stream: stream.clone(),
                entry,
                run,
            });
        }
    }
    Ok(delivered)
}
