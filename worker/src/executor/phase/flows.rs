//! Tables and flows between steps: who gets them, how long they are kept, and
//! what happens to the makers of a flow when its taker fails.
//!
//! A flow is taken once. So where its taker is to be tried again, its makers are
//! stopped and start over together with it; those that had ended already are
//! executed again for their rows only, as after the loss of a worker.

use std::collections::HashMap;

use millstream_shared::{id::StepId, run::StepState};
use tokio::time::Instant;

use super::Carrying;
use crate::tables::{Feed, Flow};

impl Carrying<'_> {
    /// Notes that the rows of a step can be taken.
    pub(super) fn take_offer(&mut self, step: StepId, flow: Flow) {
        // It may have been stopped since.
        if self.progress.is_running(&step)
            && let Some(taker) = self.streams.get(&step)
        {
            self.progress.flow(step.clone(), taker.clone());
            self.feeds.insert(step, Feed::Flow(flow));
            // The taker may have been skipped.
            self.drop_feeds();
        }
    }

    /// What a step takes. A flow is its own from now on.
    pub(super) fn feeds_of(&mut self, step: &StepId) -> HashMap<StepId, Feed> {
        let mut feeds = HashMap::new();
        for table in &self.takes[step] {
            let feed = match self.feeds.get(table) {
                Some(Feed::Table(table)) => Some(Feed::Table(table.clone())),
                Some(Feed::Flow(_)) => self.feeds.remove(table),
                None => None,
            };
            if let Some(feed) = feed {
                feeds.insert(table.clone(), feed);
            }
        }
        feeds
    }

    /// Whether the step that takes the rows of this one, or one behind it, waits
    /// for its next attempt.
    pub(super) fn waits_with_taker(&self, step: &StepId) -> bool {
        let now = Instant::now();
        let mut step = step;
        while let Some(taker) = self.streams.get(step) {
            if self.waiting.get(taker).is_some_and(|due| *due > now) {
                return true;
            }
            step = taker;
        }
        false
    }

    /// Has the steps executed again whose rows a step takes and that flowed away
    /// with an earlier attempt of it; whether there are some. Those that these
    /// take are looked at when they are to start.
    pub(super) fn remake_lost(&mut self, step: &StepId) -> bool {
        let is_lost_maker = |maker: &&StepId| {
            self.streams.get(*maker) == Some(step)
                && !self.feeds.contains_key(*maker)
                && self.progress.state_of(maker) == Some(StepState::Succeeded)
        };
        let makers = self.takes[step].iter();
        let lost: Vec<StepId> = makers.filter(is_lost_maker).cloned().collect();
        for maker in &lost {
            self.make_again(maker);
        }
        !lost.is_empty()
    }

    /// Stops the steps that made rows again only for this one, which has ended.
    pub(super) fn stop_restored(&self, taker: &StepId) {
        self.stop_makers_if(taker, |maker| self.restoring.contains(maker));
    }

    /// Stops the steps that make rows for a step which failed.
    pub(super) fn stop_makers(&self, taker: &StepId) {
        self.stop_makers_if(taker, |_| true);
    }

    fn stop_makers_if(&self, taker: &StepId, is_meant: impl Fn(&StepId) -> bool) {
        for (maker, of) in &self.streams {
            if of == taker
                && is_meant(maker)
                && let Some(stop) = self.stops.get(maker)
            {
                stop.cancel();
            }
        }
    }

    /// Stops the steps whose rows nobody has begun to take.
    pub(super) fn stop_untaken(&self) {
        for (step, feed) in &self.feeds {
            if let (Feed::Flow(_), Some(stop)) = (feed, self.stops.get(step)) {
                stop.cancel();
            }
        }
    }

    /// A step was stopped, or what it took was: that was no attempt of its own.
    pub(super) fn starts_over(&mut self, step: &StepId) {
        let taker = self.streams.get(step);
        if taker.is_some_and(|taker| self.progress.state_of(taker).is_some())
            && self.restoring.remove(step)
        {
            self.progress.end(step.clone(), StepState::Succeeded);
            return;
        }
        if let Some(attempts) = self.attempts.get_mut(step) {
            *attempts = attempts.saturating_sub(1);
        }
        self.progress.pause(step);
        self.drop_flow(step);
    }

    /// Lets go of the flow of a step, which has stopped.
    pub(super) fn drop_flow(&mut self, step: &StepId) {
        if let Some(Feed::Flow(_)) = self.feeds.get(step) {
            self.feeds.remove(step);
        }
    }

    /// Lets go of what no step to come takes.
    pub(super) fn drop_feeds(&mut self) {
        let Self {
            feeds,
            takes,
            streams,
            progress,
            ..
        } = self;
        // Whose rows flow may have to start over as long as they are not taken.
        let may_start = |step: &StepId| {
            let mut step = step;
            loop {
                if progress.state_of(step).is_none() {
                    return true;
                }
                match streams.get(step) {
                    Some(taker) => step = taker,
                    None => return false,
                }
            }
        };
        feeds.retain(|table, _| {
            takes
                .iter()
                .any(|(step, takes)| takes.contains(table) && may_start(step))
        });
    }
}
