//! What a step hands on of an answer, as a value.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Map, Value, json};

/// Status and headers: what the value of every answer has. Names of headers are
/// in lower case; one that came several times has its values joined by commas.
pub(super) fn of_head(status: StatusCode, headers: &HeaderMap) -> Value {
    let mut members = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        members.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    json!({ "status": status.as_u16(), "headers": members })
}

/// A body, and how it is to be read: `json`, `text` or `base64`.
pub(super) fn of_body(headers: &HeaderMap, body: &[u8]) -> (Value, &'static str) {
    let content_type = ContentType::of(headers);
    if content_type.is_json()
        && let Ok(value) = serde_json::from_slice(body)
    {
        return (value, "json");
    }
    if let Ok(text) = std::str::from_utf8(body) {
        return (text.into(), "text");
    }
    if content_type.is_latin1 {
        // The first 256 characters of Unicode are those of Latin-1.
        let text: String = body.iter().copied().map(char::from).collect();
        return (text.into(), "text");
    }
    (BASE64_STANDARD.encode(body).into(), "base64")
}

/// What matters of a `Content-Type`.
pub(super) struct ContentType {
    /// The kind without its parameters, in lower case.
    pub(super) kind: String,
    is_latin1: bool,
}

impl ContentType {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let declared = headers.get(CONTENT_TYPE);
        let declared = declared.and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut parts = declared.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        Self {
            kind,
            is_latin1: matches!(
                charset.as_deref(),
                Some("iso-8859-1" | "latin1" | "us-ascii" | "windows-1252")
            ),
        }
    }

    fn is_json(&self) -> bool {
        self.kind == "application/json" || self.kind.ends_with("+json")
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(members: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        members.iter().map(header).collect()
    }

    #[test]
    fn json_becomes_a_value_and_header_names_are_in_lower_case() {
        let headers = headers(&[
            ("content-type", "application/problem+json; charset=utf-8"),
            ("x-tag", "a"),
            ("x-tag", "b"),
        ]);
        let head = of_head(StatusCode::OK, &headers);
        assert_eq!(head["status"], 200);
        assert_eq!(head["headers"]["x-tag"], "a, b");
        let body = of_body(&headers, br#"{"a": [1]}"#);
        assert_eq!(body, (json!({ "a": [1] }), "json"));
    }

    #[test]
    fn what_only_claims_to_be_json_is_text() {
        let headers = headers(&[("content-type", "application/json")]);
        assert_eq!(of_body(&headers, b"OK"), ("OK".into(), "text"));
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64_unless_their_charset_is_known() {
        let image = headers(&[("content-type", "image/png")]);
        assert_eq!(of_body(&image, &[0xff, 0x00]), ("/wA=".into(), "base64"));
        let latin = headers(&[("content-type", "text/plain; charset=\"ISO-8859-1\"")]);
        assert_eq!(of_body(&latin, b"\xe6\xf8\xe5").0, "æøå");
    }
}
