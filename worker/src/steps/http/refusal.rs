//! Why a request was refused: a failure that people understand, and whether
//! and when another attempt may go better.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, HeaderName, RETRY_AFTER},
};

use super::request::Request;
use crate::steps::StepError;

/// How many characters of a refused request's answer its error shows.
const EXCERPT_CHARS_MAX: usize = 200;

/// The longest pause before the next attempt that a service may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why an answer of 400 and above, with this beginning of its body, is a
/// failure of its step.
pub(super) fn failure(
    request: &Request,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> StepError {
    let summary = request.summary();
    // Before it is cut: of half a secret nobody knows that it is one.
    let body = request.mask.cut_text(&String::from_utf8_lossy(body));
    let excerpt = excerpt(&body, &request.secrets);
    let message = if excerpt.is_empty() {
        format!("{summary} answered {status}")
    } else {
        format!("{summary} answered {status}: {excerpt}")
    };
    StepError {
        retriable: may_pass(status),
        least_pause: pause(headers, Utc::now()),
        ..StepError::permanent("http_status", message)
    }
}

/// Whether a request that was refused so may be granted later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// How long the other side wants to be left alone: `Retry-After`, in seconds
/// or as a date. A date counts from the one of the answer, so that it does not
/// matter whose clock is wrong.
fn pause(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text: &str| {
        DateTime::parse_from_rfc2822(text)
            .ok()
            .map(|at| at.to_utc())
    };
    let wanted = text(&RETRY_AFTER)?;
    let pause = match wanted.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = text(&DATE).and_then(date).unwrap_or(now);
            (date(wanted)? - now).to_std().ok()?
        }
    };
    Some(pause.min(PAUSE_MAX))
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
    use millstream_shared::flow::step::HttpStep;
    use serde_json::json;

    use super::*;

    fn request() -> Request {
        let step = json!({
            "method": "POST", "url": "http://a.example/x?key=q-hush",
            "auth": { "bearer": { "token": "t-hush" } }
        });
        let step: HttpStep = serde_json::from_value(step).unwrap();
        Request::new(&step, None, None, "k").unwrap()
    }

    fn refused(status: u16, body: &[u8]) -> StepError {
        let status = StatusCode::from_u16(status).unwrap();
        failure(&request(), status, &HeaderMap::new(), body)
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
            (501, false),
            (502, true),
            (503, true),
            (504, true),
            (505, false),
        ] {
            let error = refused(status, b"");
            assert_eq!(error.code, "http_status");
            assert_eq!(error.retriable, retriable, "{status}");
        }
    }

    #[test]
    fn a_pause_is_told_in_seconds_or_as_a_date() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let pause_of = |members: &[(&'static str, &str)]| {
            let header = |(name, value): &(&'static str, &str)| {
                (HeaderName::from_static(name), value.parse().unwrap())
            };
            pause(&members.iter().map(header).collect(), now).map(|pause| pause.as_secs())
        };
        let date = ("date", "Tue, 24 Nov 2026 12:00:00 GMT");
        let at = ("retry-after", "Tue, 24 Nov 2026 12:00:30 GMT");
        assert_eq!(pause_of(&[("retry-after", "120")]), Some(120));
        assert_eq!(pause_of(&[date, at]), Some(30));
        assert_eq!(pause_of(&[at]), Some(2 * 3600 + 30));
        assert_eq!(pause_of(&[("retry-after", "999999999")]), Some(24 * 3600));
        let past = ("retry-after", "Tue, 24 Nov 2026 09:00:00 GMT");
        for nothing in [
            &[past][..],
            &[("retry-after", "soon")],
            &[("retry-after", "-1")],
            &[date],
        ] {
            assert_eq!(pause_of(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_secret_of_the_vault_is_hidden_before_the_answer_is_cut() {
        let request = request();
        request.mask.add(["long-secret-of-the-vault"]);
        let told = |body: &[u8]| {
            let status = StatusCode::NOT_FOUND;
            failure(&request, status, &HeaderMap::new(), body).message
        };
        let body = format!(
            "{}long-secret-of-the-vault",
            "x".repeat(EXCERPT_CHARS_MAX - 5)
        );
        let message = told(body.as_bytes());
        assert!(message.ends_with("x***"), "{message}");
        let begun = told(b"no long-secret-of");
        assert!(begun.ends_with("no ***"), "{begun}");
    }

    #[test]
    fn a_failure_names_request_status_and_answer_without_secrets() {
        let body = format!("no\n  such\tthing t-hush q-hush {}", "x".repeat(500));
        let message = refused(404, body.as_bytes()).message;
        let start = "POST http://a.example/x answered 404 Not Found: no such thing *** *** xxx";
        assert!(message.starts_with(start), "{message}");
        assert!(message.ends_with("x…"), "{message}");
        assert!(message.chars().count() < 280, "{message}");
    }
}
