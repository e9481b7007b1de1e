//! The key: where it may stand, and what it may not do.

use harness::{Answer, SOON, Service, Setup, eventually};
use serde_json::json;

use crate::flows::quick;

async fn service() -> Service {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    for id in ["sales", "wages"] {
        service.admin().publish(&quick(id)).await;
    }
    service
}

#[tokio::test]
async fn a_key_stands_in_either_place_under_a_name_of_any_case() {
    let service = service().await;
    let (_, key) = service
        .admin()
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"] }))
        .await;
    let caller = service.admin().without_key();
    for parameter in ["api_key", "API_KEY", "Api_Key"] {
        let request = caller.start_request("sales", &format!("?{parameter}={key}"));
        assert_eq!(Answer::of(request).await.status, 200, "{parameter}");
    }
    for header in ["x-api-key", "X-API-KEY", "X-Api-Key"] {
        let request = caller.start_request("sales", "").header(header, &key);
        assert_eq!(Answer::of(request).await.status, 200, "{header}");
    }
    let run = caller.with_key(&key).start("sales").await;
    let by_parameter = caller.status_request("sales", &run, &format!("?Api_KEY={key}"));
    assert_eq!(Answer::of(by_parameter).await.status, 200);
}

#[tokio::test]
async fn two_places_may_show_one_key_but_not_two() {
    let service = service().await;
    let admin = service.admin();
    let key = service.admin_key();
    let same = admin.start_request("sales", &format!("?api_key={key}"));
    assert_eq!(Answer::of(same).await.status, 200);
    let other = Answer::of(admin.start_request("sales", "?api_key=another")).await;
    assert_eq!((other.status, &*other.code()), (400, "conflicting_keys"));
    let twice = format!("?api_key={key}&API_KEY=another");
    let twice = Answer::of(admin.without_key().start_request("sales", &twice)).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn no_key_or_an_unknown_one_is_401_whatever_is_asked_for() {
    let service = service().await;
    let admin = service.admin();
    let run = admin.start("sales").await;
    let nobody = admin.without_key();
    let unknown =
        "ms_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";
    for caller in [
        nobody.clone(),
        nobody.with_key(unknown),
        nobody.with_key("no-such-key-at-all"),
        nobody.with_key(""),
    ] {
        for request in [
            caller.start_request("sales", ""),
            caller.start_request("no-such-flow", ""),
            caller.status_request("sales", &run, ""),
            caller.request(reqwest::Method::POST, "/api/admin/v1/keys"),
            caller.request(reqwest::Method::PUT, "/api/admin/v1/dataflows/sales"),
        ] {
            let answer = Answer::of(request).await;
            assert_eq!((answer.status, &*answer.code()), (401, "unauthorized"));
        }
    }
}

#[tokio::test]
async fn a_key_that_has_expired_or_was_revoked_is_401() {
    let service = service().await;
    let admin = service.admin();
    let soon = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1500);
    let (_, expiring) = admin
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"],
                            "expires_at": soon.to_rfc3339() }))
        .await;
    let (id, revoked) = admin
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["*"] }))
        .await;
    for key in [&expiring, &revoked] {
        admin.with_key(key).start("sales").await;
    }
    assert_eq!(admin.delete_key(&id).await.status, 204);
    for key in [&expiring, &revoked] {
        let caller = admin.with_key(key);
        eventually(SOON, "the key to be refused", || async {
            let answer = Answer::of(caller.start_request("sales", "")).await;
            (answer.status == 401).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_key_may_not_do_is_403_whether_or_not_the_flow_exists() {
    let service = service().await;
    let admin = service.admin();
    let (_, limited) = admin
        .create_key(json!({ "name": "k", "set": "execution", "flows": ["sales"] }))
        .await;
    let (_, looking) = admin
        .create_key(json!({ "name": "k", "set": "monitoring", "flows": ["*"] }))
        .await;
    let (_, starting) = admin
        .create_key(json!({ "name": "k", "set": "execution", "rights": ["start"], "flows": ["*"] }))
        .await;
    let run = admin.start("sales").await;
    let (limited, looking) = (admin.with_key(&limited), admin.with_key(&looking));
    let starting = admin.with_key(&starting);

    assert_eq!(limited.status("sales", &run).await, "Pending");
    assert_eq!(looking.status("sales", &run).await, "Pending");
    for request in [
        limited.start_request("wages", ""),
        limited.start_request("no-such-flow", ""),
        limited.status_request("wages", &run, ""),
        looking.start_request("sales", ""),
        looking.start_request("no-such-flow", ""),
        starting.status_request("sales", &run, ""),
        limited.request(reqwest::Method::POST, "/api/admin/v1/keys"),
        limited.request(reqwest::Method::PUT, "/api/admin/v1/dataflows/sales"),
        looking.request(reqwest::Method::DELETE, "/api/admin/v1/keys/x"),
    ] {
        let answer = Answer::of(request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "forbidden"));
    }
    let unknown = Answer::of(starting.start_request("no-such-flow", "")).await;
    assert_eq!((unknown.status, &*unknown.code()), (404, "unknown_flow"));
}
