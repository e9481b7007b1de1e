//! Starts that are due later.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use harness::{Answer, Service, Setup};

use crate::flows::quick;

#[tokio::test]
async fn a_delayed_run_is_pending_until_it_is_due() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    let at = Utc::now() + TimeDelta::seconds(2);
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    for query in ["?delay=1.5".to_owned(), format!("?at={at}")] {
        let began = Instant::now();
        let answer = Answer::of(admin.start_request("sales", &query)).await;
        assert_eq!(answer.run_status(), "Pending", "{query}");
        let run = answer.run_id();
        assert_eq!(admin.status("sales", &run).await, "Pending");
        assert_eq!(admin.end("sales", &run).await, "Succeeded");
        let took = began.elapsed();
        if query.starts_with("?delay") {
            assert!(took >= Duration::from_millis(1500), "{took:?}");
        }
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test]
async fn a_caller_can_wait_for_a_run_that_is_not_due() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    let began = Instant::now();
    let answer = Answer::of(admin.start_request("sales", "?delay=1&await=true")).await;
    assert_eq!(answer.run_status(), "Succeeded");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_time_that_has_passed_is_now() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    admin.publish(&quick("sales")).await;
    let query = "?at=2001-01-01T00:00:00Z&await=true";
    let answer = Answer::of(admin.start_request("sales", query)).await;
    assert_eq!(answer.run_status(), "Succeeded");
}
