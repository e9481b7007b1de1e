//! Sends the requests of one step, and shows who sends them.

use std::time::Duration;

use reqwest::StatusCode;

use super::{
    answer::{Incoming, Limit},
    client::Client,
    request::Request,
    tokens::Grant,
};
use crate::{mask::Mask, steps::StepError};

/// What the requests of one step have in common.
pub(super) struct Sender<'s> {
    pub(super) client: &'s Client,
    /// Where their tokens come from.
    pub(super) grant: Option<&'s Grant>,
    pub(super) mask: &'s Mask,
    /// Statuses of 400 and above that are no failures.
    pub(super) accept: &'s [u32],
    /// How long each may take.
    pub(super) time: Duration,
}

impl Sender<'_> {
    /// Sends a request; its answer, whose body is still to come. A status of
    /// 400 and above is an error unless the step accepts it.
    ///
    /// A token that the service does not take any more is renewed once.
    pub(super) async fn send(&self, mut request: Request) -> Result<Incoming, StepError> {
        let grant = self.grant.filter(|_| request.is_at_home);
        let Some(grant) = grant else {
            return self.judged(self.open(&request).await?).await;
        };
        let tokens = &self.client.tokens;
        let token = tokens.token(grant, self.client, self.mask).await?;
        request.set_bearer(&token)?;
        let incoming = self.open(&request).await?;
        if incoming.status() != StatusCode::UNAUTHORIZED {
            return self.judged(incoming).await;
        }
        drop(incoming);
        tokens.forget(grant, &token).await;
        let token = tokens.token(grant, self.client, self.mask).await?;
        request.set_bearer(&token)?;
        self.judged(self.open(&request).await?).await
    }

    async fn open(&self, request: &Request) -> Result<Incoming, StepError> {
        self.client.open(request, Limit::of(self.time)).await
    }

    async fn judged(&self, incoming: Incoming) -> Result<Incoming, StepError> {
        let status = u32::from(incoming.status().as_u16());
        if incoming.is_refusal() && !self.accept.contains(&status) {
            return Err(incoming.refusal().await);
        }
        Ok(incoming)
    }
}
