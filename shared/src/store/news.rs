//! News for one API process, on a connection of its own.
//!
//! Published messages are lost whenever the connection is: after every
//! [`Notice::Subscribed`] the listener must look for itself at what it waits
//! for. A connection that is open but dead is found by a ping.

use std::time::Duration;

use futures::StreamExt;
use redis::{
    Client, Msg, RedisError,
    aio::{PubSubSink, PubSubStream},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Store, StoreError, keys};
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

/// The news of one API process.
pub struct News {
    client: Client,
    timeout: Duration,
    channels: [String; 2],
    listening: Option<Listening>,
    retry_after: Duration,
}

struct Listening {
    sink: PubSubSink,
    messages: PubSubStream,
    ping_at: Instant,
}

impl Store {
    /// The news for `instance`. The connection is made by [`News::next`].
    pub fn news(&self, instance: ProcessId) -> News {
        News {
            client: self.shared.client.clone(),
            timeout: self.shared.timeout,
            channels: [keys::api_channel(instance), keys::CHANGES.to_owned()],
            listening: None,
            retry_after: RECONNECT_AFTER,
        }
    }

    pub(super) async fn publish_change(&self, change: &str) -> Result<(), StoreError> {
        let mut connection = self.shared.pool.get().await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keys::CHANGES).arg(change);
        Ok(publish.exec_async(&mut connection).await?)
    }
}

impl News {
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
            match listening.heard(self.timeout).await {
                Some(Some(notice)) => return notice,
                Some(None) => {}
                None => {
                    self.listening = None;
                    return Notice::Disconnected;
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<Listening, RedisError> {
        let subscribing = async {
            let (mut sink, messages) = self.client.get_async_pubsub().await?.split();
            sink.subscribe(&self.channels[..]).await?;
            Ok(Listening {
                sink,
                messages,
                ping_at: Instant::now() + PING_EVERY,
            })
        };
        let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        timeout(self.timeout, subscribing)
            .await
            .map_err(timed_out)?
    }
}

impl Listening {
    /// A message, nothing (the connection is fine), or `None`: it is lost.
    async fn heard(&mut self, ping_timeout: Duration) -> Option<Option<Notice>> {
        tokio::select! {
            message = self.messages.next() => message.map(|message| parsed(&message)),
            () = sleep_until(self.ping_at) => {
                self.ping_at = Instant::now() + PING_EVERY;
                let pong = timeout(ping_timeout, self.sink.ping::<redis::Value>()).await;
                matches!(pong, Ok(Ok(_))).then_some(None)
            }
        }
    }
}

/// What a message says: `<run> <state>`, `flow <id>`, `key <id>`. Anything
/// else is not for us.
fn parsed(message: &Msg) -> Option<Notice> {
    let text: String = message.get_payload().ok()?;
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
