//! The program `millstream-worker`.

use std::process::ExitCode;

use millstream_shared::process::{run_program, stop_signal};
use millstream_worker::{Config, Worker};

#[tokio::main]
async fn main() -> ExitCode {
    run_program(
        |config: &Config| &config.log,
        async |config| {
            millstream_worker::use_ring();
            let stopping = stop_signal()?;
            let starting = Worker::start(config, stopping.clone());
            match stopping.run_until_cancelled(starting).await {
                Some(worker) => worker?.ended().await,
                None => Ok(()),
            }
        },
    )
    .await
}
