//! `GET …/dataflows/{id}/runs/{runId}/status`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};
use millstream_shared::{
    access::Right,
    id::{FlowId, RunId},
};

use super::followed::Followed;
use crate::{
    app::App,
    auth::Caller,
    error::ApiError,
    query::{Await, Query},
    routes::Path,
};

/// Tells how a run is, at once or when it has ended.
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((flow, run)): Path<(FlowId, RunId)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.require(Right::Read, &flow)?;
    let asked = Await::read(&query, &headers)?;
    let followed = Followed::find(&app, &flow, run, caller.key_id(), asked).await?;
    Ok(followed.reply(&app, &flow, asked).await)
}
