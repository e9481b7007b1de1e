//! What goes wrong with stores, and what is said of it.

use serde_json::json;

use super::Place;

/// Steps that cannot be done, with the code and the start of what is said.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "read: { path: a.csv, connection: wrong-key }",
        "access_denied",
        "reading `s3://raw/a.csv` failed: the store does not let the connection `wrong-key` do that (SignatureDoesNotMatch: ",
    ),
    (
        "read: { path: '*.csv', connection: public }",
        "access_denied",
        "listing `s3://raw/` failed: the store does not let the connection `public` do that (AccessDenied: ",
    ),
    (
        "read: { path: a.csv, connection: missing }",
        "no_such_bucket",
        "reading `s3://missing/a.csv` failed: there is no such bucket where the connection `missing` leads",
    ),
    (
        "read: { path: b.csv, connection: raw }",
        "file_not_found",
        "reading `s3://raw/b.csv` failed: there is no such object",
    ),
    (
        "read: { path: 's3://raw/b*.csv', connection: raw }",
        "file_not_found",
        "no object matches `s3://raw/b*.csv`",
    ),
    (
        "read: { path: 's3://raw/a.csv' }",
        "ambiguous_connection",
        "several connections lead to `s3://raw`: `connection` must say which of `public`, `raw`, `reader`, `wrong-key` is meant",
    ),
    (
        "read: { path: 'az://raw/a.csv' }",
        "unknown_connection",
        "no connection of the kind `azure` leads to `az://raw`",
    ),
    (
        "read: { path: 's3://out/a.csv', connection: raw }",
        "wrong_connection",
        "the connection `raw` does not lead to `s3://out/a.csv`",
    ),
    (
        "read: { path: a.csv, connection: database }",
        "wrong_connection",
        "the connection is of the kind `sqlite`, where no files lie",
    ),
    (
        "read: { path: a.csv, connection: nobody }",
        "unknown_connection",
        "there is no connection `nobody`",
    ),
    (
        "read: { path: '../a.csv', connection: raw }",
        "file_refused",
        "`s3://raw/../a.csv` cannot be used: the parts between slashes",
    ),
    (
        "write: { path: c.csv, from: rows, connection: reader }",
        "access_denied",
        "writing `s3://raw/c.csv` failed: the store does not let the connection `reader` do that",
    ),
];

#[tokio::test]
async fn what_is_wrong_is_said_in_one_sentence() {
    let (place, s3) = Place::with_s3(1).await;
    s3.bucket("raw").put("a.csv", "a\n1\n").await;
    let wrong_key = s3.connection_as("raw", "flows", "canary-of-nobody");
    place.connect("wrong-key", &wrong_key).await;
    place.connect("missing", &s3.connection("missing")).await;
    place.connect("reader", &s3.reader_connection("raw")).await;
    let nobody = json!({ "kind": "s3", "bucket": "raw", "access": "public",
                         "endpoint": s3.endpoint() });
    place.connect("public", &nobody).await;
    let database = json!({ "kind": "sqlite", "path": "x.db" });
    place.connect("database", &database).await;
    for (step, code, message) in WRONG {
        place.put("rows.csv", "a\n1\n");
        let rows = "{ id: rows, read: { path: rows.csv } }";
        let last = format!("{{ id: last, {step} }}");
        let error = place.run("wrong", &[rows, &last]).await.unwrap_err();
        assert_eq!(error["code"], *code, "{step}: {error}");
        let told = error["message"].as_str().unwrap();
        assert!(told.starts_with(message), "{step}: {told}");
    }
    let read = "{ id: last, read: { path: a.csv, connection: reader } }";
    assert_eq!(place.run("reads", &[read]).await.unwrap()["rows"], 1);
}

#[tokio::test]
async fn a_damaged_object_is_told_from_a_store_that_is_gone() {
    let (place, mut s3) = Place::with_s3(1).await;
    let bucket = s3.bucket("raw");
    bucket.put("a.parquet", "PAR1 and so on PAR1").await;
    bucket.put("a.csv.gz", "a\n1\n2\nthis is no gzip\n").await;
    bucket.put("bad.csv", "a\n1\nx\n").await;
    let run = async |step: &str| place.run("damaged", &[step]).await;
    for (file, message) in [
        (
            "a.parquet",
            "s3://raw/a.parquet is not a readable Parquet file: ",
        ),
        (
            "a.csv.gz",
            "s3://raw/a.csv.gz: is not a readable gzip file: ",
        ),
    ] {
        let read = format!("{{ id: last, read: {{ path: 's3://raw/{file}' }} }}");
        let error = run(&read).await.unwrap_err();
        assert_eq!(error["code"], "bad_file", "{error}");
        assert!(
            error["message"].as_str().unwrap().starts_with(message),
            "{error}"
        );
    }
    let read = "{ id: last, read: { path: 's3://raw/bad.csv', columns: { a: integer }, on_bad_row: reject, rejects: { path: bad.ndjson, connection: out } } }";
    assert_eq!(run(read).await.unwrap()["value"]["rejected"]["count"], 1);
    assert_eq!(
        s3.bucket("out").text("bad.ndjson").await,
        "{\"file\":\"s3://raw/bad.csv\",\"line\":3,\"reason\":\"column a: `x` is not a whole number\",\"row\":\"x\"}\n"
    );

    s3.kill();
    let error = run("{ id: last, read: { path: 's3://raw/a.parquet' } }").await;
    let error = error.unwrap_err();
    assert_eq!(error["code"], "store_unreachable", "{error}");
    let told = error["message"].as_str().unwrap();
    let start = "reading `s3://raw/a.parquet` failed: the store cannot be reached: ";
    assert!(told.starts_with(start), "{told}");
}
