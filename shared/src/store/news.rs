//! What API processes listen to: the ends of runs that they wait for, and
//! changes of flows and keys.
//!
//! Published messages are lost whenever the connection is: after every
//! [`Notice::Subscribed`] the listener must look for itself at what it waits
//! for. A connection that is open but dead is found by a ping.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisError, Value,
    aio::MultiplexedConnection, from_redis_value,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Store, StoreError};
use crate::{
    id::{FlowId, KeyId, ProcessId, RunId},
    run::RunState,
};

/// How often the connection is tried.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long to wait before connecting again, at first and at most.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// News come from now on; whatever came before may have been missed.
    Subscribed,
    /// No news come until the next `Subscribed`.
    Disconnected,
    /// A run that this process registered for has ended.
    RunEnded {
        /// The run.
        run: RunId,
        /// Its final state.
        state: RunState,
    },
    /// A flow has another version.
    FlowChanged(FlowId),
    /// A key was made, changed or revoked.
    KeyChanged(KeyId),
}

/// The news that one partition has for an API process.
pub struct News {
    store: Store,
    partition: u8,
    channels: Vec<String>,
    listening: Option<Listening>,
    retry_after: Duration,
}

struct Listening {
    connection: MultiplexedConnection,
    messages: mpsc::UnboundedReceiver<PushInfo>,
    ping_at: Instant,
}

impl Store {
    /// The news for `instance`, those of each partition apart; the first one
    /// has those of flows and keys as well. The connections are made by
    /// [`News::next`].
    pub fn news(&self, instance: ProcessId) -> Vec<News> {
        let partitions = (0..self.partitions()).map(|partition| partition as u8);
        let news = partitions.map(|partition| {
            let mut channels = vec![self.at(partition).api_channel(instance)];
            if partition == 0 {
                channels.push(self.registry().changes());
            }
            News {
                store: self.clone(),
                partition,
                channels,
                listening: None,
                retry_after: RECONNECT_AFTER,
            }
        });
        news.collect()
    }

    pub(super) async fn publish_change(&self, change: &str) -> Result<(), StoreError> {
        let registry = self.registry();
        let mut connection = registry.link().own_connection().await?;
        let mut publish = redis::cmd(registry.publish());
        publish.arg(registry.changes()).arg(change);
        Ok(publish.exec_async(&mut connection).await?)
    }
}

impl News {
    /// The partition whose news these are.
    pub fn partition(&self) -> u8 {
        self.partition
    }

    /// The next piece of news. Never ends: a lost connection is news, too, and
    /// is made again.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(listening) = &mut self.listening else {
                match self.subscribe().await {
                    Ok(listening) => {
                        self.listening = Some(listening);
                        self.retry_after = RECONNECT_AFTER;
                        return Notice::Subscribed;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot subscribe to news");
                        sleep(self.retry_after).await;
                        self.retry_after = (self.retry_after * 2).min(RECONNECT_AFTER_MAX);
                        continue;
                    }
                }
            };
            match listening.heard(self.store.shared.timeout).await {
                Heard::Notice(notice) => return notice,
                Heard::Nothing => {}
                Heard::End => {
                    self.listening = None;
                    return Notice::Disconnected;
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<Listening, RedisError> {
        let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        timeout(self.store.shared.timeout, self.listen())
            .await
            .map_err(timed_out)?
    }

    async fn listen(&self) -> Result<Listening, RedisError> {
        let master = self.store.at(self.partition).link().master().await?;
        let info = master.get_connection_info().clone();
        // Only this protocol has messages beside the answers to commands.
        let settings = info.redis_settings().clone();
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
        let (sender, messages) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.store.shared.timeout))
            .set_response_timeout(Some(self.store.shared.timeout))
            .set_push_sender(sender);
        let mut connection = redis::Client::open(info)?
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let word = if self.store.shared.in_cluster {
            "SSUBSCRIBE"
        } else {
            "SUBSCRIBE"
        };
        for channel in &self.channels {
            let mut subscribe = redis::cmd(word);
            subscribe.arg(channel).exec_async(&mut connection).await?;
        }
        Ok(Listening {
            connection,
            messages,
            ping_at: Instant::now() + PING_EVERY,
        })
    }
}

/// What came of listening for a while.
enum Heard {
    Notice(Notice),
    Nothing,
    End,
}

impl Listening {
    async fn heard(&mut self, ping_timeout: Duration) -> Heard {
        tokio::select! {
            message = self.messages.recv() => message.map_or(Heard::End, |message| heard(&message)),
            () = sleep_until(self.ping_at) => {
                self.ping_at = Instant::now() + PING_EVERY;
                let ping = redis::cmd("PING");
                let pong = ping.query_async::<Value>(&mut self.connection);
                match timeout(ping_timeout, pong).await {
                    Ok(Ok(_)) => Heard::Nothing,
                    _ => Heard::End,
                }
            }
        }
    }
}

fn heard(message: &PushInfo) -> Heard {
    match message.kind {
        PushKind::Message | PushKind::SMessage => {
            parsed(&message.data).map_or(Heard::Nothing, Heard::Notice)
        }
        // Another server has the partition by now.
        PushKind::Disconnection | PushKind::SUnsubscribe => Heard::End,
        _ => Heard::Nothing,
    }
}

/// What a message says: `<run> <state>`, `flow <id>`, `key <id>`. Anything
/// else is not for us.
fn parsed(data: &[Value]) -> Option<Notice> {
    let text: String = from_redis_value(data.get(1)?.clone()).ok()?;
    let (first, second) = text.split_once(' ')?;
    match first {
        "flow" => Some(Notice::FlowChanged(second.parse().ok()?)),
        "key" => Some(Notice::KeyChanged(second.parse().ok()?)),
        run => Some(Notice::RunEnded {
            run: run.parse().ok()?,
            state: second.parse().ok()?,
        }),
    }
}
