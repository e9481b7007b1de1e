//! `…/connections`: how flows reach databases, file stores and services.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millstream_shared::{
    connection::{Connection, Shown},
    id::ConnectionName,
};
use serde::Serialize;

use crate::{
    app::App,
    auth::Admin,
    body::WholeBody,
    error::{ApiError, MemberProblem},
    members,
    routes::Path,
};

/// A connection without its secrets, or why it cannot be shown.
#[derive(Serialize)]
struct ConnectionReply {
    name: String,
    #[serde(flatten)]
    shown: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct ListReply {
    connections: Vec<ConnectionReply>,
}

/// Keeps a connection. What the body leaves out is not there afterwards: nothing
/// of an earlier one stays, no secret either.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    let vault = app.vault()?;
    let name: ConnectionName = name.parse().map_err(|error| {
        ApiError::InvalidConnection(vec![MemberProblem::new("name", format!("{error}"))])
    })?;
    let connection = read(&body)?;
    let is_new = vault.put_connection(&name, &connection).await?;
    let kind = connection.kind();
    tracing::info!(connection = %name, kind, by = %admin.key_id(), "connection kept");
    let status = super::kept(is_new);
    Ok((status, Json(ConnectionReply::of(&name, &connection))).into_response())
}

/// Shows a connection without its secrets.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    _admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let vault = app.vault()?;
    let name = known(&name)?;
    let connection = vault.connection(&name).await?;
    let connection = connection.ok_or_else(|| unknown(name.as_str()))?;
    Ok(Json(ConnectionReply::of(&name, &connection)).into_response())
}

/// Shows all connections without their secrets.
pub(crate) async fn list(State(app): State<Arc<App>>, _admin: Admin) -> Result<Response, ApiError> {
    let kept = app.vault()?.connections().await?;
    let connections = kept.into_iter().map(|(name, connection)| {
        let (shown, error) = match connection {
            Ok(connection) => (Some(connection.shown()), None),
            Err(error) => (None, Some(ApiError::from(error).detail())),
        };
        ConnectionReply { name, shown, error }
    });
    let connections = connections.collect();
    Ok(Json(ListReply { connections }).into_response())
}

/// Deletes a connection. A step that names it fails from then on.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let vault = app.vault()?;
    let name = known(&name)?;
    if !vault.delete_connection(&name).await? {
        return Err(unknown(name.as_str()));
    }
    tracing::info!(connection = %name, by = %admin.key_id(), "connection deleted");
    Ok(StatusCode::NO_CONTENT)
}

impl ConnectionReply {
    fn of(name: &ConnectionName, connection: &Connection) -> Self {
        Self {
            name: name.to_string(),
            shown: Some(connection.shown()),
            error: None,
        }
    }
}

fn read(body: &[u8]) -> Result<Connection, ApiError> {
    let document = members::json(body)?;
    Connection::parse(&document).map_err(|invalid| {
        let name = match invalid.member {
            member if member.is_empty() => "body".to_owned(),
            member => member,
        };
        ApiError::InvalidConnection(vec![MemberProblem::new(name, invalid.message)])
    })
}

/// A name that no connection can have is one that nobody knows.
fn known(name: &str) -> Result<ConnectionName, ApiError> {
    name.parse().map_err(|_| unknown(name))
}

fn unknown(name: &str) -> ApiError {
    ApiError::NoSuchConnection(name.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_cannot_be_read_is_told_without_a_part_of_it() {
        for body in [
            r#"{"kind": "postgres", "password": "canary"#,
            r#"{"kind": "postgres", "password": canary}"#,
            r#"{"kind": "postgres", "password": ["canary"]}"#,
            r#"{"kind": "http", "url": "https://u:canary@h"}"#,
            r#"{"kind": "canary"}"#,
            r#"["canary"]"#,
            r#""canary""#,
            r#"{"kind": "sqlite", "path": {"canary": 1}}"#,
            r#"{"kind": "postgres", "tls": "canary", "host": "h", "database": "d", "user": "u"}"#,
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
