//! The program `millstream-api`.

use std::process::ExitCode;

use millstream_api::Config;
use millstream_shared::process::{run_program, stop_signal};

#[tokio::main]
async fn main() -> ExitCode {
    run_program(
        |config: &Config| &config.log,
        async |config| millstream_api::serve(config, stop_signal()?).await,
    )
    .await
}
