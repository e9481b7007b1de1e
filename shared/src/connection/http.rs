//! What a connection to a service over HTTP must satisfy.

use super::{
    ClientAuth, HttpService,
    document::{InvalidConnection, address, both},
};

/// Checks that the members of a service make sense together.
pub(super) fn check(service: &HttpService) -> Result<(), InvalidConnection> {
    address("url", Some(&service.url))?;
    if service.url.contains(['?', '#']) {
        let message = "must end with its path: parameters belong into steps";
        return Err(InvalidConnection::new("url", message));
    }
    for (name, value) in &service.headers {
        check_header(name, value)?;
    }
    both(
        ("user", service.user.is_some()),
        ("password", service.password.is_some()),
    )?;
    check_key(service)?;
    check_oauth(service)?;
    let ways = [
        ("user", service.user.is_some()),
        ("token", service.token.is_some()),
        ("api_key", service.api_key.is_some()),
        ("client_id", service.client_id.is_some()),
    ];
    let mut given = ways.iter().filter(|(_, is_given)| *is_given);
    if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
        let message = format!("cannot stand beside `{first}`");
        return Err(InvalidConnection::new(second, message));
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<(), InvalidConnection> {
    let wrong = |message: &str| Err(InvalidConnection::new("headers", message));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return wrong("has a name that cannot be one of a header");
    }
    if name.eq_ignore_ascii_case("authorization") {
        return wrong("would show `Authorization`: use `token`, `user` or `api_key`");
    }
    if value.contains(|letter| letter != '\t' && char::is_control(letter)) {
        return wrong("has a value that is not one line");
    }
    Ok(())
}

fn check_key(service: &HttpService) -> Result<(), InvalidConnection> {
    let header = service.api_key_header.as_deref();
    let query = service.api_key_query.as_deref();
    match (&service.api_key, header, query) {
        (None, None, None) => Ok(()),
        (Some(_), Some(header), None) => check_header(header, "")
            .map_err(|error| InvalidConnection::new("api_key_header", error.message)),
        (Some(_), None, Some(query)) if !query.is_empty() => Ok(()),
        (Some(_), None, Some(_)) => {
            Err(InvalidConnection::new("api_key_query", "must not be empty"))
        }
        (Some(_), Some(_), Some(_)) => {
            let message = "cannot stand beside `api_key_header`";
            Err(InvalidConnection::new("api_key_query", message))
        }
        (Some(_), None, None) => {
            let message = "needs `api_key_header` or `api_key_query`";
            Err(InvalidConnection::new("api_key", message))
        }
        (None, _, _) => {
            let message = "must stand beside `api_key_header` and `api_key_query`";
            Err(InvalidConnection::new("api_key", message))
        }
    }
}

fn check_oauth(service: &HttpService) -> Result<(), InvalidConnection> {
    let id = ("client_id", service.client_id.is_some());
    both(id, ("client_secret", service.client_secret.is_some()))?;
    both(id, ("token_url", service.token_url.is_some()))?;
    address("token_url", service.token_url.as_deref())?;
    for (name, is_given) in [
        ("scope", service.scope.is_some()),
        ("audience", service.audience.is_some()),
        ("client_auth", service.client_auth != ClientAuth::Basic),
    ] {
        if is_given && !id.1 {
            let message = "has a meaning only beside `client_id`";
            return Err(InvalidConnection::new(name, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::connection::Connection;

    fn wrong(members: Value) -> Option<(String, String)> {
        let mut document = json!({ "kind": "http", "url": "https://h/api" });
        for (name, value) in members.as_object().unwrap() {
            document[name] = value.clone();
        }
        let error = Connection::parse(&document).err()?;
        assert!(!error.message.contains("canary"), "{error}");
        Some((error.member, error.message))
    }

    #[test]
    fn a_service_is_shown_who_asks_in_one_way() {
        for fine in [
            json!({}),
            json!({ "headers": { "Accept": "text/csv" } }),
            json!({ "user": "u", "password": "canary" }),
            json!({ "token": "canary" }),
            json!({ "api_key": "canary", "api_key_query": "key" }),
            json!({ "client_id": "i", "client_secret": "canary", "token_url": "https://h/t",
                    "scope": "a b", "audience": "x", "client_auth": "body" }),
        ] {
            assert_eq!(wrong(fine.clone()), None, "{fine}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_named() {
        for (members, member) in [
            (json!({ "url": "https://h/api?x=1" }), "url"),
            (json!({ "user": "u" }), "password"),
            (
                json!({ "token": "canary", "user": "u", "password": "p" }),
                "token",
            ),
            (json!({ "api_key": "canary" }), "api_key"),
            (json!({ "api_key_header": "X" }), "api_key"),
            (
                json!({ "api_key": "canary", "api_key_header": "a b" }),
                "api_key_header",
            ),
            (
                json!({ "api_key": "canary", "api_key_header": "X", "api_key_query": "x" }),
                "api_key_query",
            ),
            (json!({ "client_id": "i" }), "client_secret"),
            (
                json!({ "client_id": "i", "client_secret": "canary" }),
                "token_url",
            ),
            (
                json!({ "client_id": "i", "client_secret": "canary", "token_url": "h" }),
                "token_url",
            ),
            (json!({ "scope": "a" }), "scope"),
            (json!({ "client_auth": "body" }), "client_auth"),
            (json!({ "client_auth": "canary" }), "client_auth"),
            (json!({ "headers": { "a b": "x" } }), "headers"),
            (
                json!({ "headers": { "authorization": "canary" } }),
                "headers",
            ),
            (json!({ "headers": { "x": "canary\ny" } }), "headers"),
            (json!({ "headers": { "x": 1 } }), "headers"),
            (json!({ "headers": "canary" }), "headers"),
        ] {
            let found = wrong(members.clone()).map(|(member, _)| member);
            assert_eq!(found.as_deref(), Some(member), "{members}");
        }
    }
}
