//! Waiting for what can be observed, never for time to pass.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Long enough for anything that is not meant to take time, on a slow machine
/// under load.
pub const SOON: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` again and again until it has an answer.
///
/// # Panics
/// Panics where it has none `within` that time; `what` then says what was
/// waited for.
pub async fn eventually<T, F>(within: Duration, what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {within:?} in vain for: {what}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}
