//! The program `millstream-worker`.

use std::process::ExitCode;

use millstream_shared::process::{run_program, stop_signal};
use millstream_worker::{Config, Worker, supervise_if_told};

fn main() -> ExitCode {
    supervise_if_told().unwrap_or_else(work)
}

#[tokio::main]
async fn work() -> ExitCode {
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
