//! The callers of a soak: they start runs at any API process, wait for the end
//! of most, and come back with the same key when they are cut off.

use std::{sync::Arc, time::Duration};

use millstream_shared::id::FlowId;
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Map;
use tokio::time::{Instant, Interval, sleep, timeout};

use super::{history::History, random::Random};
use crate::{
    failure::Failure,
    service::{Answer, Service, Start, Wait},
};

/// The pause before a start that was not accepted is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one start is tried for. By then all that was killed is there again.
const TRIED_MAX: Duration = Duration::from_secs(60);

/// The flow whose steps tell if two attempts of one of them counted.
pub(super) const TELLING: &str = "millstream-soak-long";

/// The flows, their ids, and how many of a hundred starts are of each.
pub(super) const FLOWS: &[(&str, &str, usize)] = &[
    (
        "millstream-soak-quick",
        "steps:
  - id: one
    set: { n: 1 }
  - id: two
    set: { n: '{{ steps.one.value.n + 1 }}' }
  - id: three
    set: { n: '{{ steps.two.value.n + 1 }}' }
",
        90,
    ),
    (
        "millstream-soak-limited",
        "concurrency: { limit: 3 }
steps:
  - id: one
    set: { n: 1 }
  - id: two
    set: { n: '{{ steps.one.value.n + 1 }}' }
",
        7,
    ),
    // What the first step hands on is another text at each attempt. If two
    // attempts of it could count, the second step would tell.
    (
        TELLING,
        "steps:
  - id: token
    command: { program: sh, args: [-c, 'cat /proc/sys/kernel/random/uuid; sleep 0.5'] }
  - id: copy
    set: { token: '{{ steps.token.value.stdout }}' }
  - id: wait
    command: { program: sleep, args: ['1'] }
    needs: [copy]
  - id: again
    set: { token: '{{ steps.token.value.stdout }}', copy: '{{ steps.copy.value.token }}' }
    needs: [wait]
",
        3,
    ),
];

/// What all callers share.
pub(super) struct Load {
    pub(super) services: Vec<Service>,
    pub(super) history: Arc<History>,
    pub(super) seed: u64,
    pub(super) end: Instant,
    /// Gives the time for each start.
    pub(super) pace: tokio::sync::Mutex<Interval>,
}

/// Publishes the flows.
///
/// # Errors
/// Fails where the service does.
pub(super) async fn publish(service: &Service) -> Result<(), Failure> {
    for (id, text, _) in FLOWS {
        let path = ["api", "admin", "v1", "dataflows", id];
        let request = service
            .request(Method::PUT, &path)
            .header(CONTENT_TYPE, "application/yaml")
            .body(format!("id: {id}\n{text}"));
        service.send(request).await?;
    }
    Ok(())
}

/// Starts one run after the other until the end.
///
/// # Errors
/// Fails where the service answers something that is no passing failure.
pub(super) async fn call(load: Arc<Load>, caller: u64, mut random: Random) -> Result<(), Failure> {
    for number in 0_u64.. {
        load.pace.lock().await.tick().await;
        if Instant::now() >= load.end {
            return Ok(());
        }
        let start = Start {
            flow: some_flow(&mut random)?,
            inputs: Map::new(),
            idempotency_key: format!("soak-{}-{caller}-{number}", load.seed),
        };
        let wait = if random.below(10) < 7 {
            Wait::Unbounded
        } else {
            Wait::No
        };
        let tried = timeout(TRIED_MAX, until_accepted(&load, &start, wait, &mut random));
        match tried.await {
            Ok(answer) => {
                let answer = answer?;
                load.history.accepted(answer.run_id, &start.flow);
                if answer.is_final() {
                    load.history.ended(answer.run_id, answer.status);
                } else if wait.is_asked() {
                    let problem = format!("a wait for run {} ended before it", answer.run_id);
                    load.history.problem(problem);
                }
            }
            Err(_) => {
                let seconds = TRIED_MAX.as_secs();
                let key = &start.idempotency_key;
                let problem = format!("start {key} got no answer within {seconds} s");
                load.history.problem(problem);
            }
        }
    }
    Ok(())
}

async fn until_accepted(
    load: &Load,
    start: &Start,
    wait: Wait,
    random: &mut Random,
) -> Result<Answer, Failure> {
    loop {
        let service = &load.services[random.below(load.services.len())];
        match service.start(start, wait).await {
            Ok(answer) => return Ok(answer),
            Err(failure) if is_passing(&failure) => sleep(AGAIN).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether a failure is one of those that faults bring about.
fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => refusal.status == 429 || refusal.status >= 500,
        Failure::Unreachable { .. } | Failure::Lost { .. } | Failure::Strange { .. } => true,
        Failure::Usage(_) | Failure::Unreadable { .. } | Failure::Local(_) => false,
    }
}

fn some_flow(random: &mut Random) -> Result<FlowId, Failure> {
    let mut drawn = random.below(100);
    for (id, _, share) in FLOWS {
        if drawn < *share {
            return Ok(id.parse().map_err(anyhow::Error::new)?);
        }
        drawn -= share;
    }
    Err(anyhow::anyhow!("the shares of the flows do not add up to 100").into())
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::Flow;

    use super::*;

    #[test]
    fn the_flows_are_valid_and_their_shares_add_up() {
        for (id, text, _) in FLOWS {
            if let Err(invalid) = Flow::parse(&format!("id: {id}\n{text}")) {
                panic!("{id}: {:#?}", invalid.problems);
            }
        }
        let shares: usize = FLOWS.iter().map(|(_, _, share)| share).sum();
        assert_eq!(shares, 100);
    }
}
