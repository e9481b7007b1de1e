//! The routes of administration.

pub(super) mod connections;
pub(super) mod dataflows;
pub(super) mod keys;
pub(super) mod secrets;

use axum::http::StatusCode;

/// How it is answered that something is kept that was put.
fn kept(is_new: bool) -> StatusCode {
    if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}
