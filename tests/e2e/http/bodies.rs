//! What steps send arrives whole and with its length, and what they receive
//! becomes a table or a file.

use std::fs;

use harness::{HttpServer, Reply};
use serde_json::{Value, json};

use super::{fail, service, service_with, succeed};
use crate::secrets::WITH_KEY;

#[tokio::test]
async fn files_tables_and_forms_with_files_arrive_as_they_are() {
    let service = service().await;
    let admin = service.admin();
    let files = service.files();
    fs::create_dir(files.join("in")).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(files.join("in/large.bin"), &large).unwrap();
    fs::write(files.join("in/rows.csv"), "id,name\n1,\"Bjørn\"\n2,\n").unwrap();
    let server = HttpServer::start(|_| Reply::new(204, "")).await;
    let send = |path: &str, member: &str, value: Value| {
        let mut http = json!({ "method": "POST", "url": server.url(path) });
        http[member] = value;
        json!({ "id": path.trim_start_matches('/'), "http": http })
    };
    let part = json!({ "day": { "value": "2026-11-24" }, "numbers": { "value": [1, 2] },
                       "report": { "file": "in/rows.csv", "filename": "a\"b.csv" } });
    let flow = json!({ "id": "send", "steps": [
        { "id": "rows", "read": { "path": "in/rows.csv" } },
        send("/file", "file", json!("in/{{ 'large' }}.bin")),
        send("/json", "table", json!({ "from": "rows" })),
        send("/lines", "table", json!({ "from": "rows", "format": "ndjson" })),
        send("/csv", "table", json!({ "from": "rows", "format": "csv" })),
        send("/parts", "multipart", part),
    ] });
    succeed(&service, &admin, flow).await;

    let seen = server.seen();
    let asked = |path: &str| seen.iter().find(|asked| asked.path() == path).unwrap();
    let kind = |path: &str| asked(path).header("content-type").unwrap();
    assert!(
        asked("/file").body == large,
        "the file arrived as another one"
    );
    assert_eq!(kind("/file"), "application/octet-stream");
    let rows = json!([{ "id": 1, "name": "Bjørn" }, { "id": 2, "name": null }]);
    let sent: Value = serde_json::from_str(asked("/json").text()).unwrap();
    assert_eq!((sent, kind("/json")), (rows, "application/json"));
    assert_eq!(asked("/lines").text().lines().count(), 2);
    assert_eq!(kind("/lines"), "application/x-ndjson");
    assert_eq!(asked("/csv").text(), "id,name\n1,Bjørn\n2,\n");
    let boundary = kind("/parts")
        .strip_prefix("multipart/form-data; boundary=")
        .unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"day\"\r\n\r\n2026-11-24\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"numbers\"\r\n\
         Content-Type: application/json\r\n\r\n[1,2]\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"report\"; \
         filename=\"a%22b.csv\"\r\nContent-Type: text/csv\r\n\r\nid,name\n1,\"Bjørn\"\n2,\n\r\n\
         --{boundary}--\r\n"
    );
    assert_eq!(asked("/parts").text(), expected);
}

#[tokio::test]
async fn what_cannot_be_sent_or_saved_fails_before_anything_is_asked() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|_| Reply::new(200, "")).await;
    for (member, value, code, message) in [
        ("file", json!("no.csv"), "file_not_found", "`no.csv`"),
        ("file", json!("../up.csv"), "file_refused", "`../up.csv`"),
        (
            "multipart",
            json!({ "f": { "file": "no.csv" } }),
            "file_not_found",
            "`no.csv`",
        ),
        ("save", json!("../up.csv"), "file_refused", "`../up.csv`"),
    ] {
        let mut http = json!({ "method": "POST", "url": server.url("/") });
        http[member] = value;
        let flow = json!({ "id": "refused", "steps": [{ "id": "a", "http": http }] });
        let told = fail(&service, &admin, flow, code).await;
        assert!(told.contains(message), "{told}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_answer_becomes_a_table_whatever_its_format() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|asked| match asked.path() {
        "/csv" => Reply::new(200, "id;name\n1;a\n2;b\n").with("content-type", "text/csv"),
        "/lines" => Reply::new(
            200,
            "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n",
        )
        .with("content-type", "application/x-ndjson"),
        "/plain" => Reply::new(200, "[{\"id\":1,\"name\":\"a\"},{\"id\":2,\"name\":\"b\"}]"),
        "/bad" => Reply::json(&json!([{ "id": 1 }, 7])),
        _ => Reply::json(&json!({ "d": [{ "id": 1, "name": "a" }, { "id": 2, "name": "b" }] })),
    })
    .await;
    let flow = |id: &str, extract: Value| {
        json!({ "id": id, "steps": [
            { "id": "rows", "http": { "url": server.url(&format!("/{id}")), "extract": extract } },
            { "id": "write", "write": { "path": "rows.csv", "from": "rows" } },
        ] })
    };
    for (id, extract) in [
        ("csv", json!({ "to": "table", "csv": { "delimiter": ";" } })),
        ("lines", json!({ "to": "table" })),
        (
            "plain",
            json!({ "to": "table", "columns": { "id": "integer", "name": "string" } }),
        ),
        ("nested", json!({ "to": "table", "at": "/d" })),
    ] {
        succeed(&service, &admin, flow(id, extract)).await;
        let written = fs::read_to_string(service.files().join("rows.csv")).unwrap();
        assert_eq!(written, "id,name\n1,a\n2,b\n", "{id}");
        fs::remove_file(service.files().join("rows.csv")).unwrap();
    }
    for (id, extract, code, message) in [
        (
            "bad",
            json!({ "to": "table" }),
            "bad_row",
            "the answer, line 1",
        ),
        (
            "nested",
            json!({ "to": "table", "at": "/e" }),
            "http_extract",
            "has nothing at `/e`",
        ),
        (
            "nested",
            json!({ "to": "table" }),
            "bad_row",
            "expected an array of objects",
        ),
    ] {
        let told = fail(&service, &admin, flow(id, extract), code).await;
        assert!(told.contains(message), "{told}");
    }
}

#[tokio::test]
async fn an_answer_is_saved_whole_or_not_at_all() {
    const WORKER: &[(&str, &str)] = &[WITH_KEY[0], ("MILLSTREAM_HTTP_ANSWER_SIZE", "4MiB")];
    let service = service_with(WORKER).await;
    let admin = service.admin();
    let server = HttpServer::start(|asked| match asked.path() {
        "/fine" => Reply::new(200, vec![b'x'; 3 << 20]),
        "/gone" => Reply::new(404, "gone"),
        _ => Reply::new(200, vec![b'x'; 5 << 20]),
    })
    .await;
    let flow = |path: &str| {
        json!({ "id": "save", "steps": [{ "id": "fetch", "http": {
            "url": server.url(path), "save": "in/data.bin" } }] })
    };
    let file = service.files().join("in/data.bin");
    succeed(&service, &admin, flow("/fine")).await;
    assert_eq!(fs::metadata(&file).unwrap().len(), 3 << 20);
    let told = fail(&service, &admin, flow("/large"), "http_too_large").await;
    assert!(
        told.contains("the 4 MiB that --http-answer-size allows"),
        "{told}"
    );
    fail(&service, &admin, flow("/gone"), "http_status").await;
    assert_eq!(fs::metadata(&file).unwrap().len(), 3 << 20);
    assert_eq!(fs::read_dir(service.files().join("in")).unwrap().count(), 1);
    // Nothing of it stays on the disk of the worker.
    let folders = fs::read_dir(service.work_folder()).unwrap();
    let inner = folders.filter_map(|folder| fs::read_dir(folder.unwrap().path()).ok());
    let names: Vec<_> = inner
        .flatten()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["spill"]);
}

#[tokio::test]
async fn a_status_that_is_accepted_is_an_answer() {
    let service = service().await;
    let admin = service.admin();
    let server = HttpServer::start(|_| Reply::new(404, "nobody here")).await;
    let http = json!({ "url": server.url("/"), "accept": [404],
                       "extract": { "at": "/data", "to": "table" } });
    let flow = json!({ "id": "missing", "steps": [
        { "id": "ask", "http": http },
        { "id": "rows", "when": "steps.ask.value.status == 200",
          "write": { "path": "rows.csv", "from": "ask" } },
        { "id": "say", "when": "steps.ask.value.body == 'nobody here'",
          "command": { "program": "touch", "args": [service.files().join("said").to_str().unwrap()] } },
    ] });
    succeed(&service, &admin, flow).await;
    assert!(service.files().join("said").exists());
}
