//! Answers that come in pages are one table or one list.

use std::{fs, sync::OnceLock};

use harness::{Asked, HttpServer, Reply};
use serde_json::{Value, json};

use super::{fail, service, succeed};

/// A parameter of the query as a number.
fn parameter(asked: &Asked, name: &str) -> Option<u64> {
    let (_, query) = asked.target.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name);
    values.next()?.1.parse().ok()
}

/// Orders from one number on, at most three of seven.
fn orders(from: u64) -> Value {
    let order = |id: u64| json!({ "id": id, "amount": id as f64 / 2.0 });
    (from..=7).take(3).map(order).collect()
}

/// Seven orders, to be had in every way there is.
async fn shop() -> HttpServer {
    HttpServer::start(|asked| match asked.path() {
        "/linked" => {
            let page = parameter(asked, "page").unwrap_or(1);
            let next = (page < 3).then(|| format!("/linked?page={}", page + 1));
            Reply::json(&json!({ "data": orders(page * 3 - 2), "next": next }))
        }
        "/headed" => {
            let page = parameter(asked, "page").unwrap_or(1);
            let reply = Reply::json(&orders(page * 3 - 2));
            match page < 3 {
                true => reply.with(
                    "link",
                    &format!("</headed?page={}>; rel=\"next\"", page + 1),
                ),
                false => reply,
            }
        }
        "/searched" => {
            let body: Value = serde_json::from_str(asked.text()).unwrap();
            let from = body["page"]["after"].as_u64().unwrap_or(0) + 1;
            let next = (from < 7).then(|| from + 2);
            Reply::json(&json!({ "hits": orders(from), "cursor": next }))
        }
        "/numbered" => Reply::json(&orders(parameter(asked, "page").unwrap() * 3 - 2)),
        "/skipped" => Reply::json(&orders(parameter(asked, "skip").unwrap() + 1)),
        _ => Reply::new(404, "no such thing"),
    })
    .await
}

#[tokio::test]
async fn pages_of_every_kind_become_one_table() {
    let service = service().await;
    let admin = service.admin();
    let shop = shop().await;
    let ways = [
        ("linked", json!({ "link": "/next" }), "/data"),
        ("headed", json!({ "link": "header" }), ""),
        (
            "searched",
            json!({ "cursor": { "at": "/cursor", "json": "/page/after" } }),
            "/hits",
        ),
        (
            "numbered",
            json!({ "number": { "query": "page" }, "size": 3 }),
            "",
        ),
        ("skipped", json!({ "offset": { "query": "skip" } }), ""),
    ];
    for (way, pages, at) in ways {
        let mut http = json!({ "url": shop.url(&format!("/{way}")), "pages": pages,
                               "extract": { "at": at, "to": "table" } });
        if way == "searched" {
            http["method"] = "POST".into();
            http["json"] = json!({ "page": { "size": 3 } });
        }
        let flow = json!({ "id": way, "steps": [
            { "id": "orders", "http": http },
            { "id": "total", "sql": "select count(*) as orders, sum(amount) as amount, \
                                     min(id) as first, max(id) as last from orders" },
            { "id": "write", "write": { "path": format!("{way}.csv"), "from": "total" } },
            { "id": "all", "needs": ["orders"], "set": { "pages": "{{ steps.orders.value.pages }}" } },
        ] });
        succeed(&service, &admin, flow).await;
        let written = fs::read_to_string(service.files().join(format!("{way}.csv"))).unwrap();
        assert_eq!(written, "orders,amount,first,last\n7,14.0,1,7\n", "{way}");
    }
    let searches = shop.seen();
    let searches = searches.iter().filter(|asked| asked.path() == "/searched");
    let keys: Vec<&str> = searches
        .map(|asked| asked.header("idempotency-key").unwrap())
        .collect();
    // A search is a POST: each has a key of its own, which can be foretold.
    let first = keys[0].to_owned();
    assert!(first.ends_with("-orders"), "{first}");
    assert_eq!(keys[1..], [format!("{first}-2"), format!("{first}-3")]);
}

#[tokio::test]
async fn pages_without_a_table_are_one_list() {
    let service = service().await;
    let admin = service.admin();
    let shop = shop().await;
    let flow = json!({ "id": "listed", "steps": [
        { "id": "orders", "http": { "url": shop.url("/linked"), "pages": { "link": "/next" },
                                    "extract": { "at": "/data" } } },
        { "id": "say", "command": { "program": "sh", "args": ["-c", "cat > \"$F\""],
            "env": { "F": service.files().join("list").to_str().unwrap() },
            "stdin": "{{ [steps.orders.rows, steps.orders.value.pages, \
                          steps.orders.value.body | map(attribute='id') | list] }}" } },
    ] });
    succeed(&service, &admin, flow).await;
    let list = fs::read_to_string(service.files().join("list")).unwrap();
    assert_eq!(list, "[7,3,[1,2,3,4,5,6,7]]");
}

#[tokio::test]
async fn too_many_pages_or_rows_fail_or_stop_as_the_flow_says() {
    let service = service().await;
    let admin = service.admin();
    let shop = shop().await;
    for (limit, number, rows, message) in [
        ("max_pages", 2, 6, "page 2: it is not the last"),
        ("max_rows", 4, 4, "page 2: there are more than the 4 rows"),
    ] {
        let flow = |on_max: &str| {
            json!({ "id": limit, "steps": [
                { "id": "orders", "http": {
                    "url": shop.url("/linked"),
                    "pages": { "link": "/next", limit: number, "on_max": on_max },
                    "extract": { "at": "/data", "to": "table" } } },
                { "id": "write", "write": { "path": "some.ndjson", "from": "orders" } },
            ] })
        };
        let told = fail(&service, &admin, flow("fail"), "http_pages").await;
        assert!(told.starts_with(message), "{told}");
        succeed(&service, &admin, flow("stop")).await;
        let written = fs::read_to_string(service.files().join("some.ndjson")).unwrap();
        assert_eq!(written.lines().count(), rows, "{limit}");
    }
}

#[tokio::test]
async fn a_next_page_elsewhere_gets_no_credentials_and_keeps_to_the_rules() {
    let service = service().await;
    let admin = service.admin();
    let other = HttpServer::start(|_| Reply::json(&json!([{ "id": 2 }]))).await;
    let elsewhere = other.url("/page");
    let home: std::sync::Arc<OnceLock<String>> = std::sync::Arc::default();
    let known = std::sync::Arc::clone(&home);
    let shop = HttpServer::start(move |asked| {
        let link = match asked.path() {
            "/away" => elsewhere.clone(),
            "/inward" => "http://169.254.169.254/latest/meta-data".to_owned(),
            "/again" => known.get().unwrap().clone(),
            _ => "file:///etc/passwd".to_owned(),
        };
        Reply::json(&json!([{ "id": 1 }])).with("link", &format!("<{link}>; rel=next"))
    })
    .await;
    home.set(shop.url("/again")).unwrap();
    let flow = |id: &str| {
        json!({ "id": id, "steps": [{ "id": "ask", "http": {
            "url": shop.url(&format!("/{id}")),
            "headers": { "X-Key": "hush-hush" },
            "auth": { "bearer": { "token": "hush-hush" } },
            "pages": { "link": "header" } } }] })
    };
    succeed(&service, &admin, flow("away")).await;
    let seen = other.seen();
    assert_eq!(seen.len(), 1);
    assert!(!format!("{seen:?}").contains("hush-hush"), "{seen:?}");
    assert_eq!(
        shop.seen()[0].header("authorization"),
        Some("Bearer hush-hush")
    );
    for (id, code, message) in [
        ("inward", "http_forbidden", "169.254.169.254"),
        (
            "again",
            "http_pages",
            "page 1: its next page is one that was read before",
        ),
        (
            "nowhere",
            "http_request",
            "the address of the next page must start with",
        ),
    ] {
        let told = fail(&service, &admin, flow(id), code).await;
        assert!(told.contains(message), "{told}");
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_are_named_by_page_and_place() {
    let service = service().await;
    let admin = service.admin();
    let shop = HttpServer::start(|asked| match (asked.path(), parameter(asked, "page")) {
        ("/odd", Some(2)) => Reply::json(&json!([{ "id": 3 }, { "id": "four" }])),
        ("/html", Some(2)) => Reply::new(200, "<html>"),
        ("/object", Some(2)) => Reply::json(&json!({ "error": "no" })),
        ("/gone", Some(2)) => Reply::new(404, "no further page"),
        _ => Reply::json(&json!([{ "id": 1 }])),
    })
    .await;
    let flow = |id: &str, accept: Value| {
        json!({ "id": id, "steps": [
            { "id": "rows", "http": {
                "url": shop.url(&format!("/{id}")), "accept": accept,
                "pages": { "number": { "query": "page" }, "max_pages": 3, "on_max": "stop" },
                "extract": { "to": "table", "columns": { "id": "integer" } } } },
            { "id": "write", "write": { "path": "rows.csv", "from": "rows" } },
        ] })
    };
    for (id, code, message) in [
        (
            "odd",
            "bad_row",
            "page 2, line 2: column id: `four` is not a whole number",
        ),
        ("html", "http_extract", "page 2: is not JSON"),
        ("object", "http_extract", "page 2: is no list"),
        ("gone", "http_status", "answered 404"),
    ] {
        let told = fail(&service, &admin, flow(id, json!([])), code).await;
        assert!(told.contains(message), "{told}");
    }
    // A service that has no page behind the last.
    succeed(&service, &admin, flow("gone", json!([404]))).await;
    let written = fs::read_to_string(service.files().join("rows.csv")).unwrap();
    assert_eq!(written, "id\n1\n");
}
