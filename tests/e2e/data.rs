//! Rows through the built programs: read, join, aggregate, write.

use std::fs;

use harness::{Service, Setup};

const FLOW: &str = include_str!("../fixtures/flows/sales-by-country.yaml");
const BACK: &str = include_str!("../fixtures/flows/parquet-to-csv.yaml");

/// A service whose folder of files holds the data of the fixtures.
async fn service() -> Service {
    let service = Service::start(Setup::default()).await;
    for (name, text) in [
        ("orders.csv", include_str!("../fixtures/data/orders.csv")),
        (
            "customers.ndjson",
            include_str!("../fixtures/data/customers.ndjson"),
        ),
    ] {
        fs::write(service.files().join(name), text).unwrap();
    }
    for flow in [FLOW, BACK] {
        service.admin().publish(flow).await;
    }
    service
}

async fn run(service: &Service, flow: &str) -> String {
    service.admin().run(flow).await
}

#[tokio::test]
async fn two_files_are_joined_aggregated_and_written_as_csv_and_parquet() {
    let service = service().await;
    assert_eq!(run(&service, "sales-by-country").await, "Succeeded");
    let expected = "country,orders,amount\nDK,1,80.0\nNO,3,61.25\nSE,1,7.0\n";
    let csv = fs::read_to_string(service.files().join("out/by-country.csv")).unwrap();
    assert_eq!(csv, expected);

    let parquet = fs::read(service.files().join("out/by-country.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert_eq!(run(&service, "parquet-to-csv").await, "Succeeded");
    let back = fs::read_to_string(service.files().join("out/back.csv")).unwrap();
    assert_eq!(back, expected);
}

#[tokio::test]
async fn a_file_appears_whole_or_not_at_all() {
    let service = service().await;
    let admin = service.admin();
    assert_eq!(run(&service, "sales-by-country").await, "Succeeded");
    let csv = service.files().join("out/by-country.csv");
    let before = fs::read_to_string(&csv).unwrap();

    // A row in the middle that does not fit: what was written stays.
    fs::write(
        service.files().join("orders.csv"),
        "id,customer,amount\n1,1,much\n",
    )
    .unwrap();
    assert_eq!(run(&service, "sales-by-country").await, "Failed");
    assert_eq!(fs::read_to_string(&csv).unwrap(), before);
    let mut names: Vec<_> = fs::read_dir(service.files().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["by-country.csv", "by-country.parquet"]);

    admin
        .publish("id: outside\nsteps:\n  - id: up\n    read: { path: ../outside.csv }\n")
        .await;
    fs::write(service.folder().join("outside.csv"), "a\n1\n").unwrap();
    assert_eq!(run(&service, "outside").await, "Failed");
}
