//! `PUT …/dataflows/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use millstream_shared::{
    flow::{Flow, Problem},
    id::FlowId,
};
use serde::Serialize;

use crate::{app::App, auth::Admin, body::WholeBody, error::ApiError, routes::Path};

#[derive(Serialize)]
struct PublishedReply {
    id: FlowId,
    version: u32,
}

/// Publishes a flow. What runs already goes on with the version it began with.
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<String>,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    let (source, flow) = read(&id, &body)?;
    let published = app.store.publish_flow(&flow, &source).await?;
    app.flows.forget(&flow.id);
    let version = published.version;
    tracing::info!(flow = %flow.id, version, by = %admin.key_id(), "flow published");
    let status = super::kept(published.created);
    let id = flow.id;
    Ok((status, Json(PublishedReply { id, version })).into_response())
}

/// The text of a flow and what it says. It must be about the flow in the path.
fn read(id: &str, body: &Bytes) -> Result<(String, Flow), ApiError> {
    let id: FlowId = id
        .parse()
        .map_err(|error| about_the_id(format!("{error}")))?;
    let source = String::from_utf8(body.to_vec()).map_err(|error| {
        ApiError::InvalidFlow(vec![not_text(body, error.utf8_error().valid_up_to())])
    })?;
    let flow = Flow::parse(&source)?;
    if flow.id != id {
        let message = format!("is `{}`, but the path names flow `{id}`", flow.id);
        return Err(about_the_id(message));
    }
    Ok((source, flow))
}

fn about_the_id(message: String) -> ApiError {
    ApiError::InvalidFlow(vec![Problem {
        path: "id".to_owned(),
        line: 1,
        column: 1,
        message,
    }])
}

/// Where a body stops being UTF-8.
fn not_text(body: &[u8], valid_up_to: usize) -> Problem {
    let before = String::from_utf8_lossy(&body[..valid_up_to]);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    Problem {
        path: String::new(),
        line: before.matches('\n').count() as u64 + 1,
        column: last_line.chars().count() as u64 + 1,
        message: "the text is not UTF-8".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(id: &str, body: &'static [u8]) -> Problem {
        match read(id, &Bytes::from_static(body)) {
            Err(ApiError::InvalidFlow(problems)) => problems.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_id_that_no_flow_can_have_is_named() {
        let problem = problem("a b", b"id: a");
        assert_eq!(problem.path, "id");
        assert!(problem.message.contains("`a b`"), "{}", problem.message);
    }

    #[test]
    fn a_body_that_is_not_text_says_where() {
        let problem = problem("a", b"id: a\nname: \xff");
        assert_eq!((problem.line, problem.column), (2, 7));
    }
}
