//! `…/secrets`: values that flows name by `{{ secrets.name }}` and that nobody
//! is shown.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millstream_shared::{
    connection::{Secret, check_secret},
    id::SecretName,
};
use serde::Serialize;

use crate::{
    app::App,
    auth::Admin,
    body::WholeBody,
    error::{ApiError, MemberProblem},
    members::Members,
    routes::Path,
};

/// What stands in place of a secret's name to have everything sealed anew. A
/// secret may have this name too: it knows other methods.
const RESEAL: &str = "reseal";

#[derive(Serialize)]
struct SecretReply {
    name: SecretName,
}

#[derive(Serialize)]
struct ListReply {
    secrets: Vec<String>,
}

#[derive(Serialize)]
struct ResealedReply {
    resealed: usize,
}

/// Keeps a secret. There is no way to read it back.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    let vault = app.vault()?;
    let name: SecretName = name.parse().map_err(|error| {
        ApiError::InvalidSecret(vec![MemberProblem::new("name", format!("{error}"))])
    })?;
    let value = read(&body)?;
    let is_new = vault.put_secret(&name, value.reveal()).await?;
    tracing::info!(secret = %name, by = %admin.key_id(), "secret kept");
    let status = super::kept(is_new);
    Ok((status, Json(SecretReply { name })).into_response())
}

/// The names of all secrets.
pub(crate) async fn list(State(app): State<Arc<App>>, _admin: Admin) -> Result<Response, ApiError> {
    let secrets = app.vault()?.secret_names().await?;
    Ok(Json(ListReply { secrets }).into_response())
}

/// Deletes a secret. A step that names it fails from then on.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let vault = app.vault()?;
    let unknown = || ApiError::NoSuchSecret(name.chars().take(64).collect());
    let name: SecretName = name.parse().map_err(|_| unknown())?;
    if !vault.delete_secret(&name).await? {
        return Err(unknown());
    }
    tracing::info!(secret = %name, by = %admin.key_id(), "secret deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Seals anew what an older key has sealed, connections included, so that the
/// older key can be taken away.
pub(crate) async fn reseal(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    if name != RESEAL {
        return Err(ApiError::NoSuchRoute("there is no such route".to_owned()));
    }
    let resealed = app.vault()?.reseal().await?;
    tracing::info!(resealed, by = %admin.key_id(), "secrets sealed anew");
    Ok(Json(ResealedReply { resealed }).into_response())
}

fn read(body: &[u8]) -> Result<Secret, ApiError> {
    let mut members = Members::parse(body)?;
    let value: Option<String> = members.require("value", "a text");
    if let Some(Err(why)) = value.as_deref().map(check_secret) {
        members.problem("value", &why);
    }
    let problems = members.into_problems();
    match value {
        Some(value) if problems.is_empty() => Ok(Secret::from(value)),
        _ => Err(ApiError::InvalidSecret(problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_text_that_can_be_masked_and_is_never_told() {
        assert_eq!(read(br#"{"value": "four"}"#).unwrap().reveal(), "four");
        for body in [
            r#"{"value": "canary"#,
            r#"{"value": canary}"#,
            r#"{"value": ["canary"]}"#,
            r#"{"value": "canary", "stray": "canary"}"#,
            r#"{"value": "cnr"}"#,
            "canary",
            "{}",
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("canary") && !told.contains("cnr"), "{told}");
        }
    }
}
