//! The metrics of the API: their names in one place.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const REQUESTS: &str = "millstream_api_requests_total";
const STARTS: &str = "millstream_api_starts_total";
const WAITS: &str = "millstream_api_waits_open";
const WAIT_SECONDS: &str = "millstream_api_wait_seconds";
const SUBSCRIBED: &str = "millstream_api_subscribed";

/// Says what each metric means. It needs the recorder to be there.
pub(crate) fn describe() {
    describe_counter!(
        REQUESTS,
        "Requests answered, by route, method and status; in legacy mode by the status before it became 500"
    );
    describe_counter!(STARTS, "Starts asked for, by outcome");
    describe_gauge!(WAITS, "Callers that wait for a run at the moment");
    describe_histogram!(WAIT_SECONDS, Unit::Seconds, "How long callers waited");
    describe_gauge!(SUBSCRIBED, "1 while news of ended runs come in, else 0");
}

/// Counts an answered request. `route` is the template, never the address.
pub(crate) fn request(route: &str, method: &'static str, status: u16) {
    let route = route.to_owned();
    let labels = [
        ("route", route),
        ("method", method.to_owned()),
        ("status", status.to_string()),
    ];
    counter!(REQUESTS, &labels).increment(1);
}

/// Counts a start: `accepted`, `replayed`, `refused` or `failed`.
pub(crate) fn start(outcome: &'static str) {
    counter!(STARTS, "outcome" => outcome).increment(1);
}

pub(crate) fn wait_begun() {
    gauge!(WAITS).increment(1);
}

pub(crate) fn wait_ended(lasted: Duration) {
    gauge!(WAITS).decrement(1);
    histogram!(WAIT_SECONDS).record(lasted.as_secs_f64());
}

pub(crate) fn subscribed(alive: bool) {
    gauge!(SUBSCRIBED).set(if alive { 1.0 } else { 0.0 });
}
