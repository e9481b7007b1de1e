//! Tokens of OAuth 2.0 (client credentials, RFC 6749): asked for once for all
//! steps of a worker, kept in memory until shortly before they expire, and
//! nowhere else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use indexmap::IndexMap;
use millstream_shared::connection::ClientAuth;
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::{
    answer::Limit,
    body::{Body, form_text},
    client::Client,
    request::{Request, header_value},
};
use crate::{mask::Mask, steps::StepError};

/// How long getting a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How much an authority may answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A token is not used any more so long before it expires, or for the last
/// tenth of its life if that is less.
const RENEWED_BEFORE: Duration = Duration::from_secs(60);

/// How long a token is used of which nobody says when it expires.
const UNTOLD_LIFE: Duration = Duration::from_secs(3600);

/// Who asks an authority for tokens, and for which.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) token_url: Url,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) client_auth: ClientAuth,
    pub(super) scope: Option<String>,
    pub(super) audience: Option<String>,
}

/// The tokens of a worker. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<HashMap<Grant, Arc<Slot>>>>);

/// Where the token of a grant is. Who asks the authority holds the lock, so
/// that all others wait for what it answers.
type Slot = tokio::sync::Mutex<Option<Asked>>;

/// What an authority has answered last, and when.
struct Asked {
    at: Instant,
    answer: Result<Token, StepError>,
}

#[derive(Clone)]
struct Token {
    text: String,
    expires_at: Instant,
}

impl Asked {
    /// The token, or the failure where it is of after `since`: then it was
    /// waited for.
    fn usable(&self, since: Instant) -> Option<Result<String, StepError>> {
        match &self.answer {
            Ok(token) if Instant::now() < token.expires_at => Some(Ok(token.text.clone())),
            Err(error) if self.at >= since => Some(Err(error.clone())),
            _ => None,
        }
    }
}

impl Tokens {
    /// The token of a grant: the one at hand, or a new one. `mask` hides it
    /// from here on.
    pub(super) async fn token(
        &self,
        grant: &Grant,
        client: &Client,
        mask: &Mask,
    ) -> Result<String, StepError> {
        let since = Instant::now();
        let slot = self.slot(grant);
        let mut asked = slot.lock().await;
        if let Some(usable) = asked.as_ref().and_then(|asked| asked.usable(since)) {
            return usable.inspect(|token| mask.add([&**token]));
        }
        let answer = ask(grant, client, mask).await;
        let token = answer.as_ref().map(|token| token.text.clone());
        let token = token.map_err(Clone::clone);
        let at = Instant::now();
        *asked = Some(Asked { at, answer });
        token
    }

    /// Forgets a token that was refused, unless another one is there by now.
    pub(super) async fn forget(&self, grant: &Grant, refused: &str) {
        let slot = self.slot(grant);
        let mut asked = slot.lock().await;
        let is_at_hand = |asked: &mut Asked| match &asked.answer {
            Ok(token) => token.text == refused,
            Err(_) => false,
        };
        asked.take_if(is_at_hand);
    }

    fn slot(&self, grant: &Grant) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(grant) {
            return Arc::clone(slot);
        }
        // Those of connections that have changed would stay for ever.
        slots.retain(|_, slot| {
            let is_used = Arc::strong_count(slot) > 1;
            let now = Instant::now();
            is_used
                || slot.try_lock().is_ok_and(|asked| {
                    let asked = asked.as_ref();
                    asked.is_some_and(|asked| asked.usable(now).is_some())
                })
        });
        let slot = Arc::<Slot>::default();
        slots.insert(grant.clone(), Arc::clone(&slot));
        slot
    }
}

/// What an authority says.
#[derive(Deserialize)]
struct Answered {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

async fn ask(grant: &Grant, client: &Client, mask: &Mask) -> Result<Token, StepError> {
    mask.add([&*grant.client_secret]);
    let request = request(grant, mask)?;
    let asked_at = Instant::now();
    let limit = Limit::of(TOKEN_TIMEOUT);
    let incoming = client.open(&request, limit).await;
    let mut incoming = incoming.map_err(told)?;
    if !incoming.status().is_success() {
        return Err(told(incoming.refusal().await));
    }
    let bytes = incoming.in_memory(ANSWER_BYTES_MAX).await;
    let bytes = bytes.map_err(told)?;
    // What the error of serde repeats could be the token.
    let answered: Answered = serde_json::from_slice(&bytes)
        .map_err(|_| unusable(&request, "without an `access_token` in JSON"))?;
    let is_bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
    if answered.access_token.trim().is_empty() || !answered.token_type.iter().all(is_bearer) {
        return Err(unusable(&request, "with something that is no bearer token"));
    }
    mask.add([&*answered.access_token]);
    let life = answered.expires_in.as_ref().map_or(UNTOLD_LIFE, life);
    Ok(Token {
        text: answered.access_token,
        expires_at: asked_at + life - RENEWED_BEFORE.min(life / 10),
    })
}

/// A failure of the request for a token, told as such.
fn told(failure: StepError) -> StepError {
    let message = format!("no token could be had: {}", failure.message);
    let code = match failure.code {
        "http_status" | "http_request" => "oauth_refused",
        code => code,
    };
    StepError {
        code,
        message,
        ..failure
    }
}

fn unusable(request: &Request, what: &str) -> StepError {
    let summary = request.summary();
    StepError::permanent("oauth_refused", format!("{summary} answered {what}"))
}

/// How long a token lives: a number of seconds, which some write as a text.
fn life(seconds: &Value) -> Duration {
    let number = seconds
        .as_f64()
        .or_else(|| seconds.as_str()?.trim().parse().ok());
    let sound = number.filter(|number| (0.0..=1e9).contains(number));
    sound.map_or(UNTOLD_LIFE, Duration::from_secs_f64)
}

/// The request for a token. It is not redirected: what it holds is for the
/// authority alone.
fn request(grant: &Grant, mask: &Mask) -> Result<Request, StepError> {
    let mut form = IndexMap::from([("grant_type".to_owned(), Value::from("client_credentials"))]);
    let members = [("scope", &grant.scope), ("audience", &grant.audience)];
    for (name, value) in members {
        if let Some(value) = value {
            form.insert(name.to_owned(), value.clone().into());
        }
    }
    let mut headers =
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    match grant.client_auth {
        ClientAuth::Basic => {
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let (id, secret) = (encoded(&grant.client_id), encoded(&grant.client_secret));
            let pair = BASE64_STANDARD.encode(format!("{id}:{secret}"));
            mask.add([&*pair]);
            headers.insert(
                AUTHORIZATION,
                header_value(&AUTHORIZATION, &format!("Basic {pair}"))?,
            );
        }
        ClientAuth::Body => {
            form.insert("client_id".to_owned(), grant.client_id.clone().into());
            form.insert(
                "client_secret".to_owned(),
                grant.client_secret.clone().into(),
            );
        }
    }
    Ok(Request {
        method: Method::POST,
        url: grant.token_url.clone(),
        headers,
        body: Some(Body::text(
            form_text(&form),
            "application/x-www-form-urlencoded",
        )),
        follows_redirects: false,
        is_at_home: true,
        key_in_query: None,
        secrets: vec![grant.client_secret.clone()],
        mask: mask.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_life_is_told_in_numbers_and_texts() {
        let of = |value: Value| life(&value).as_secs();
        assert_eq!(of(json!(3599)), 3599);
        assert_eq!(of(json!("60")), 60);
        for odd in [json!(-5), json!("soon"), json!(null), json!(1e300)] {
            assert_eq!(of(odd), UNTOLD_LIFE.as_secs());
        }
    }
}
