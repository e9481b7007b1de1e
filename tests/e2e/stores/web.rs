//! Files over HTTP.

use harness::{Serving, WebFiles};
use serde_json::json;

use super::{Place, rows};

/// What a step says of a file at this address: how many rows it has.
async fn read(place: &Place, url: &str) -> Result<u64, serde_json::Value> {
    let step = format!("{{ id: last, read: {{ path: '{url}' }} }}");
    let output = place.run("read", &[&step]).await?;
    Ok(output["rows"].as_u64().unwrap())
}

#[tokio::test]
async fn files_are_read_from_servers_of_all_kinds() {
    let (place, web) = tokio::join!(Place::with_workers(1), WebFiles::start());
    let text = rows(100_000);
    place.put("rows.csv", &text);
    let steps = [
        "{ id: rows, read: { path: rows.csv } }",
        "{ id: parquet, write: { path: rows.parquet, from: rows } }",
        "{ id: last, write: { path: rows.csv.gz, from: rows } }",
    ];
    place.run("make", &steps).await.unwrap();
    for (file, bytes) in [
        ("rows.csv", text.clone().into_bytes()),
        (
            "rows.csv.gz",
            std::fs::read(place.service.files().join("rows.csv.gz")).unwrap(),
        ),
        (
            "rows.parquet",
            std::fs::read(place.service.files().join("rows.parquet")).unwrap(),
        ),
    ] {
        for (kind, serving) in [
            ("ranges", Serving::Ranges),
            ("whole", Serving::Whole),
            ("cut", Serving::CutRanges(1000)),
        ] {
            let path = format!("/{kind}/{file}");
            web.put(&path, serving, bytes.clone());
            let url = web.url(&format!("{path}?sig=canary.x"));
            assert_eq!(read(&place, &url).await, Ok(100_000), "{path}");
        }
    }
    // Only the end of a Parquet file tells what is in it.
    let asked = web.asked("/whole/rows.parquet?sig=canary.x");
    assert_eq!(asked.len(), 1, "{asked:?}");
    let asked = web.asked("/ranges/rows.parquet?sig=canary.x");
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(
        asked.iter().all(|head| head.contains("range: bytes=")),
        "{asked:?}"
    );

    web.put(
        "/moved.csv",
        Serving::Redirect("/ranges/rows.csv".to_owned()),
        "",
    );
    assert_eq!(read(&place, &web.url("/moved.csv")).await, Ok(100_000));
    web.put("/empty.csv", Serving::Ranges, "");
    let error = read(&place, &web.url("/empty.csv")).await.unwrap_err();
    assert_eq!(error["code"], "bad_header", "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_file_of_the_web_is_said() {
    let (place, web) = tokio::join!(Place::with_workers(1), WebFiles::start());
    let elsewhere = web.url("/a.csv").replace("127.0.0.1", "127.0.0.2");
    web.put("/gone.csv", Serving::Status(410), "");
    web.put("/denied.csv", Serving::Status(403), "");
    web.put("/cut.csv", Serving::CutWhole(5), "a\n1\n2\n3\n");
    web.put("/out.csv", Serving::Redirect(elsewhere.clone()), "");
    web.put("/round.csv", Serving::Redirect("/round.csv".to_owned()), "");
    for (path, code, message) in [
        ("/gone.csv", "file_not_found", "answered 410"),
        ("/none.csv", "file_not_found", "answered 404"),
        ("/denied.csv", "access_denied", "answered 403"),
        ("/cut.csv", "http_transport", "failed: "),
        ("/out.csv", "http_forbidden", "MILLSTREAM_HTTP_ALLOW"),
        ("/round.csv", "http_redirects", "one redirect too many"),
    ] {
        let error = read(&place, &web.url(path)).await.unwrap_err();
        assert_eq!(error["code"], code, "{path}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
    }
    let error = read(&place, &elsewhere).await.unwrap_err();
    assert_eq!(error["code"], "http_forbidden", "{error}");
    let admin = place.service.admin();
    let flow = json!({ "id": "f", "steps": [
        { "id": "a", "read": { "path": "a.csv" } },
        { "id": "b", "write": { "path": web.url("/b.csv"), "from": "a" } },
    ] });
    let refused = admin.put_flow("f", &flow.to_string()).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("files are only read over HTTP"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_says_who_asks_and_nobody_else_sees_it() {
    let (place, web) = tokio::join!(Place::with_workers(1), WebFiles::start());
    let basic = "Basic Zmxvd3M6Y2FuYXJ5LW9mLXdlYg==".to_owned();
    web.put("/files/a.csv", Serving::Authorized(basic), "a\n1\n");
    web.put(
        "/files/b.csv",
        Serving::Authorized("Bearer canary-of-token".to_owned()),
        "a\n1\n",
    );
    web.put("/other.csv", Serving::Ranges, "a\n1\n");
    let other = web.url("/other.csv").replace("127.0.0.1", "localhost");
    web.put("/files/away.csv", Serving::Redirect(other), "");
    let user = json!({ "kind": "http", "url": web.url("/files/"), "user": "flows",
                       "password": "canary-of-web" });
    place.connect("user", &user).await;
    let token = json!({ "kind": "http", "url": web.url("/files"), "token": "canary-of-token" });
    place.connect("token", &token).await;
    let run = async |path: &str, connection: &str| {
        let step = format!("{{ id: last, read: {{ path: '{path}', connection: {connection} }} }}");
        place.run("read", &[&step]).await
    };
    assert_eq!(run("a.csv", "user").await.unwrap()["rows"], 1);
    assert_eq!(
        run(&web.url("/files/b.csv"), "token").await.unwrap()["rows"],
        1
    );
    assert_eq!(
        run("b.csv", "user").await.unwrap_err()["code"],
        "access_denied"
    );
    assert_eq!(
        read(&place, &web.url("/files/a.csv")).await.unwrap_err()["code"],
        "access_denied"
    );
    for outside in ["../other.csv", &web.url("/other.csv")] {
        let error = run(outside, "token").await.unwrap_err();
        assert_eq!(error["code"], "http_request", "{error}");
    }
    assert!(web.asked("/other.csv").is_empty());
    // Another host does not learn who asked.
    assert_eq!(run("away.csv", "token").await.unwrap()["rows"], 1);
    let asked = web.asked("/other.csv");
    let is_secret = |head: &String| head.contains("canary") || head.contains("authorization");
    assert!(
        !asked.is_empty() && !asked.iter().any(is_secret),
        "{asked:?}"
    );
}
