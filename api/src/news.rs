//! The one subscription of the process, and who is told what came in on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use millstream_shared::store::{News, Notice};

use crate::{app::App, measure};

/// Whether news come in at the moment.
#[derive(Debug, Default)]
pub(crate) struct Subscription(AtomicBool);

impl Subscription {
    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, alive: bool) {
        self.0.store(alive, Ordering::Relaxed);
        measure::subscribed(alive);
    }
}

/// Passes news on, until stopped.
pub(crate) async fn follow_until_stopped(app: Arc<App>, mut news: News) {
    loop {
        let notice = tokio::select! {
            () = app.stopping.cancelled() => return,
            notice = news.next() => notice,
        };
        match notice {
            Notice::Subscribed => {
                app.subscription.set(true);
                app.forget_all();
                app.waiting.news_missed();
            }
            Notice::Disconnected => {
                app.subscription.set(false);
                tracing::warn!("news of runs are interrupted");
            }
            Notice::RunEnded { run, state } => app.waiting.ended(run, state),
            Notice::FlowChanged(flow) => app.flows.forget(&flow),
            Notice::KeyChanged(key) => app.keys.forget(&key),
        }
    }
}
