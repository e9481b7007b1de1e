//! Reading and writing objects of Azure Blob Storage.

use harness::PrivateAzure;

use super::{Place, rows};

#[tokio::test]
async fn objects_of_azure_are_read_and_written() {
    let (place, azure) = tokio::join!(Place::with_workers(1), PrivateAzure::start());
    place.connect("blobs", &azure.connection()).await;
    let text = rows(150_000);
    place.put("rows.csv", &text);
    let steps = [
        "{ id: rows, read: { path: rows.csv } }",
        "{ id: csv, write: { path: 'az://out/a b/rows.csv', from: rows } }",
        "{ id: spread, write: { path: 'by', connection: blobs, from: rows, format: parquet, partition_by: [country] } }",
        "{ id: back, needs: [spread, csv], read: { path: 'az://out/by/*/*.parquet' } }",
        "{ id: sums, sql: 'select country, count(*) as n, sum(id) as s from back group by country order by country' }",
        "{ id: last, write: { path: sums.csv, from: sums } }",
    ];
    place.run("blobs", &steps).await.unwrap();
    assert!(azure.bucket().text("a b/rows.csv").await == text);
    let names = azure.bucket().names().await;
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(
        place.written("sums.csv"),
        "country,n,s\nDK,50000,3750025000\nNO,50000,3749925000\nSE,50000,3749975000\n"
    );

    let steps = [
        "{ id: rows, read: { path: 'az://out/a b/*.csv', columns: { id: integer, country: string } } }",
        "{ id: norway, sql: \"select country, id from rows where country = 'NO'\" }",
        "{ id: last, write: { path: 'az://out/by', from: norway, format: parquet, partition_by: [country] } }",
    ];
    place.run("again", &steps).await.unwrap();
    let names = azure.bucket().names().await;
    assert_eq!(names, ["a b/rows.csv", "by/country=NO/part.parquet"]);

    place.connect("blobs", &azure.signed_connection()).await;
    let steps = [
        "{ id: rows, read: { path: 'az://out/by/**/*.parquet' } }",
        "{ id: last, write: { path: 'az://out/norway.arrow', from: rows } }",
    ];
    let output = place.run("signed", &steps).await.unwrap();
    assert_eq!(output["rows"], 50_000);
    let arrow = azure.bucket().bytes("norway.arrow").await.unwrap();
    assert_eq!(output["bytes"], arrow.len());

    let mut wrong = azure.connection();
    wrong["account_key"] = "Y2FuYXJ5LW9mLW5vYm9keQ==".into();
    place.connect("blobs", &wrong).await;
    let read = "{ id: last, read: { path: 'az://out/a b/rows.csv' } }";
    let error = place.run("denied", &[read]).await.unwrap_err();
    assert_eq!(error["code"], "access_denied", "{error}");
    wrong = azure.connection();
    wrong["container"] = "missing".into();
    place.connect("blobs", &wrong).await;
    let read = "{ id: last, read: { path: 'az://missing/*.csv' } }";
    let error = place.run("missing", &[read]).await.unwrap_err();
    assert_eq!(error["code"], "no_such_bucket", "{error}");
}
