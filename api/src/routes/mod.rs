//! The whole surface of the API.

mod admin;
mod public;

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRequestParts,
    middleware::{from_fn, from_fn_with_state},
    routing::{delete, get, post, put},
};

use crate::{app::App, auth, config::ErrorMode, error::ApiError, layers};

#[rustfmt::skip]
fn table() -> Router<Arc<App>> {
    Router::new()
        .route("/api/pub/v1/dataflows/{flow_id}/start",                post(public::start::start))
        .route("/api/pub/v1/dataflows/{flow_id}/runs/{run_id}/status", get(public::status::status))
        .route("/api/pub/v1/dataflows/{flow_id}/runs/{run_id}/output", get(public::output::output))
        .route("/api/admin/v1/dataflows/{flow_id}",                    put(admin::dataflows::publish))
        .route("/api/admin/v1/keys",                                   post(admin::keys::create))
        .route("/api/admin/v1/keys/{key_id}",                          delete(admin::keys::revoke))
        .route("/api/admin/v1/connections",                            get(admin::connections::list))
        .route("/api/admin/v1/connections/{name}",                     put(admin::connections::put)
                                                                       .get(admin::connections::show)
                                                                       .delete(admin::connections::delete))
        .route("/api/admin/v1/secrets",                                get(admin::secrets::list))
        // `reseal` stands where names of secrets do.
        .route("/api/admin/v1/secrets/{name}",                         put(admin::secrets::put)
                                                                       .delete(admin::secrets::delete)
                                                                       .post(admin::secrets::reseal))
}

/// The routes under the base path, with all that requests pass through. The
/// last layer is the outermost: it takes the key away before the others look.
pub(crate) fn router(app: Arc<App>, error_mode: ErrorMode) -> Router {
    let routes = match app.base_path.as_str() {
        "" => table(),
        base_path => Router::new().nest(base_path, table()),
    };
    around(routes, error_mode).with_state(app)
}

fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>, error_mode: ErrorMode) -> Router<S> {
    routes
        .fallback(async || ApiError::NoSuchRoute("there is no such route".into()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(from_fn(layers::catch_panics))
        .layer(from_fn(layers::observe))
        .layer(from_fn_with_state(error_mode, layers::finish))
        .layer(from_fn(auth::take_key))
}

/// The parameters in a route's path. One that is not what it must be is like a
/// path that does not exist.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        extract::OriginalUri,
        http::{HeaderMap, Request, Uri},
        response::Response,
    };
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    /// Routes that need no store, with everything around them.
    fn service(error_mode: ErrorMode) -> Router {
        let shown = async |uri: Uri, OriginalUri(original): OriginalUri, headers: HeaderMap| {
            format!("{uri} {original} {headers:?}")
        };
        let broken = async || -> &'static str { panic!("broken") };
        let named = async |Path(id): Path<millstream_shared::id::FlowId>| id.to_string();
        let routes = Router::new()
            .route("/shown", get(shown).put(shown))
            .route("/broken", post(broken))
            .route("/flows/{flow_id}", get(named));
        around(Router::new().nest("/base", routes), error_mode)
    }

    async fn answer(error_mode: ErrorMode, method: &str, uri: &str) -> Response {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("X-Api-Key", "canary").body(Body::empty());
        service(error_mode).oneshot(request.unwrap()).await.unwrap()
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn code(response: Response) -> String {
        let problem: Value = serde_json::from_str(&text(response).await).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_handler_sees_the_key_nowhere() {
        let uri = "/base/shown?a=1&api_key=canary";
        let response = answer(ErrorMode::Problem, "GET", uri).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
        let told = text(response).await;
        assert!(told.contains("/base/shown?a=1"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }

    #[tokio::test]
    async fn a_path_that_does_not_exist_is_a_problem_of_its_own() {
        for uri in [
            "/",
            "/shown",
            "/base",
            "/base/",
            "/base/shown/",
            "/base/flows/a%20b",
            "/base/flows/%ff",
        ] {
            let response = answer(ErrorMode::Problem, "GET", uri).await;
            assert_eq!(response.status(), 404, "{uri}");
            assert_eq!(code(response).await, "not_found", "{uri}");
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_the_right_ones() {
        for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
            let response = answer(ErrorMode::Problem, method, "/base/shown").await;
            assert_eq!(response.status(), 405, "{method}");
            assert_eq!(response.headers()["allow"], "GET,HEAD,PUT");
            assert_eq!(code(response).await, "method_not_allowed");
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_without_its_message() {
        let response = answer(ErrorMode::Problem, "POST", "/base/broken").await;
        assert_eq!(response.status(), 500);
        let told = text(response).await;
        assert!(
            told.contains("internal_error") && !told.contains("broken"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn in_legacy_mode_an_unknown_path_and_method_are_500_too() {
        for (method, uri) in [("GET", "/nowhere"), ("POST", "/base/shown")] {
            let response = answer(ErrorMode::Legacy, method, uri).await;
            assert_eq!(response.status(), 500);
        }
    }
}
