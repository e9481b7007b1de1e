//! Who asks: the key in the query or in a header, and what it allows.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, OriginalUri, Request},
    http::{HeaderMap, Uri, request::Parts, uri::PathAndQuery},
    middleware::Next,
    response::Response,
};
use millstream_shared::{
    access::{Key, PresentedKey, Right},
    id::{FlowId, KeyId},
};

use crate::{app::App, clock, error::ApiError};

const PARAMETER: &str = "api_key";
const HEADER: &str = "x-api-key";

/// The texts that a request showed as its key. There is no way to print them.
#[derive(Clone, Default)]
pub(crate) struct ShownKeys(Vec<String>);

/// Takes the key out of the request, before anything can log it.
///
/// It must be the outermost layer: what comes after it sees neither the
/// parameter nor the header.
pub(crate) async fn take_key(mut request: Request, next: Next) -> Response {
    let (uri, mut shown) = without_key(request.uri());
    if let Some(uri) = uri {
        *request.uri_mut() = uri.clone();
        request.extensions_mut().insert(OriginalUri(uri));
    }
    shown.extend(header_keys(request.headers()));
    request.headers_mut().remove(HEADER);
    request.extensions_mut().insert(ShownKeys(shown));
    next.run(request).await
}

/// The address without its keys, where it has any, and the keys.
fn without_key(uri: &Uri) -> (Option<Uri>, Vec<String>) {
    let mut shown = Vec::new();
    let mut kept = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&') {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, value)) if name.eq_ignore_ascii_case(PARAMETER) => {
                shown.push(value.into_owned());
            }
            _ => kept.push(pair),
        }
    }
    if shown.is_empty() {
        return (None, shown);
    }
    let path = match kept.join("&") {
        query if query.is_empty() => uri.path().to_owned(),
        query => format!("{}?{query}", uri.path()),
    };
    let mut parts = uri.clone().into_parts();
    // A part of a valid address is valid; if it were not, losing the address
    // is better than showing the key.
    parts.path_and_query =
        Some(PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/")));
    (Some(Uri::from_parts(parts).unwrap_or_default()), shown)
}

fn header_keys(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(HEADER).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

impl ShownKeys {
    /// The one key that was shown.
    fn presented(&self) -> Result<PresentedKey, ApiError> {
        let (first, others) = self.0.split_first().ok_or(ApiError::Unauthorized)?;
        if others.iter().any(|other| other != first) {
            return Err(ApiError::ConflictingKeys);
        }
        PresentedKey::parse(first).map_err(|_| ApiError::Unauthorized)
    }
}

/// A caller with a valid key.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Key>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let shown = parts.extensions.get::<ShownKeys>();
        let presented = shown.ok_or(ApiError::Unauthorized)?.presented()?;
        let key = app.key(&presented.id).await?;
        key.filter(|key| key.admits(&presented, clock::now_ms()))
            .map(Self)
            .ok_or(ApiError::Unauthorized)
    }
}

impl Caller {
    /// Which key it showed.
    pub(crate) fn key_id(&self) -> &KeyId {
        &self.0.id
    }

    /// Refuses what the key does not allow. It is asked before anything looks
    /// for the flow, so that the answer does not tell whether there is one.
    pub(crate) fn require(&self, right: Right, flow: &FlowId) -> Result<(), ApiError> {
        if self.0.allows(right, flow) {
            return Ok(());
        }
        let flow = flow.clone();
        Err(ApiError::Forbidden { right, flow })
    }
}

/// A caller with a valid key of administration.
#[derive(Clone, Debug)]
pub(crate) struct Admin(KeyId);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Caller(key) = Caller::from_request_parts(parts, app).await?;
        if key.is_admin() {
            Ok(Self(key.id.clone()))
        } else {
            Err(ApiError::AdminOnly)
        }
    }
}

impl Admin {
    /// Which key it showed, for the log of who changed what.
    pub(crate) fn key_id(&self) -> &KeyId {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(query: &str, headers: &[&str]) -> ShownKeys {
        let (_, mut keys) = without_key(&format!("/start?{query}").parse().unwrap());
        let mut map = HeaderMap::new();
        for value in headers {
            map.append("X-API-Key", value.parse().unwrap());
        }
        keys.extend(header_keys(&map));
        ShownKeys(keys)
    }

    #[test]
    fn the_key_is_taken_from_either_place_in_any_case() {
        let right = PresentedKey::parse("my secret").unwrap();
        for query in [
            "api_key=my%20secret",
            "a=1&API_Key=my+secret",
            "api%5Fkey=my%20secret",
        ] {
            assert_eq!(shown(query, &[]).presented().unwrap(), right, "{query}");
        }
        assert_eq!(shown("", &["my secret"]).presented().unwrap(), right);
    }

    #[test]
    fn two_places_must_show_the_same_key() {
        assert!(shown("api_key=a", &["a"]).presented().is_ok());
        for keys in [
            shown("api_key=a", &["b"]),
            shown("api_key=a&API_KEY=b", &[]),
            shown("", &["a", "b"]),
        ] {
            let error = keys.presented().unwrap_err();
            assert!(matches!(error, ApiError::ConflictingKeys), "{error}");
        }
    }

    #[test]
    fn no_key_and_an_empty_one_are_refused_alike() {
        for keys in [
            shown("", &[]),
            shown("api_key=", &[]),
            shown("api_key", &[]),
        ] {
            let error = keys.presented().unwrap_err();
            assert!(matches!(error, ApiError::Unauthorized), "{error}");
        }
    }

    #[test]
    fn the_address_keeps_everything_but_the_key() {
        let stripped = |address: &str| without_key(&address.parse().unwrap()).0;
        let kept = stripped("/b/start?x=%20&api_key=canary&await=true&y").unwrap();
        assert_eq!(kept.to_string(), "/b/start?x=%20&await=true&y");
        let alone = stripped("http://host/start?Api_Key=canary").unwrap();
        assert_eq!(alone.to_string(), "http://host/start");
        assert_eq!(stripped("/start?await=true"), None);
    }
}
