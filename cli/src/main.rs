//! The command `millstream`: everything on one machine, and what a person
//! types to publish, start and follow flows.

mod commands;
mod data_folder;
mod failure;
mod flow_files;
mod output;
mod redis_address;
mod redis_program;
mod redis_server;
mod secret_input;
mod service;
mod soak;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    commands::Command,
    failure::{Failure, Outcome},
};

/// Runs data flows on request: publishes, starts and follows them.
///
/// Exit status: 0 done, and the run succeeded where one was waited for; 1 the
/// run failed, or a flow is not valid; 2 wrong usage; 3 the service could not
/// be reached or refused; 4 the time to wait was over before the run was.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // The worker of `millstream up` starts commands through this program.
    millstream_worker::supervise_if_told().unwrap_or_else(obey)
}

#[tokio::main]
async fn obey() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => run(cli).await,
        Err(told) if failure::is_help(&told) => told.exit(),
        Err(wrong) => Err(Failure::from(&wrong)),
    };
    match ended {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<Outcome, Failure> {
    millstream_worker::use_ring();
    cli.command.run().await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
