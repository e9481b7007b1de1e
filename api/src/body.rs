//! The body of a request, read whole within limits.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::timeout;

use crate::{app::App, error::ApiError};

/// A body must be there within this time.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Of a body that is too long, this much more is read and thrown away, and for
/// no longer than this: a connection that is closed with bytes unread is reset,
/// and the caller would not see the answer.
const DISCARDED_MAX: usize = 16 << 20;
const DISCARDING_MAX: Duration = Duration::from_secs(2);

/// The whole body of a request.
#[derive(Debug)]
pub(crate) struct WholeBody(pub(crate) Bytes);

impl FromRequest<Arc<App>> for WholeBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let read = whole(request.into_body(), app.body_bytes_max);
        timeout(TIME_MAX, read)
            .await
            .map_err(|_| ApiError::BodyTooSlow(TIME_MAX.as_secs()))?
            .map(Self)
    }
}

async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut frames = body.into_data_stream();
    let mut body = BytesMut::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| ApiError::BodyBroken)?;
        if body.len() + frame.len() > bytes_max {
            // How the rest of the body fares makes no difference to the answer.
            timeout(DISCARDING_MAX, discard(frames)).await.ok();
            return Err(ApiError::BodyTooLarge(bytes_max));
        }
        body.extend_from_slice(&frame);
    }
    Ok(body.freeze())
}

async fn discard(mut frames: BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = frames.next().await {
        discarded += frame.len();
        if discarded > DISCARDED_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_taken_up_to_the_limit() {
        let body = whole(Body::from("12345"), 5).await.unwrap();
        assert_eq!(body, "12345");
        let error = whole(Body::from("123456"), 5).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge(5)), "{error}");
    }
}
