//! `check` steps: what they say of a table that breaks its rules.

use std::fs;

use harness::{Answer, Service, Setup};
use serde_json::{Value, json};

const SALES: &str = "day,country,amount\n2026-01-01,NO,10\n2026-01-02,NO,-5\n2026-01-02,,7.5\n";

async fn service() -> Service {
    let service = Service::start(Setup::default()).await;
    fs::write(service.files().join("sales.csv"), SALES).unwrap();
    service
}

/// Runs a flow that checks the sales by these rules, and returns its output, or
/// the error of its run.
async fn checked(service: &Service, rules: Value) -> Result<Value, Value> {
    let admin = service.admin();
    let mut check = rules;
    check["table"] = json!("sales");
    let flow = json!({
        "id": "checked",
        "steps": [
            { "id": "sales", "read": { "path": "sales.csv" } },
            { "id": "rules", "check": check },
        ],
        "output": { "told": "{{ steps.rules.value }}" },
    });
    admin.publish_json(&flow).await;
    let answer = Answer::of(admin.start_request("checked", "?await=true")).await;
    let run = answer.run_id();
    if answer.run_status() == "Succeeded" {
        Ok(service.run_output(&run).await["told"].clone())
    } else {
        Err(service.run_error(&run).await)
    }
}

#[tokio::test]
async fn a_table_that_keeps_its_rules_lets_the_run_go_on() {
    let service = service().await;
    let told = checked(
        &service,
        json!({
            "rows": { "min": 1, "max": 3 },
            "columns": {
                "day": { "not_null": true, "min": "2026-01-01", "max": "2026-12-31" },
                "country": { "pattern": "^[A-Z]{2}$", "in": ["NO", "SE"] },
                "amount": { "unique": true, "min": -5, "max": 10 },
            },
            "sql": "amount > -10 and day is not null",
        }),
    )
    .await;
    assert_eq!(told, Ok(json!({ "rows": 3, "violations": [] })));
}

#[tokio::test]
async fn every_rule_that_is_broken_is_told_with_how_many_rows_break_it() {
    let service = service().await;
    let rules = json!({
        "rows": { "min": 10 },
        "columns": {
            "day": { "unique": true, "min": "2026-01-02" },
            "country": { "not_null": true, "pattern": "^S", "in": ["SE"] },
            "amount": { "min": 0, "max": 9.5 },
        },
        "sql": "amount > 0",
    });
    let error = checked(&service, rules.clone()).await.unwrap_err();
    assert_eq!(
        (&error["code"], &error["step"]),
        (&json!("check_failed"), &json!("rules"))
    );
    let message = error["message"].as_str().unwrap();
    for told in [
        "it has 3 rows, and must have 10 at least",
        "column `day`: 1 of 3 rows repeat a value",
        "column `day`: 1 of 3 rows have less than \"2026-01-02\"",
        "column `country`: 1 of 3 rows have no value",
        "column `country`: 2 of 3 rows do not match `^S`",
        "column `country`: 2 of 3 rows have another value than those allowed",
        "column `amount`: 1 of 3 rows have less than 0",
        "column `amount`: 1 of 3 rows have more than 9.5",
        "1 of 3 rows do not fulfil `amount > 0`",
    ] {
        assert!(message.contains(told), "{told} is not in {message}");
    }

    let mut warned = rules;
    warned["on_violation"] = json!("warn");
    let told = checked(&service, warned).await.unwrap();
    let violations = told["violations"].as_array().unwrap();
    assert_eq!(violations.len(), 9);
    assert_eq!(
        violations[0],
        json!({ "column": null, "rule": "rows", "rows": 3,
                "message": "it has 3 rows, and must have 10 at least" })
    );
}

#[tokio::test]
async fn rules_that_do_not_fit_the_table_are_named() {
    let service = service().await;
    for (rules, told) in [
        (
            json!({ "columns": { "price": { "min": 0 } } }),
            "no column `price`; there are day, country, amount",
        ),
        (
            json!({ "columns": { "country": { "min": 0 } } }),
            "column `country` holds texts, and `min` is 0",
        ),
        (
            json!({ "columns": { "amount": { "in": ["x"] } } }),
            "column `amount` holds numbers, and `in` is \"x\"",
        ),
    ] {
        let error = checked(&service, rules).await.unwrap_err();
        assert_eq!(error["code"], "bad_check");
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
    }
    let error = checked(&service, json!({ "sql": "price > 0" }))
        .await
        .unwrap_err();
    assert_eq!(error["code"], "bad_sql", "{error}");
}
