//! The subscriptions of the process, one for each partition, and who is told
//! what came in on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;

use millstream_shared::store::{News, Notice};

use crate::{app::App, measure};

/// Whether news come in at the moment.
#[derive(Debug)]
pub(crate) struct Subscription(Mutex<Vec<bool>>);

impl Subscription {
    pub(crate) fn new(partitions: u16) -> Self {
        Self(Mutex::new(vec![false; partitions.into()]))
    }

    /// Whether those of all partitions do.
    pub(crate) fn is_alive(&self) -> bool {
        self.lock().iter().all(|alive| *alive)
    }

    fn set(&self, partition: u8, alive: bool) {
        self.lock()[usize::from(partition)] = alive;
        measure::subscribed(self.is_alive());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<bool>> {
        // Every change of it is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes news on, until stopped.
pub(crate) async fn follow_until_stopped(app: Arc<App>, news: Vec<News>) {
    join_all(news.into_iter().map(|news| follow(&app, news))).await;
}

async fn follow(app: &App, mut news: News) {
    let partition = news.partition();
    loop {
        let notice = tokio::select! {
            () = app.stopping.cancelled() => return,
            notice = news.next() => notice,
        };
        match notice {
            Notice::Subscribed => {
                app.subscription.set(partition, true);
                app.forget_all();
                app.waiting.news_missed(partition);
            }
            Notice::Disconnected => {
                app.subscription.set(partition, false);
                tracing::warn!("news of runs are interrupted");
            }
            Notice::RunEnded { run, state } => app.waiting.ended(run, state),
            Notice::FlowChanged(flow) => app.flows.forget(&flow),
            Notice::KeyChanged(key) => app.keys.forget(&key),
        }
    }
}
