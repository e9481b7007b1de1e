//! Reading and writing objects as Google Cloud Storage has them.
//!
//! The server is not Google's: its interface with XML, by which objects are read
//! and written, is that of S3, which SeaweedFS speaks.

use harness::PrivateS3;
use serde_json::json;

use super::{Place, rows};

#[tokio::test]
async fn objects_of_google_are_read_and_written() {
    let (place, store) = tokio::join!(Place::with_workers(1), PrivateS3::start_open());
    let connection = |bucket: &str| json!({ "kind": "gcs", "bucket": bucket, "access": "public", "endpoint": store.endpoint() });
    place.connect("google", &connection("out")).await;
    let text = rows(150_000);
    place.put("rows.csv", &text);
    let steps = [
        "{ id: rows, read: { path: rows.csv } }",
        "{ id: csv, write: { path: 'gs://out/a b/rows.csv', from: rows } }",
        "{ id: spread, write: { path: 'by', connection: google, from: rows, format: parquet, partition_by: [country] } }",
        "{ id: back, needs: [spread, csv], read: { path: 'gs://out/by/*/*.parquet' } }",
        "{ id: sums, sql: 'select country, count(*) as n from back group by country order by country' }",
        "{ id: last, write: { path: sums.csv, from: sums } }",
    ];
    place.run("google", &steps).await.unwrap();
    assert!(store.bucket("out").text("a b/rows.csv").await == text);
    assert_eq!(
        place.written("sums.csv"),
        "country,n\nDK,50000\nNO,50000\nSE,50000\n"
    );
    let steps = [
        "{ id: rows, read: { path: 'gs://out/a b/*.csv', columns: { id: integer, country: string } } }",
        "{ id: norway, sql: \"select country, id from rows where country = 'NO'\" }",
        "{ id: last, write: { path: 'gs://out/by', from: norway, format: parquet, partition_by: [country] } }",
    ];
    place.run("again", &steps).await.unwrap();
    let names = store.bucket("out").names().await;
    assert_eq!(names, ["a b/rows.csv", "by/country=NO/part.parquet"]);
    assert_eq!(store.open_uploads("out").await, 0);

    place.connect("google", &connection("missing")).await;
    let read = "{ id: last, read: { path: 'gs://missing/*.csv' } }";
    let error = place.run("missing", &[read]).await.unwrap_err();
    assert_eq!(error["code"], "no_such_bucket", "{error}");
}
