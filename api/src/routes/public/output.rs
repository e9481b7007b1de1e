//! `GET …/dataflows/{id}/runs/{runId}/output`: what the run handed back.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use millstream_shared::{
    access::{Right, sha256_hex},
    artifacts::ArtifactError,
    id::{FlowId, RunId},
    run::{Artifact, RunOutput},
};

use crate::{
    app::App,
    auth::Caller,
    error::{ApiError, causes},
    routes::Path,
};

/// Hands the output of a run that has ended to the caller: as it stands in the
/// record, or piece by piece out of the artifact store.
pub(crate) async fn output(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((flow, run)): Path<(FlowId, RunId)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.require(Right::Read, &flow)?;
    let found = app.store.output(run).await?;
    let Some(handed) = found.filter(|handed| handed.flow == flow) else {
        return Err(ApiError::NoSuchRun { flow, run });
    };
    match handed.output {
        _ if !handed.state.is_final() => Err(ApiError::NotEnded(run)),
        None => Err(ApiError::NoOutput(run)),
        Some(RunOutput::Json(json)) => {
            let tag = sha256_hex(&[json.as_bytes()]);
            let bytes = json.len() as u64;
            Ok(known(&headers, &tag).unwrap_or_else(|| whole(&tag, bytes, Body::from(json))))
        }
        Some(RunOutput::Kept(artifact)) => match known(&headers, &artifact.sha256) {
            Some(answer) => Ok(answer),
            None => {
                let body = kept(&app, run, &artifact).await?;
                Ok(whole(&artifact.sha256, artifact.bytes, body))
            }
        },
    }
}

/// The content of an artifact. It is checked on its way: what turns out to be
/// damaged breaks off before its end, so that no caller takes it for whole.
async fn kept(app: &App, run: RunId, artifact: &Artifact) -> Result<Body, ApiError> {
    let store = app.artifacts.as_ref().ok_or(ApiError::NoArtifactStore)?;
    let refused = |error: ArtifactError| {
        if error.is_lost() {
            tracing::error!(%run, %error, "the output of a run is lost");
            return ApiError::OutputGone(run);
        }
        ApiError::Artifact(error)
    };
    let mut chunks = store.get(artifact).await.map_err(refused)?;
    // The first piece is waited for, since only then is it known how to answer.
    let first = chunks.next().await.transpose().map_err(refused)?;
    let first = stream::iter(first.map(Ok::<Bytes, ArtifactError>));
    let chunks = first.chain(chunks).inspect(move |chunk| {
        if let Err(error) = chunk {
            tracing::error!(%run, error = causes(error), "an output broke off");
        }
    });
    Ok(Body::from_stream(chunks))
}

/// The answer without a body, where the caller has it already.
fn known(headers: &HeaderMap, tag: &str) -> Option<Response> {
    let tag = format!("\"{tag}\"");
    let is_known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    is_known.then(|| (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response())
}

fn whole(tag: &str, bytes: u64, body: Body) -> Response {
    let head = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_LENGTH, bytes.to_string()),
        (ETAG, format!("\"{tag}\"")),
    ];
    (head, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(tags: &[&str]) -> StatusCode {
        let mut headers = HeaderMap::new();
        for tag in tags {
            headers.append(IF_NONE_MATCH, tag.parse().unwrap());
        }
        let answer = known(&headers, "abc");
        let answer = answer.unwrap_or_else(|| whole("abc", 2, Body::from("{}")));
        assert_eq!(answer.headers()[ETAG], "\"abc\"");
        answer.status()
    }

    #[test]
    fn a_caller_that_has_the_output_does_not_get_it_again() {
        assert_eq!(status(&[]), 200);
        assert_eq!(status(&["\"abd\""]), 200);
        assert_eq!(status(&["abc"]), 200);
        for known in ["\"abc\"", "\"x\", W/\"abc\"", "*"] {
            assert_eq!(status(&[known]), 304, "{known}");
        }
        assert_eq!(status(&["\"x\"", "\"abc\""]), 304);
    }
}
