//! A connection of the kind `http`: where its addresses start, and how its
//! requests show who sends them.

use millstream_shared::connection::{Connection, HttpService};
use url::Url;

use super::{
    request::{checked_url, unsound},
    tokens::Grant,
};
use crate::steps::StepError;

/// A service that requests are sent to.
pub(super) struct Service {
    base: Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) credentials: Credentials,
}

/// How requests show who sends them.
pub(super) enum Credentials {
    Nobody,
    Basic { user: String, password: String },
    Bearer(String),
    InHeader { name: String, key: String },
    InQuery { name: String, key: String },
    OAuth(Grant),
}

impl Service {
    /// The service that a connection leads to.
    pub(super) fn of(connection: Connection) -> Result<Self, StepError> {
        let service = match connection {
            Connection::Http(service) => service,
            other => {
                let kind = other.kind();
                let message = format!("the connection is of the kind `{kind}`, and not `http`");
                return Err(StepError::permanent("wrong_connection", message));
            }
        };
        Ok(Self {
            base: checked_url("the address of the connection", &service.url)?,
            credentials: credentials(&service)?,
            headers: service.headers.into_iter().collect(),
        })
    }

    /// The address of a request: what follows on that of the service, or a
    /// whole one that lies under it.
    pub(super) fn address(&self, text: &str) -> Result<Url, StepError> {
        let base = self.base.path().trim_end_matches('/');
        let url = match text.parse::<Url>() {
            Ok(whole) if whole.has_host() => checked_url("`url`", whole.as_str())?,
            _ => {
                let start = self.base.as_str().trim_end_matches('/');
                let follows_at_once = text.is_empty() || text.starts_with(['?', '#']);
                let slash = if follows_at_once { "" } else { "/" };
                let whole = format!("{start}{slash}{}", text.trim_start_matches(['/', '\\']));
                checked_url("`url`", &whole)?
            }
        };
        let behind = url.path().strip_prefix(base);
        let is_under = url.origin() == self.base.origin()
            && behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'));
        // Some servers take an escaped slash for one.
        let path = url.path().to_ascii_lowercase();
        if !is_under || path.contains("..%2f") || path.contains("..%5c") {
            let base = &self.base;
            return Err(unsound(format!(
                "`url` leads out of the address of the connection, {base}"
            )));
        }
        Ok(url)
    }
}

fn credentials(service: &HttpService) -> Result<Credentials, StepError> {
    let text = |secret: &millstream_shared::connection::Secret| secret.reveal().to_owned();
    if let (Some(user), Some(password)) = (&service.user, &service.password) {
        let (user, password) = (user.clone(), text(password));
        return Ok(Credentials::Basic { user, password });
    }
    if let Some(token) = &service.token {
        return Ok(Credentials::Bearer(text(token)));
    }
    if let Some(key) = &service.api_key {
        let (name, key) = (service.api_key_header.clone(), text(key));
        return Ok(match (name, service.api_key_query.clone()) {
            (Some(name), _) => Credentials::InHeader { name, key },
            (None, Some(name)) => Credentials::InQuery { name, key },
            (None, None) => Credentials::Nobody,
        });
    }
    let id = (&service.client_id, &service.client_secret);
    let ((Some(client_id), Some(secret)), Some(token_url)) = (id, &service.token_url) else {
        return Ok(Credentials::Nobody);
    };
    Ok(Credentials::OAuth(Grant {
        token_url: checked_url("`token_url` of the connection", token_url)?,
        client_id: client_id.clone(),
        client_secret: text(secret),
        client_auth: service.client_auth,
        scope: service.scope.clone(),
        audience: service.audience.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn address(base: &str, text: &str) -> Result<String, StepError> {
        let connection = Connection::parse(&json!({ "kind": "http", "url": base })).unwrap();
        let url = Service::of(connection)?.address(text)?;
        Ok(url.to_string())
    }

    #[test]
    fn an_address_follows_on_that_of_the_connection() {
        let base = "https://h/api/v2";
        for (text, expected) in [
            ("/orders", "https://h/api/v2/orders"),
            ("orders/7?x=1", "https://h/api/v2/orders/7?x=1"),
            ("", "https://h/api/v2"),
            ("?x=1", "https://h/api/v2?x=1"),
            ("a/../b", "https://h/api/v2/b"),
            ("//evil.example/x", "https://h/api/v2/evil.example/x"),
            ("a b", "https://h/api/v2/a%20b"),
            ("at/12:30", "https://h/api/v2/at/12:30"),
            ("x:y", "https://h/api/v2/x:y"),
            ("https://h/api/v2/orders", "https://h/api/v2/orders"),
        ] {
            assert_eq!(address(base, text).unwrap(), expected, "{text}");
        }
        assert_eq!(address("https://h/", "x").unwrap(), "https://h/x");
        assert_eq!(address("https://h", "x").unwrap(), "https://h/x");
    }

    #[test]
    fn no_address_leads_out_of_the_connection() {
        let base = "https://h/api/v2/";
        for text in [
            "../admin",
            "/../../admin",
            "%2e%2e/admin",
            "..\\admin",
            "x/..%2f..%2fadmin",
            "https://evil.example/api/v2/x",
            "http://h/api/v2/x",
            "https://h:444/api/v2/x",
            "https://h/api/v20",
            "https://h/api",
            "https:evil.example/x",
        ] {
            let found = address(base, text);
            let told = found.map_err(|error| error.message);
            assert!(
                told.as_ref().is_err_and(|told| told.contains("`url`")),
                "{text}: {told:?}"
            );
        }
    }

    #[test]
    fn only_a_service_over_http_can_be_asked() {
        let file = Connection::parse(&json!({ "kind": "sqlite", "path": "x.db" })).unwrap();
        let error = Service::of(file).err().unwrap();
        assert_eq!(error.code, "wrong_connection");
    }
}
