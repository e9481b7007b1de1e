//! A request as it goes out: made from a step whose templates are filled in,
//! and remade for each redirect.

use std::ops::Range;

use base64::{Engine, prelude::BASE64_STANDARD};
use indexmap::IndexMap;
use millstream_shared::flow::step::{HttpAuth, HttpMethod, HttpStep};
use reqwest::{
    Method, StatusCode,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
        RANGE,
    },
};
use serde_json::Value;
use url::Url;

use super::{
    body::{Body, texts},
    service::{Credentials, Service},
};
use crate::{mask::Mask, steps::StepError};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that say how a message travels: the client sets them itself, and
/// one that contradicts it would let a message be read in two ways.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that say what the body is; they go when the body goes.
const BODY_HEADERS: &[&str] = &["content-encoding", "content-language", "content-type"];

/// Headers that another origin may see. All others may carry a secret that is
/// meant for the first one.
const HEADERS_FOR_ANYBODY: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "content-encoding",
    "content-language",
    "content-type",
    "idempotency-key",
    "range",
    "user-agent",
];

/// A request that can be sent as it is.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Body>,
    /// Whether it is sent on to where an answer redirects it.
    pub(super) follows_redirects: bool,
    /// Whether it goes to where its credentials are meant for.
    pub(super) is_at_home: bool,
    /// The query parameter that shows who sends it, which the address of a
    /// further page may lack.
    pub(super) key_in_query: Option<(String, String)>,
    /// Texts that no message may show, should the other side repeat them.
    pub(super) secrets: Vec<String>,
    /// Hides the secrets of the vault there.
    pub(super) mask: Mask,
}

pub(super) fn unsound(message: impl Into<String>) -> StepError {
    StepError::permanent("http_request", message)
}

impl Request {
    /// The request of a step whose templates are filled in, to the service that
    /// its connection leads to, with this body. It names `idempotency_key`
    /// unless the author's headers name one.
    pub(super) fn new(
        step: &HttpStep,
        service: Option<&Service>,
        body: Option<Body>,
        idempotency_key: &str,
    ) -> Result<Self, StepError> {
        let url = match service {
            Some(service) => service.address(&step.url)?,
            None => checked_url("`url`", &step.url)?,
        };
        let mut request = Self::bare(method(step.method), url);
        request.add_query(&step.query);
        request.add_headers(&step.headers)?;
        if let Some(service) = service {
            request.add_service(service)?;
        }
        if let Some(auth) = &step.auth {
            request.add_auth(auth)?;
        }
        if let Some(body) = body {
            request.set_body(body)?;
        }
        if !request.headers.contains_key(IDEMPOTENCY_KEY) {
            let value = header_value(&IDEMPOTENCY_KEY, idempotency_key)?;
            request.headers.insert(IDEMPOTENCY_KEY, value);
        }
        // A short text would be found, and hidden, all over an answer.
        request.secrets.retain(|secret| secret.len() >= 4);
        Ok(request)
    }

    /// A request that says nothing but where it goes.
    fn bare(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            follows_redirects: true,
            is_at_home: true,
            key_in_query: None,
            secrets: Vec::new(),
            mask: Mask::default(),
        }
    }

    /// The request for a file, or for some bytes of it.
    pub(super) fn for_file(
        url: Url,
        service: Option<&Service>,
        range: Option<Range<u64>>,
    ) -> Result<Self, StepError> {
        let mut request = Self::bare(Method::GET, url);
        if let Some(service) = service {
            request.add_service(service)?;
        }
        let plain = HeaderValue::from_static("identity");
        request.headers.insert(ACCEPT_ENCODING, plain);
        if let Some(range) = range {
            let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            request.headers.insert(RANGE, header_value(&RANGE, &range)?);
        }
        Ok(request)
    }

    /// The request for the page with this number, from 2, at an address that
    /// the page before names. Another host than that of this request, which is
    /// the one for the first page, sees nothing that was meant for that alone.
    pub(super) fn for_page(&self, number: u32, url: Url) -> Result<Self, StepError> {
        let mut next = self.numbered(number)?;
        next.url = checked_url("the address of the next page", url.as_str())?;
        if next.url.origin() != self.url.origin() {
            if self.body.is_some() {
                let host = next.url.host_str().unwrap_or_default();
                return Err(unsound(format!(
                    "the next page lies at another host, {host}, to which the body of the \
                     request is not sent"
                )));
            }
            next.keep_to_itself();
        } else if let Some((name, key)) = &self.key_in_query {
            next.set_query(name, key);
        }
        Ok(next)
    }

    /// The same request with an `Idempotency-Key` of its own, by which the other
    /// side tells the requests of one step apart.
    pub(super) fn numbered(&self, number: u32) -> Result<Self, StepError> {
        let mut next = self.clone();
        if let Some(key) = self.headers.get(IDEMPOTENCY_KEY) {
            let key = String::from_utf8_lossy(key.as_bytes());
            let value = header_value(&IDEMPOTENCY_KEY, &format!("{key}-{number}"))?;
            next.headers.insert(IDEMPOTENCY_KEY, value);
        }
        Ok(next)
    }

    /// Puts a value into the query, in the place of what has its name there.
    pub(super) fn set_query(&mut self, name: &str, text: &str) {
        let pairs = self.url.query_pairs().into_owned();
        let others: Vec<_> = pairs.filter(|(other, _)| other != name).collect();
        let mut pairs = self.url.query_pairs_mut();
        pairs.clear().extend_pairs(others);
        pairs.append_pair(name, text);
    }

    /// Puts a body into the request, in the place of the one it has.
    pub(super) fn set_body(&mut self, body: Body) -> Result<(), StepError> {
        let content_type = header_value(&CONTENT_TYPE, &body.content_type)?;
        self.headers.entry(CONTENT_TYPE).or_insert(content_type);
        self.body = Some(body);
        Ok(())
    }

    /// Shows a bearer token.
    pub(super) fn set_bearer(&mut self, token: &str) -> Result<(), StepError> {
        let value = header_value(&AUTHORIZATION, &format!("Bearer {token}"))?;
        self.headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// Takes away what another host than the first must not see.
    fn keep_to_itself(&mut self) {
        self.is_at_home = false;
        let names: Vec<_> = self.headers.keys().cloned().collect();
        for name in names {
            if !HEADERS_FOR_ANYBODY.contains(&name.as_str()) {
                self.headers.remove(name);
            }
        }
    }

    /// What people see of the request: the method, and the address without
    /// its query, which may hold credentials.
    pub(super) fn summary(&self) -> String {
        let url = &self.url;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        let (scheme, path) = (url.scheme(), url.path());
        format!("{} {scheme}://{host}{port}{path}", self.method)
    }

    /// The request that an answer with this status and `Location` asks for,
    /// or `None` where it asks for none.
    ///
    /// The method follows RFC 9110: 303 makes it `GET` (but leaves `HEAD`),
    /// 301 and 302 turn `POST` into `GET` as all browsers do, 307 and 308 keep
    /// everything.
    pub(super) fn redirected(
        &self,
        status: StatusCode,
        location: Option<&HeaderValue>,
    ) -> Result<Option<Self>, StepError> {
        let (true, Some(location)) = (
            matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308),
            location,
        ) else {
            return Ok(None);
        };
        if !self.follows_redirects {
            let summary = self.summary();
            return Err(unsound(format!(
                "{summary} was redirected, which is not followed with what it holds"
            )));
        }
        let target = location
            .to_str()
            .ok()
            .and_then(|location| self.url.join(location).ok())
            .ok_or_else(|| {
                let summary = self.summary();
                unsound(format!(
                    "{summary} was redirected to something that is no address"
                ))
            })?;
        let mut next = self.clone();
        next.url = checked_url("the address of a redirect", target.as_str())?;
        let same_host = next.url.host() == self.url.host();
        let is_upgrade = same_host && next.url.scheme() == "https" && next.url.port().is_none();
        let stays = next.url.origin() == self.url.origin();
        let becomes_get = match status.as_u16() {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = None;
            for name in BODY_HEADERS {
                next.headers.remove(*name);
            }
        }
        if next.body.is_some() && !stays && !is_upgrade {
            let summary = self.summary();
            return Err(unsound(format!(
                "{summary} was redirected to another host, to which its body is not sent"
            )));
        }
        next.headers.remove(HOST);
        if !stays {
            next.keep_to_itself();
        }
        Ok(Some(next))
    }

    fn add_query(&mut self, query: &IndexMap<String, Value>) {
        let in_url: Vec<_> = self.url.query_pairs().into_owned().collect();
        for (name, value) in in_url {
            self.note_secret(&name, &value);
        }
        for (name, value) in query {
            for text in texts(value) {
                self.url.query_pairs_mut().append_pair(name, &text);
                self.note_secret(name, &text);
            }
        }
    }

    fn add_headers(&mut self, headers: &IndexMap<String, String>) -> Result<(), StepError> {
        for (name, text) in headers {
            let parsed = header_name(name)?;
            self.note_secret(name, text);
            let value = header_value(&parsed, text)?;
            self.headers.append(parsed, value);
        }
        Ok(())
    }

    /// Adds what the connection says: headers that the step does not name, and
    /// who sends the request.
    fn add_service(&mut self, service: &Service) -> Result<(), StepError> {
        for (name, text) in &service.headers {
            let parsed = header_name(name)?;
            if !self.headers.contains_key(&parsed) {
                let value = header_value(&parsed, text)?;
                self.headers.insert(parsed, value);
            }
        }
        match &service.credentials {
            Credentials::Nobody | Credentials::OAuth(_) => Ok(()),
            Credentials::Basic { user, password } => self.add_auth(&HttpAuth::Basic {
                username: user.clone(),
                password: password.clone(),
            }),
            Credentials::Bearer(token) => self.add_auth(&HttpAuth::Bearer {
                token: token.clone(),
            }),
            Credentials::InHeader { name, key } => {
                let parsed = header_name(name)?;
                let value = header_value(&parsed, key)?;
                self.headers.insert(parsed, value);
                self.secrets.push(key.clone());
                Ok(())
            }
            Credentials::InQuery { name, key } => {
                self.set_query(name, key);
                self.secrets.push(key.clone());
                self.key_in_query = Some((name.clone(), key.clone()));
                Ok(())
            }
        }
    }

    fn add_auth(&mut self, auth: &HttpAuth) -> Result<(), StepError> {
        if self.headers.contains_key(AUTHORIZATION) {
            return Err(unsound(
                "`auth` and a header `Authorization` exclude one another",
            ));
        }
        let credentials = match auth {
            HttpAuth::Basic { username, password } => {
                if username.contains(':') {
                    return Err(unsound("a user name must not contain a colon"));
                }
                let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
                self.secrets.push(password.clone());
                self.secrets.push(pair.clone());
                format!("Basic {pair}")
            }
            HttpAuth::Bearer { token } => {
                self.secrets.push(token.clone());
                format!("Bearer {token}")
            }
        };
        let value = header_value(&AUTHORIZATION, &credentials)?;
        self.headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    fn note_secret(&mut self, name: &str, text: &str) {
        const TELLING: &[&str] = &["auth", "cookie", "key", "password", "secret", "token"];
        let name = name.to_ascii_lowercase();
        if name != IDEMPOTENCY_KEY.as_str() && TELLING.iter().any(|part| name.contains(part)) {
            self.secrets.push(text.to_owned());
        }
    }
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

/// The name of a header that the client does not set itself.
fn header_name(name: &str) -> Result<HeaderName, StepError> {
    let parsed = HeaderName::try_from(name)
        .map_err(|_| unsound(format!("`{name}` is not the name of a header")))?;
    if OWN_HEADERS.contains(&parsed.as_str()) {
        return Err(unsound(format!(
            "the header `{name}` is set by the service itself"
        )));
    }
    Ok(parsed)
}

/// An address that may be asked as far as its text goes. `what` is what
/// messages call it: they do not repeat it, since it may hold credentials.
pub(super) fn checked_url(what: &str, text: &str) -> Result<Url, StepError> {
    let url: Url = text
        .parse()
        .map_err(|error| unsound(format!("{what} is not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(unsound(format!(
            "{what} must start with `http://` or `https://`, not `{scheme}:`"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unsound(format!(
            "{what} must not hold a user name or password; `auth` takes them"
        )));
    }
    Ok(url)
}

/// A header's value, marked as sensitive so that nothing prints it.
pub(super) fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, StepError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        unsound(format!(
            "the value of the header `{name}` holds a line break or another control character"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use reqwest::header::ACCEPT;
    use serde_json::json;

    use super::*;

    fn step(value: Value) -> HttpStep {
        serde_json::from_value(value).unwrap()
    }

    fn made(value: Value) -> Result<Request, StepError> {
        let step = step(value);
        let body = Body::plain(&step);
        Request::new(&step, None, body, "run-step")
    }

    fn request(value: Value) -> Request {
        made(value).unwrap()
    }

    fn refusal(value: Value) -> String {
        let error = made(value).unwrap_err();
        assert_eq!((error.code, error.retriable), ("http_request", false));
        error.message
    }

    fn redirected(request: &Request, status: u16, location: &str) -> Request {
        let status = StatusCode::from_u16(status).unwrap();
        let location = HeaderValue::from_str(location).unwrap();
        request
            .redirected(status, Some(&location))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn query_and_form_hold_lists_as_repeated_names_and_leave_out_null() {
        let request = request(json!({
            "method": "POST",
            "url": "http://a.example/x?first=1",
            "query": { "tag": ["a", "b c"], "none": null, "n": 2 },
            "form": { "yes": true, "list": [1, 2] },
        }));
        assert_eq!(
            request.url.as_str(),
            "http://a.example/x?first=1&tag=a&tag=b+c&n=2"
        );
        assert_eq!(request.body.unwrap().shown(), "yes=true&list=1&list=2");
        assert_eq!(
            request.headers[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
    }

    #[test]
    fn the_idempotency_key_is_the_steps_unless_the_author_gives_one() {
        let own = request(json!({ "url": "http://a.example" }));
        assert_eq!(own.headers[IDEMPOTENCY_KEY], "run-step");
        let given = request(json!({
            "url": "http://a.example", "headers": { "Idempotency-KEY": "mine" }
        }));
        let all: Vec<_> = given.headers.get_all(IDEMPOTENCY_KEY).iter().collect();
        assert_eq!(all, ["mine"]);
    }

    #[test]
    fn a_content_type_of_the_author_stands() {
        let request = request(json!({
            "method": "PUT", "url": "http://a.example", "json": { "a": 1 },
            "headers": { "content-type": "application/vnd.x+json" }
        }));
        assert_eq!(request.headers[CONTENT_TYPE], "application/vnd.x+json");
        assert_eq!(request.body.unwrap().shown(), r#"{"a":1}"#);
    }

    #[test]
    fn unsound_requests_are_refused_without_repeating_secrets() {
        for (wrong, expected) in [
            (json!({ "url": "file:///etc/passwd" }), "`file:`"),
            (json!({ "url": "http//x" }), "not an address"),
            (json!({ "url": "http://u:hush@a.example" }), "user name"),
            (
                json!({ "url": "http://a.example", "headers": { "a b": "hush" } }),
                "`a b`",
            ),
            (
                json!({ "url": "http://a.example", "headers": { "x-key": "hush\r\nx: y" } }),
                "line break",
            ),
            (
                json!({ "url": "http://a.example", "headers": { "Transfer-Encoding": "chunked" } }),
                "set by the service",
            ),
            (
                json!({ "url": "http://a.example", "headers": { "authorization": "hush" },
                        "auth": { "bearer": { "token": "hush" } } }),
                "exclude",
            ),
        ] {
            let message = refusal(wrong);
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }

    #[test]
    fn the_summary_shows_neither_query_nor_credentials() {
        let request = request(json!({
            "url": "https://a.example:8443/path?api_key=hush",
            "auth": { "basic": { "username": "u", "password": "hush-hush" } }
        }));
        assert_eq!(request.summary(), "GET https://a.example:8443/path");
        assert!(!format!("{:?}", request.headers).contains("Basic"));
        assert!(request.secrets.contains(&"hush".to_owned()));
        assert!(request.secrets.contains(&"hush-hush".to_owned()));
    }

    #[test]
    fn a_redirect_rewrites_the_method_as_rfc_9110_says() {
        let post = request(json!({
            "method": "POST", "url": "http://a.example/x", "json": {}
        }));
        for (status, method) in [
            (301, Method::GET),
            (302, Method::GET),
            (303, Method::GET),
            (307, Method::POST),
            (308, Method::POST),
        ] {
            let next = redirected(&post, status, "/y");
            assert_eq!(next.method, method, "{status}");
            assert_eq!(next.body.is_some(), method == Method::POST);
            assert_eq!(next.headers.contains_key(CONTENT_TYPE), next.body.is_some());
            assert_eq!(next.url.as_str(), "http://a.example/y");
        }
        let put = request(json!({ "method": "PUT", "url": "http://a.example", "body": "b" }));
        assert_eq!(redirected(&put, 302, "/y").method, Method::PUT);
        assert_eq!(redirected(&put, 303, "/y").method, Method::GET);
        let head = request(json!({ "method": "HEAD", "url": "http://a.example" }));
        assert_eq!(redirected(&head, 303, "/y").method, Method::HEAD);
    }

    #[test]
    fn secrets_stay_with_the_origin_they_were_meant_for() {
        let first = request(json!({
            "url": "https://a.example/x",
            "headers": { "x-api-key": "hush", "accept": "text/csv" },
            "auth": { "bearer": { "token": "hush" } }
        }));
        let same = redirected(&first, 302, "https://a.example/y");
        assert!(same.headers.contains_key(AUTHORIZATION));
        for other in [
            "https://b.example/y",
            "http://a.example/y",
            "https://a.example:444/",
        ] {
            let next = redirected(&first, 302, other);
            assert!(!next.headers.contains_key(AUTHORIZATION), "{other}");
            assert!(!next.headers.contains_key("x-api-key"), "{other}");
            assert_eq!(next.headers[ACCEPT], "text/csv");
            assert_eq!(next.headers[IDEMPOTENCY_KEY], "run-step");
        }
    }

    #[test]
    fn a_redirect_to_another_scheme_or_with_a_password_is_refused() {
        let first = request(json!({ "url": "http://a.example/x" }));
        for target in ["file:///etc/passwd", "http://u:p@a.example/"] {
            let location = HeaderValue::from_static(target);
            let error = first.redirected(StatusCode::FOUND, Some(&location));
            assert_eq!(error.unwrap_err().code, "http_request");
        }
    }

    #[test]
    fn an_answer_that_is_no_redirect_asks_for_nothing() {
        let first = request(json!({ "url": "http://a.example/x" }));
        let location = HeaderValue::from_static("/y");
        for (status, location) in [(200, Some(&location)), (304, Some(&location)), (302, None)] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(first.redirected(status, location).unwrap().is_none());
        }
    }
}
