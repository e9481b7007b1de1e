//! What every request and every answer passes through.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderValue, Method,
        header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tracing::Instrument;

use crate::{
    config::ErrorMode,
    error::{ApiError, as_legacy},
    measure,
};

/// Gives the request its place in the log, and counts it. The address is
/// logged without its query.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let method = known_method(request.method());
    let span = tracing::info_span!("request", method, path = request.uri().path());
    let began = Instant::now();
    async move {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        let route = matched.as_ref().map_or("none", MatchedPath::as_str);
        measure::request(route, method, status);
        let took_ms = began.elapsed().as_secs_f64() * 1000.0;
        tracing::debug!(status, took_ms, "answered");
        response
    }
    .instrument(span)
    .await
}

/// A caller can send any word as the method: that must not become a label.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Makes the answer what all answers are: not kept by caches, its address not
/// passed on to others, its status what the error mode says.
pub(crate) async fn finish(
    State(mode): State<ErrorMode>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let mut response = match mode {
        ErrorMode::Problem => response,
        ErrorMode::Legacy => as_legacy(response),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers for a handler that panicked.
pub(crate) async fn catch_panics(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| ApiError::Panicked.into_response())
}
