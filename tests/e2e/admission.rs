//! How much the service takes on, what it says beyond that, and in which order
//! it works.

use harness::{Answer, Client, SOON, Service, Setup, eventually};

use crate::flows::{gated, quick};

async fn start(caller: &Client, flow: &str, query: &str) -> Answer {
    Answer::of(caller.start_request(flow, query)).await
}

fn retry_after(answer: &Answer) -> u64 {
    assert_eq!((answer.status, &*answer.code()), (429, "queue_full"));
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn a_full_service_says_when_there_is_room_by_how_fast_runs_end() {
    let mut service = Service::start(Setup {
        workers: 0,
        api: &[("MILLSTREAM_QUEUE_LIMIT", "20")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    for _ in 0..20 {
        assert_eq!(start(&admin, "hello", "").await.status, 200);
    }
    let refused = start(&admin, "hello", "").await;
    assert_eq!(retry_after(&refused), 60, "nothing has ended");
    service.add_worker().await;
    service.open_runs(0).await;
    service.workers[0].kill();
    for _ in 0..20 {
        assert_eq!(start(&admin, "hello", "").await.status, 200);
    }
    // Twenty ended within the last half minute: room for one is near.
    let refused = start(&admin, "hello", "").await;
    assert!(retry_after(&refused) <= 2, "{refused:?}");
}

#[tokio::test]
async fn a_flow_takes_no_more_runs_than_its_author_wants() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    let limited = quick("limited").replace("steps:", "queue_limit: 2\nsteps:");
    admin.publish(&limited).await;
    admin.publish(&quick("hello")).await;
    for _ in 0..2 {
        assert_eq!(start(&admin, "limited", "").await.status, 200);
    }
    retry_after(&start(&admin, "limited", "").await);
    assert_eq!(start(&admin, "hello", "").await.status, 200);
}

#[tokio::test]
async fn waits_beyond_the_limit_of_a_key_are_refused() {
    let service = Service::start(Setup {
        workers: 0,
        api: &[("MILLSTREAM_KEY_WAITS_LIMIT", "3")],
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&quick("hello")).await;
    let run = admin.start("hello").await;
    let wait = |query| Answer::of(admin.status_request("hello", &run, query));
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(wait("?await=true"))).collect();
    eventually(SOON, "three callers to wait", || async {
        let metrics = service.apis[0].metrics().await;
        metrics
            .contains("millstream_api_waits_open 3\n")
            .then_some(())
    })
    .await;
    let refused = wait("?await=true").await;
    assert_eq!((refused.status, &*refused.code()), (429, "too_many_waits"));
    assert_eq!(wait("").await.status, 200);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_run_without_room_is_skipped_or_fails_where_its_flow_says_so() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    for (policy, code) in [("skip", "skipped"), ("fail", "no_room")] {
        let gate = service.gate(policy);
        let concurrency = format!("concurrency: {{ limit: 1, when_full: {policy} }}\nsteps:");
        let flow = gated(policy, &gate).replace("steps:", &concurrency);
        admin.publish(&flow).await;
        let first = admin.start(policy).await;
        gate.reached_by(1).await;
        let second = start(&admin, policy, "?await=true").await;
        assert_eq!((second.status, &*second.run_status()), (200, "Failed"));
        assert_eq!(service.run_error(&second.run_id()).await["code"], code);
        let later = start(&admin, policy, "?await=true&delay=0.2").await;
        assert_eq!(later.run_status(), "Failed");
        assert_eq!(service.run_error(&later.run_id()).await["code"], code);
        gate.open();
        assert_eq!(admin.end(policy, &first).await, "Succeeded");
        assert_eq!(admin.run(policy).await, "Succeeded");
    }
}

#[tokio::test]
async fn a_lower_limit_counts_as_soon_as_runs_end() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let (many, few) = (service.gate("many"), service.gate("few"));
    let limited = |gate, limit| {
        let concurrency = format!("\nconcurrency: {{ limit: {limit} }}\n");
        gated("slow", gate).replacen('\n', &concurrency, 1)
    };
    admin.publish(&limited(&many, 3)).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(admin.start("slow").await);
    }
    many.reached_by(3).await;
    admin.publish(&limited(&few, 1)).await;
    for _ in 0..3 {
        runs.push(admin.start("slow").await);
    }
    eventually(SOON, "the others to be parked", || async {
        let parked: u64 = service
            .redis
            .command(&["ZCARD", "ms:{0}:parked:slow"])
            .await;
        (parked == 3).then_some(())
    })
    .await;
    many.open();
    few.reached_by(1).await;
    let places: u64 = service.redis.command(&["SCARD", "ms:{0}:group:slow"]).await;
    assert_eq!(places, 1);
    few.open();
    for run in runs {
        assert_eq!(admin.end("slow", &run).await, "Succeeded");
    }
}
