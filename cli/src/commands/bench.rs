//! `millstream bench`: how long a start with a wait for the end takes, beside
//! a question to Redis on the same machine at the same time.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millstream_shared::{
    id::{FlowId, RunId},
    run::Status,
    store::Store,
};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Map, json};

use crate::{
    failure::{Failure, Outcome},
    output, redis_address,
    service::{Service, ServiceSettings, Start, Wait},
};

/// The flow that is started: one step that sets one value.
const FLOW: &str = "id: millstream-bench\nsteps:\n  - id: one\n    set: { value: 1 }\n";
/// Runs before the first that counts: connections are made, code is loaded.
const WARM_UP: u32 = 20;

/// Measure how long a start with await=true takes
///
/// Publishes the flow `millstream-bench`, which has one `set` step, and starts
/// it again and again, one after the other. Between two starts Redis is sent a
/// PING. Prints the medians and the 99th percentiles in milliseconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many starts
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,

    /// Address of the Redis of the service [default: that of the `millstream
    /// up` on the data folder]
    #[arg(long, env = "MILLSTREAM_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,

    #[command(flatten)]
    service: ServiceSettings,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let service = Service::new(&arguments.service)?;
    let store =
        redis_address::open(arguments.redis_url.as_deref(), &arguments.service.data_dir).await?;
    publish(&service).await?;
    let (mut starts, mut pings) = (Vec::new(), Vec::new());
    for turn in 0..WARM_UP + arguments.runs {
        let ping = timed_ping(&store).await?;
        let start = timed_start(&service).await?;
        if turn >= WARM_UP {
            pings.push(ping);
            starts.push(start);
        }
    }
    output::json_line(&json!({
        "runs": arguments.runs,
        "startAndAwaitMs": summary(starts),
        "redisPingMs": summary(pings),
    }))?;
    Ok(Outcome::Done)
}

async fn publish(service: &Service) -> Result<(), Failure> {
    let path = ["api", "admin", "v1", "dataflows", "millstream-bench"];
    let request = service
        .request(Method::PUT, &path)
        .header(CONTENT_TYPE, "application/yaml")
        .body(FLOW);
    service.send(request).await?;
    Ok(())
}

async fn timed_ping(store: &Store) -> Result<Duration, Failure> {
    let began = Instant::now();
    store.ping().await.context("cannot use Redis")?;
    Ok(began.elapsed())
}

async fn timed_start(service: &Service) -> Result<Duration, Failure> {
    let flow: FlowId = "millstream-bench".parse().map_err(anyhow::Error::new)?;
    let start = Start {
        flow,
        inputs: Map::new(),
        idempotency_key: RunId::new().to_string(),
    };
    let began = Instant::now();
    let answer = service.start(&start, Wait::Unbounded).await?;
    let took = began.elapsed();
    if answer.status != Status::Succeeded {
        return Err(anyhow!("run {} did not succeed", answer.run_id).into());
    }
    Ok(took)
}

fn summary(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort();
    let at = |share: f64| {
        let place = (times.len() as f64 * share).ceil() as usize;
        let time = times.get(place.saturating_sub(1)).copied();
        // Microseconds are as much as such a figure can mean.
        let micros = time.unwrap_or_default().as_micros();
        micros as f64 / 1000.0
    };
    json!({ "median": at(0.5), "p99": at(0.99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_times_that_were_measured() {
        let times = (1..=500).map(Duration::from_millis).collect();
        assert_eq!(summary(times), json!({"median": 250.0, "p99": 495.0}));
        let one = vec![Duration::from_micros(1234)];
        assert_eq!(summary(one), json!({"median": 1.234, "p99": 1.234}));
    }
}
