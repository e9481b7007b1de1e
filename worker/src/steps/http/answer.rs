//! What came back: a value for the steps after it, or a failure that people
//! understand.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Map, Value, json};

use super::request::Request;
use crate::{
    mask::Mask,
    steps::{StepError, StepOutput},
};

/// How many characters of a refused request's answer its error shows.
const EXCERPT_CHARS_MAX: usize = 200;

/// An answer that has come in whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What the step hands on: `{status, headers, body, encoding}`.
    pub(super) fn output(&self, mask: &Mask) -> StepOutput {
        let (body, encoding) = self.body_value(mask);
        StepOutput {
            value: json!({
                "status": self.status.as_u16(),
                "headers": self.headers_value(),
                "body": body,
                "encoding": encoding,
            }),
            bytes: Some(self.body.len() as u64),
            ..StepOutput::default()
        }
    }

    /// Why an answer of 400 and above is a failure of its step.
    pub(super) fn failure(&self, request: &Request) -> StepError {
        let summary = request.summary();
        let status = self.status;
        // Before it is cut: of half a secret nobody knows that it is one.
        let body = request.mask.cut_text(&String::from_utf8_lossy(&self.body));
        let excerpt = excerpt(&body, &request.secrets);
        let message = if excerpt.is_empty() {
            format!("{summary} answered {status}")
        } else {
            format!("{summary} answered {status}: {excerpt}")
        };
        StepError {
            code: "http_status",
            message,
            retriable: may_pass(status),
        }
    }

    /// Names in lower case; a name that came several times has its values
    /// joined by commas.
    fn headers_value(&self) -> Value {
        let mut members = Map::new();
        for name in self.headers.keys() {
            let values: Vec<_> = self
                .headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            members.insert(name.as_str().to_owned(), values.join(", ").into());
        }
        Value::Object(members)
    }

    /// The body, and how it is to be read: `json`, `text` or `base64`.
    fn body_value(&self, mask: &Mask) -> (Value, &'static str) {
        let declared = self.headers.get(CONTENT_TYPE);
        let declared = declared.and_then(|value| value.to_str().ok()).unwrap_or("");
        let content_type = ContentType::read(declared);
        if let Ok(text) = std::str::from_utf8(&self.body) {
            // Before it is read as JSON, which writes numbers in its own way.
            let text = mask.text(text);
            if content_type.is_json
                && let Ok(value) = serde_json::from_str(&text)
            {
                return (value, "json");
            }
            return (text.into(), "text");
        }
        if content_type.is_latin1 {
            // The first 256 characters of Unicode are those of Latin-1.
            let text: String = self.body.iter().copied().map(char::from).collect();
            return (text.into(), "text");
        }
        (BASE64_STANDARD.encode(&self.body).into(), "base64")
    }
}

/// Whether a request that was refused so may be granted later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

/// What matters of a `Content-Type`.
struct ContentType {
    is_json: bool,
    is_latin1: bool,
}

impl ContentType {
    fn read(declared: &str) -> Self {
        let mut parts = declared.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        Self {
            is_json: kind == "application/json" || kind.ends_with("+json"),
            is_latin1: matches!(
                charset.as_deref(),
                Some("iso-8859-1" | "latin1" | "us-ascii" | "windows-1252")
            ),
        }
    }
}

/// The beginning of a text on one line, with the secrets taken out that the
/// other side may have repeated.
fn excerpt(text: &str, secrets: &[String]) -> String {
    let mut shown = text.to_owned();
    for secret in secrets {
        shown = shown.replace(secret, "***");
    }
    let spaced = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = shown.chars().map(spaced).collect();
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    match shown.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> Answer {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
        }
    }

    fn request() -> Request {
        let step = json!({
            "method": "POST", "url": "http://a.example/x?key=q-hush",
            "auth": { "bearer": { "token": "t-hush" } }
        });
        Request::new(&serde_json::from_value(step).unwrap(), "k").unwrap()
    }

    #[test]
    fn json_becomes_a_value_and_header_names_are_in_lower_case() {
        let headers = [
            ("content-type", "application/problem+json; charset=utf-8"),
            ("x-tag", "a"),
            ("x-tag", "b"),
        ];
        let output = answer(200, &headers, br#"{"a": [1]}"#).output(&Mask::default());
        assert_eq!(output.value["status"], 200);
        assert_eq!(output.value["body"], json!({ "a": [1] }));
        assert_eq!(output.value["encoding"], "json");
        assert_eq!(output.value["headers"]["x-tag"], "a, b");
        assert_eq!(output.bytes, Some(10));
    }

    #[test]
    fn a_secret_number_is_hidden_before_json_writes_it_in_its_own_way() {
        let mask = Mask::default();
        mask.add(["1234567890.10"]);
        let body = br#"{"number": 1234567890.10, "other": 1}"#;
        let output = answer(200, &[("content-type", "application/json")], body).output(&mask);
        assert!(
            !output.value.to_string().contains("123456"),
            "{}",
            output.value
        );
    }

    #[test]
    fn what_only_claims_to_be_json_is_text() {
        let output =
            answer(200, &[("content-type", "application/json")], b"OK").output(&Mask::default());
        assert_eq!(output.value["body"], "OK");
        assert_eq!(output.value["encoding"], "text");
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64_unless_their_charset_is_known() {
        let output =
            answer(200, &[("content-type", "image/png")], &[0xff, 0x00]).output(&Mask::default());
        assert_eq!(output.value["body"], "/wA=");
        assert_eq!(output.value["encoding"], "base64");
        let latin = [("content-type", "text/plain; charset=\"ISO-8859-1\"")];
        let output = answer(200, &latin, b"\xe6\xf8\xe5").output(&Mask::default());
        assert_eq!(output.value["body"], "æøå");
    }

    #[test]
    fn only_passing_trouble_is_retriable() {
        for (status, retriable) in [
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (409, false),
            (425, true),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let error = answer(status, &[], b"").failure(&request());
            assert_eq!(error.code, "http_status");
            assert_eq!(error.retriable, retriable, "{status}");
        }
    }

    #[test]
    fn a_secret_of_the_vault_is_hidden_before_the_answer_is_cut() {
        let request = request();
        request.mask.add(["long-secret-of-the-vault"]);
        let body = format!(
            "{}long-secret-of-the-vault",
            "x".repeat(EXCERPT_CHARS_MAX - 5)
        );
        let message = answer(404, &[], body.as_bytes()).failure(&request).message;
        assert!(message.ends_with("x***"), "{message}");
        let begun = answer(404, &[], b"no long-secret-of")
            .failure(&request)
            .message;
        assert!(begun.ends_with("no ***"), "{begun}");
    }

    #[test]
    fn a_failure_names_request_status_and_answer_without_secrets() {
        let body = format!("no\n  such\tthing t-hush q-hush {}", "x".repeat(500));
        let message = answer(404, &[], body.as_bytes())
            .failure(&request())
            .message;
        let start = "POST http://a.example/x answered 404 Not Found: no such thing *** *** xxx";
        assert!(message.starts_with(start), "{message}");
        assert!(message.ends_with("x…"), "{message}");
        assert!(message.chars().count() < 280, "{message}");
    }
}
