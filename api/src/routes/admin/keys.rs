//! `POST …/keys` and `DELETE …/keys/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use millstream_shared::{
    access::{Key, KeyFlows, KeySet, PresentedKey, Right},
    id::KeyId,
};
use serde::Serialize;

use crate::{
    app::App,
    auth::Admin,
    body::WholeBody,
    clock,
    error::{ApiError, MemberProblem},
    keys,
    members::Members,
    routes::Path,
};

/// The longest name of a key, in characters.
const NAME_MAX: usize = 100;
/// How many flows a key may name. For more there is `*`.
const FLOWS_MAX: usize = 1_000;

#[derive(Serialize)]
struct CreatedReply {
    id: KeyId,
    key: String,
}

/// What a key shall be.
#[derive(Debug, PartialEq)]
struct Wanted {
    name: String,
    set: KeySet,
    rights: Vec<Right>,
    flows: KeyFlows,
    expires_at_ms: Option<u64>,
    /// The text of a key that callers have already.
    text: Option<String>,
}

/// Makes a key, or takes over one that callers have already. This answer is
/// the only place where its text ever shows.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    admin: Admin,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    let mut wanted = Wanted::read(&body, clock::now_ms())?;
    let text = wanted.text.take().map_or_else(keys::generate, Ok)?;
    let key = wanted.key(&text, clock::now_ms())?;
    if app.store.key(&key.id).await?.is_some() {
        return Err(ApiError::KeyExists(key.id));
    }
    app.store.put_key(&key).await?;
    app.keys.forget(&key.id);
    tracing::info!(key = %key.id, name = key.name, by = %admin.key_id(), "key made");
    let reply = CreatedReply {
        id: key.id,
        key: text,
    };
    Ok((StatusCode::CREATED, Json(reply)).into_response())
}

/// Revokes a key. Within a second no API process accepts it any more.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let unknown = || ApiError::NoSuchKey(id.chars().take(64).collect());
    let id: KeyId = id.parse().map_err(|_| unknown())?;
    let deleted = app.store.delete_key(&id).await?;
    app.keys.forget(&id);
    if !deleted {
        return Err(unknown());
    }
    tracing::info!(key = %id, by = %admin.key_id(), "key revoked");
    Ok(StatusCode::NO_CONTENT)
}

impl Wanted {
    fn read(body: &[u8], now_ms: u64) -> Result<Self, ApiError> {
        let mut members = Members::parse(body)?;
        let name = name(&mut members);
        let sets = "`execution`, `monitoring` or `administration`";
        let set = members.require("set", sets);
        let rights = rights(&mut members, set);
        let flows = flows(&mut members, set);
        let expires_at_ms = expiry(&mut members, now_ms);
        let text: Option<String> = members.take("key", "a text");
        if let Some(Err(why)) = text.as_deref().map(keys::check_imported) {
            members.problem("key", why);
        }
        let problems = members.into_problems();
        match (name, set, flows) {
            (Some(name), Some(set), Some(flows)) if problems.is_empty() => Ok(Self {
                name,
                set,
                rights,
                flows,
                expires_at_ms,
                text,
            }),
            _ => Err(ApiError::InvalidKey(problems)),
        }
    }

    fn key(self, text: &str, now_ms: u64) -> Result<Key, ApiError> {
        let presented = PresentedKey::parse(text).map_err(|error| {
            ApiError::InvalidKey(vec![MemberProblem::new("key", error.to_string())])
        })?;
        Ok(Key {
            id: presented.id,
            name: self.name,
            set: self.set,
            rights: self.rights,
            flows: self.flows,
            digest: presented.digest,
            created_at_ms: now_ms,
            expires_at_ms: self.expires_at_ms,
        })
    }
}

fn name(members: &mut Members) -> Option<String> {
    let name: String = members.require("name", "a text")?;
    let name = name.trim().to_owned();
    let fits = (1..=NAME_MAX).contains(&name.chars().count());
    if !fits || name.chars().any(char::is_control) {
        members.problem("name", "must be 1 to 100 characters on one line");
    }
    Some(name)
}

/// The rights: all that the set can have, unless the body says which.
fn rights(members: &mut Members, set: Option<KeySet>) -> Vec<Right> {
    let possible = set.map_or(&[][..], KeySet::rights);
    let expected = "a list of `start`, `read` and `cancel`";
    let Some(given) = members.take::<Vec<Right>>("rights", expected) else {
        return possible.to_vec();
    };
    let mut rights = Vec::new();
    for right in given {
        if let Some(set) = set
            && !possible.contains(&right)
        {
            let message = format!("a key of {set} cannot have the right `{right}`");
            members.problem("rights", &message);
        }
        if !rights.contains(&right) {
            rights.push(right);
        }
    }
    // A key of administration can be for the routes of administration alone.
    if rights.is_empty() && set != Some(KeySet::Administration) {
        members.problem("rights", "must name at least one right");
    }
    rights
}

/// The flows. Only a key of administration is for all of them unsaid.
fn flows(members: &mut Members, set: Option<KeySet>) -> Option<KeyFlows> {
    if set == Some(KeySet::Administration) && !members.has("flows") {
        return Some(KeyFlows::All);
    }
    let flows = members.require("flows", "a list of flow ids, or `[\"*\"]` for every flow")?;
    if let KeyFlows::Only(ids) = &flows
        && !(1..=FLOWS_MAX).contains(&ids.len())
    {
        members.problem("flows", "must name 1 to 1000 flows, or be `[\"*\"]`");
    }
    Some(flows)
}

fn expiry(members: &mut Members, now_ms: u64) -> Option<u64> {
    let text: String = members.take("expires_at", "a text")?;
    let moment = DateTime::parse_from_rfc3339(&text).ok();
    let moment_ms = moment.and_then(|moment| u64::try_from(moment.timestamp_millis()).ok());
    let message = match moment_ms {
        Some(at_ms) if at_ms > now_ms => return Some(at_ms),
        Some(_) => "is in the past",
        None => "must be a time as in RFC 3339, such as `2027-01-31T00:00:00Z`",
    };
    members.problem("expires_at", message);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: Value) -> Result<Wanted, ApiError> {
        Wanted::read(body.to_string().as_bytes(), 1_000)
    }

    fn wrong(body: Value) -> Vec<String> {
        match read(body) {
            Err(ApiError::InvalidKey(problems)) => {
                problems.into_iter().map(|problem| problem.name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_set_gives_its_rights_unless_fewer_are_asked_for() {
        let body = |set: &str| json!({"name": "n", "set": set, "flows": ["*"]});
        let rights = |set| read(body(set)).unwrap().rights;
        assert_eq!(
            rights("execution"),
            [Right::Start, Right::Read, Right::Cancel]
        );
        assert_eq!(rights("monitoring"), [Right::Read]);
        assert_eq!(
            rights("administration"),
            [Right::Start, Right::Read, Right::Cancel]
        );
        let mut fewer = body("execution");
        fewer["rights"] = json!(["start", "start"]);
        assert_eq!(read(fewer).unwrap().rights, [Right::Start]);
    }

    #[test]
    fn a_key_is_for_the_flows_it_names() {
        let wanted = read(
            json!({"name": " n ", "set": "execution", "flows": ["sales"],
            "expires_at": "2027-01-31T00:00:00Z", "key": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
        );
        let wanted = wanted.unwrap();
        assert_eq!(wanted.name, "n");
        assert_eq!(wanted.flows, KeyFlows::Only(vec!["sales".parse().unwrap()]));
        assert_eq!(wanted.expires_at_ms, Some(1_801_353_600_000));
        assert_eq!(
            wanted.text.as_deref(),
            Some("0f8fad5b-d9cb-469f-a165-70867728950e")
        );
        let admin = read(json!({"name": "n", "set": "administration"})).unwrap();
        assert_eq!(admin.flows, KeyFlows::All);
    }

    #[test]
    fn every_wrong_member_is_named() {
        assert_eq!(wrong(json!({})), ["name", "set", "flows"]);
        let all_wrong = json!({"name": "", "set": "root", "flows": ["a b"], "right": [],
            "expires_at": "soon", "key": "short"});
        let expected = ["name", "set", "flows", "expires_at", "key", "right"];
        let named = wrong(all_wrong);
        for name in expected {
            assert!(named.contains(&name.to_owned()), "{name}: {named:?}");
        }
        let body = |name: &str, value: Value| {
            let mut body = json!({"name": "n", "set": "monitoring", "flows": ["*"]});
            body[name] = value;
            body
        };
        assert_eq!(wrong(body("rights", json!(["start"]))), ["rights"]);
        assert_eq!(wrong(body("rights", json!([]))), ["rights"]);
        assert_eq!(wrong(body("flows", json!([]))), ["flows"]);
        assert_eq!(wrong(body("flows", json!(["*", "sales"]))), ["flows"]);
        assert_eq!(
            wrong(body("expires_at", json!("1970-01-01T00:00:00Z"))),
            ["expires_at"]
        );
    }

    #[test]
    fn a_key_that_is_taken_over_does_not_show_in_an_error() {
        let body =
            json!({"name": "n", "set": "monitoring", "flows": ["*"], "key": "hush hush hush hush"});
        let error = read(body).unwrap_err();
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}
