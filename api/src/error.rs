//! What can go wrong with a request, and how the caller is told: a problem
//! document (RFC 9457) with a stable code.

use std::error::Error;

use axum::{
    extract::rejection::PathRejection,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use millstream_shared::{
    access::Right,
    artifacts::ArtifactError,
    connection::NotSealed,
    flow::{InvalidFlow, Problem as FlowProblem, inputs::InputProblem},
    id::{FlowId, KeyId, RunId},
    store::{Scope, StoreError, TooMany, VAULT_MAX, VaultError},
};
use serde::Serialize;
use serde_json::{Value, json};

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    NotSupported(String),
    #[error("the body cannot be read as JSON: {0}")]
    InvalidJson(String),
    #[error("the body is not what this route takes: {}", listed(.0))]
    InvalidBody(Vec<MemberProblem>),
    #[error("the inputs do not fit the flow: {}", listed(.0))]
    InvalidInputs(Vec<MemberProblem>),
    #[error("the body broke off")]
    BodyBroken,
    #[error("different keys were given in `api_key` and `x-api-key`, or one of them twice")]
    ConflictingKeys,
    #[error("a valid key must be given in the query parameter `api_key` or the header `x-api-key`")]
    Unauthorized,
    #[error("this key does not have the right to {right} flow `{flow}`")]
    Forbidden { right: Right, flow: FlowId },
    #[error("this needs a key of administration")]
    AdminOnly,
    #[error("{0}")]
    NoSuchRoute(String),
    #[error("there is no flow `{0}`")]
    NoSuchFlow(FlowId),
    #[error("flow `{flow}` has no run `{run}`")]
    NoSuchRun { flow: FlowId, run: RunId },
    #[error("run `{0}` has not ended, so it has no output yet")]
    NotEnded(RunId),
    #[error("run `{0}` handed nothing back")]
    NoOutput(RunId),
    #[error("what run `{0}` handed back is not in the artifact store any more, or it is damaged")]
    OutputGone(RunId),
    #[error(
        "the output is in the artifact store, which this API process cannot reach: it was started without MILLSTREAM_ARTIFACTS"
    )]
    NoArtifactStore,
    #[error("there is no key `{0}`")]
    NoSuchKey(String),
    #[error("there is no connection `{0}`")]
    NoSuchConnection(String),
    #[error("there is no secret `{0}`")]
    NoSuchSecret(String),
    #[error("this route does not know the method")]
    MethodNotAllowed,
    #[error("the body did not come within {0} seconds")]
    BodyTooSlow(u64),
    #[error("there is a key `{0}` already; delete it first to change it")]
    KeyExists(KeyId),
    #[error("the body is longer than {0} bytes")]
    BodyTooLarge(usize),
    #[error("the flow is not valid: {}", placed(.0))]
    InvalidFlow(Vec<FlowProblem>),
    #[error("the key cannot be made as asked: {}", listed(.0))]
    InvalidKey(Vec<MemberProblem>),
    #[error("the connection cannot be kept as asked: {}", listed(.0))]
    InvalidConnection(Vec<MemberProblem>),
    #[error("the secret cannot be kept as asked: {}", listed(.0))]
    InvalidSecret(Vec<MemberProblem>),
    #[error(
        "this service keeps no connections and secrets: it was started without MILLSTREAM_SECRETS_KEY"
    )]
    NoSecretsKey,
    #[error("{0}")]
    OtherSecretsKey(String),
    #[error("there are {VAULT_MAX} already, and no more can be kept")]
    VaultFull,
    #[error("{0}")]
    DamagedSecret(String),
    #[error("this Idempotency-Key came with another body before")]
    OtherBody,
    #[error("so many runs {} are on their way already that this one was refused", of(.0.scope))]
    QueueFull(TooMany),
    #[error("so many callers wait already that this one was refused")]
    TooManyWaits,
    #[error("the artifact store failed")]
    Artifact(#[from] ArtifactError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("no randomness could be had for a key")]
    Randomness(#[from] getrandom::Error),
    #[error("the handler panicked")]
    Panicked,
}

/// One thing that is wrong with a member of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MemberProblem {
    /// The member, as in `inputs.day`.
    pub(crate) name: String,
    /// What is wrong and what was expected.
    pub(crate) message: String,
}

impl MemberProblem {
    pub(crate) fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            message: message.into(),
        }
    }
}

fn of(scope: Scope) -> &'static str {
    match scope {
        Scope::Service => "of the service",
        Scope::Flow => "of the flow",
    }
}

fn listed(problems: &[MemberProblem]) -> String {
    let told = |problem: &MemberProblem| format!("`{}` {}", problem.name, problem.message);
    first_few(problems.iter().map(told))
}

fn placed(problems: &[FlowProblem]) -> String {
    let told = |problem: &FlowProblem| {
        let FlowProblem { line, column, .. } = problem;
        format!("line {line}, column {column}: {}", problem.message)
    };
    first_few(problems.iter().map(told))
}

/// The first of perhaps many problems in one line, for callers that show no
/// more than that.
fn first_few(mut problems: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN_MAX: usize = 3;
    let mut text = problems
        .by_ref()
        .take(SHOWN_MAX)
        .collect::<Vec<_>>()
        .join("; ");
    if problems.len() > 0 {
        text += &format!("; and {} more", problems.len());
    }
    text
}

/// How an error looks from outside. The code is part of the API: clients match
/// on it, so it never changes.
struct Kind {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
}

fn kind(status: StatusCode, code: &'static str, title: &'static str) -> Kind {
    Kind {
        status,
        code,
        title,
    }
}

impl ApiError {
    /// Seconds after which a caller may try again where nobody can say.
    const RETRY_AFTER_SECONDS: u64 = 5;

    /// After how many seconds a caller may try again, where that can help.
    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::QueueFull(too_many) => Some(too_many.room_in_seconds()),
            Self::TooManyWaits => Some(Self::RETRY_AFTER_SECONDS),
            Self::Store(error) if error.is_passing() => Some(Self::RETRY_AFTER_SECONDS),
            Self::Artifact(error) if error.is_passing() => Some(Self::RETRY_AFTER_SECONDS),
            _ => None,
        }
    }

    #[rustfmt::skip]
    fn kind(&self) -> Kind {
        use StatusCode as S;
        match self {
            Self::InvalidParameter(_)   => kind(S::BAD_REQUEST, "invalid_parameter", "A parameter is not valid"),
            Self::NotSupported(_)       => kind(S::BAD_REQUEST, "not_supported", "Not supported"),
            Self::InvalidJson(_)        => kind(S::BAD_REQUEST, "invalid_json", "The body is not JSON"),
            Self::InvalidBody(_)        => kind(S::BAD_REQUEST, "invalid_body", "The body is not valid"),
            Self::InvalidInputs(_)      => kind(S::BAD_REQUEST, "invalid_inputs", "The inputs are not valid"),
            Self::BodyBroken            => kind(S::BAD_REQUEST, "broken_body", "The body is not complete"),
            Self::ConflictingKeys       => kind(S::BAD_REQUEST, "conflicting_keys", "Different keys were given"),
            Self::Unauthorized          => kind(S::UNAUTHORIZED, "unauthorized", "A valid key is needed"),
            Self::Forbidden { .. }      => kind(S::FORBIDDEN, "forbidden", "The key does not allow this"),
            Self::AdminOnly             => kind(S::FORBIDDEN, "forbidden", "The key does not allow this"),
            Self::NoSuchRoute(_)        => kind(S::NOT_FOUND, "not_found", "Nothing is at this address"),
            Self::NoSuchFlow(_)         => kind(S::NOT_FOUND, "unknown_flow", "Unknown flow"),
            Self::NoSuchRun { .. }      => kind(S::NOT_FOUND, "unknown_run", "Unknown run"),
            Self::NotEnded(_)           => kind(S::NOT_FOUND, "not_ended", "The run has not ended"),
            Self::NoOutput(_)           => kind(S::NOT_FOUND, "no_output", "The run has no output"),
            Self::NoSuchKey(_)          => kind(S::NOT_FOUND, "unknown_key", "Unknown key"),
            Self::NoSuchConnection(_)   => kind(S::NOT_FOUND, "unknown_connection", "Unknown connection"),
            Self::NoSuchSecret(_)       => kind(S::NOT_FOUND, "unknown_secret", "Unknown secret"),
            Self::MethodNotAllowed      => kind(S::METHOD_NOT_ALLOWED, "method_not_allowed", "Another method is needed"),
            Self::BodyTooSlow(_)        => kind(S::REQUEST_TIMEOUT, "body_timeout", "The body came too slowly"),
            Self::KeyExists(_)          => kind(S::CONFLICT, "key_exists", "The key exists"),
            // Nothing is at fault, and asking again does not help: an operator
            // has left this out, or not put an older key back.
            Self::NoSecretsKey          => kind(S::CONFLICT, "no_secrets_key", "There is no key for secrets"),
            Self::OtherSecretsKey(_)    => kind(S::CONFLICT, "other_secrets_key", "Another key for secrets is needed"),
            Self::VaultFull             => kind(S::CONFLICT, "vault_full", "No more can be kept"),
            Self::NoArtifactStore       => kind(S::CONFLICT, "no_artifact_store", "There is no artifact store"),
            Self::OutputGone(_)         => kind(S::GONE, "output_gone", "The output is gone"),
            Self::BodyTooLarge(_)       => kind(S::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too long"),
            Self::InvalidFlow(_)        => kind(S::UNPROCESSABLE_ENTITY, "invalid_flow", "The flow is not valid"),
            Self::InvalidKey(_)         => kind(S::UNPROCESSABLE_ENTITY, "invalid_key", "The key is not valid"),
            Self::InvalidConnection(_)  => kind(S::UNPROCESSABLE_ENTITY, "invalid_connection", "The connection is not valid"),
            Self::InvalidSecret(_)      => kind(S::UNPROCESSABLE_ENTITY, "invalid_secret", "The secret is not valid"),
            Self::OtherBody             => kind(S::UNPROCESSABLE_ENTITY, "idempotency_mismatch", "The Idempotency-Key was used before"),
            Self::QueueFull(_)          => kind(S::TOO_MANY_REQUESTS, "queue_full", "The queue is full"),
            Self::TooManyWaits          => kind(S::TOO_MANY_REQUESTS, "too_many_waits", "Too many callers wait"),
            Self::Store(error) if error.is_passing()
                                        => kind(S::INTERNAL_SERVER_ERROR, "unavailable", "The service cannot do this now"),
            Self::Artifact(error) if error.is_passing()
                                        => kind(S::INTERNAL_SERVER_ERROR, "unavailable", "The service cannot do this now"),
            Self::Store(StoreError::Corrupt { .. }) | Self::DamagedSecret(_)
                                        => kind(S::INTERNAL_SERVER_ERROR, "corrupt_record", "A stored record is damaged"),
            Self::Store(_) | Self::Artifact(_) | Self::Randomness(_) | Self::Panicked
                                        => kind(S::INTERNAL_SERVER_ERROR, "internal_error", "The service failed"),
        }
    }

    /// What the caller reads. Nothing of what happened inside is in it.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Store(error) if error.is_passing() => {
                "the service cannot reach its queue or store now; try again later".to_owned()
            }
            Self::Store(StoreError::Corrupt { .. }) => {
                "what is stored of this cannot be read: somebody changed it or it is damaged"
                    .to_owned()
            }
            Self::Artifact(error) if error.is_passing() => {
                "the service cannot reach its artifact store now; try again later".to_owned()
            }
            Self::Store(_) | Self::Artifact(_) | Self::Randomness(_) | Self::Panicked => {
                "the service failed; its log says more".to_owned()
            }
            told => told.to_string(),
        }
    }

    fn errors(&self) -> Option<Value> {
        match self {
            Self::InvalidBody(errors)
            | Self::InvalidInputs(errors)
            | Self::InvalidKey(errors)
            | Self::InvalidConnection(errors)
            | Self::InvalidSecret(errors) => Some(json!(errors)),
            Self::InvalidFlow(errors) => Some(json!(errors)),
            _ => None,
        }
    }
}

/// The document that tells of an error, kept beside the response so that its
/// status can still be changed.
#[derive(Clone, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Value>,
}

impl Problem {
    fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let head = [(CONTENT_TYPE, "application/problem+json")];
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, head, body).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Kind {
            status,
            code,
            title,
        } = self.kind();
        if status.is_server_error() {
            tracing::error!(error = causes(&self), code, "request failed");
        } else {
            tracing::debug!(error = %self, code, "request refused");
        }
        let problem = Problem {
            kind: format!("urn:millstream:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            code,
            errors: self.errors(),
        };
        let mut response = problem.response();
        if let Some(seconds) = self.retry_after_seconds() {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("ApiKey");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// An error and its causes in one line, for the log: a form of log may leave
/// the causes out.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told += &format!(": {error}");
        cause = error.source();
    }
    told
}

/// The response with status 500 where it is an error, for callers that know no
/// other one.
pub(crate) fn as_legacy(mut response: Response) -> Response {
    let failure = response.status().is_client_error() || response.status().is_server_error();
    if !failure {
        return response;
    }
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    problem.status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
    let mut told = problem.response();
    for (name, value) in response.headers() {
        let about_the_body = name == "content-type" || name == "content-length";
        if !about_the_body {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::NoSuchRoute(rejection.body_text())
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => Self::Store(error),
            VaultError::NoRandomness(error) => Self::Randomness(error),
            VaultError::TooMany => Self::VaultFull,
            VaultError::Sealed { ref why, .. } => match why {
                NotSealed::OtherKey(_) => Self::OtherSecretsKey(error.to_string()),
                NotSealed::Damaged => Self::DamagedSecret(error.to_string()),
            },
        }
    }
}

impl From<InvalidFlow> for ApiError {
    fn from(invalid: InvalidFlow) -> Self {
        Self::InvalidFlow(invalid.problems)
    }
}

impl From<Vec<InputProblem>> for ApiError {
    fn from(problems: Vec<InputProblem>) -> Self {
        let named = |problem: InputProblem| MemberProblem::new(problem.name, problem.message);
        Self::InvalidInputs(problems.into_iter().map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn document(response: Response) -> Value {
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn flow() -> FlowId {
        "sales".parse().unwrap()
    }

    #[tokio::test]
    async fn a_problem_says_what_is_wrong_in_the_members_of_the_standard() {
        let response = ApiError::NoSuchFlow(flow()).into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let expected = json!({
            "type": "urn:millstream:problem:unknown_flow",
            "title": "Unknown flow",
            "status": 404,
            "detail": "there is no flow `sales`",
            "code": "unknown_flow",
        });
        assert_eq!(document(response).await, expected);
    }

    #[tokio::test]
    async fn each_offending_member_is_named() {
        let problem = InputProblem {
            name: "day".into(),
            message: "is missing".into(),
        };
        let response = ApiError::from(vec![problem]).into_response();
        assert_eq!(response.status(), 400);
        let told = document(response).await;
        assert_eq!(
            told["errors"],
            json!([{"name": "day", "message": "is missing"}])
        );
        assert_eq!(
            told["detail"],
            "the inputs do not fit the flow: `day` is missing"
        );
    }

    #[test]
    fn of_many_problems_the_first_few_stand_in_the_detail() {
        let problems = (0..5).map(|place| MemberProblem::new(format!("m{place}"), "is odd"));
        let told = ApiError::InvalidKey(problems.collect()).detail();
        assert!(
            told.ends_with("`m0` is odd; `m1` is odd; `m2` is odd; and 2 more"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_fault_of_the_service_is_500_and_tells_nothing_of_the_inside() {
        let fault = StoreError::Unsuitable("redis at 10.0.0.7 is too old".into());
        let response = ApiError::Store(fault).into_response();
        assert_eq!(response.status(), 500);
        let told = document(response).await.to_string();
        assert!(told.contains("internal_error"), "{told}");
        assert!(!told.to_lowercase().contains("redis"), "{told}");
    }

    #[test]
    fn the_log_tells_the_cause_too() {
        let fault = StoreError::Unsuitable("redis is too old".into());
        assert_eq!(
            causes(&ApiError::Store(fault)),
            "the store failed: redis is too old"
        );
    }

    #[tokio::test]
    async fn a_full_queue_says_when_to_come_back() {
        let too_many = TooMany {
            scope: Scope::Flow,
            excess: 10,
            ended: 5,
            within_ms: 20_000,
        };
        let response = ApiError::QueueFull(too_many).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "40");
        let detail = document(response).await["detail"].clone();
        assert!(detail.as_str().unwrap().contains("runs of the flow"));
    }

    #[tokio::test]
    async fn in_legacy_mode_every_error_is_500_with_the_same_document() {
        let response = as_legacy(ApiError::Unauthorized.into_response());
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        let told = document(response).await;
        assert_eq!(told["status"], 500);
        assert_eq!(told["code"], "unauthorized");
        assert_eq!(as_legacy(StatusCode::OK.into_response()).status(), 200);
        assert_eq!(
            as_legacy(StatusCode::NOT_FOUND.into_response()).status(),
            500
        );
    }
}
