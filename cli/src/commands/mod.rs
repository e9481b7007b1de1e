//! What a person can type, one file a command.

mod apply;
mod bench;
mod connections;
mod fsck;
mod keys;
mod output;
mod schema;
mod secrets;
mod start;
mod status;
mod validate;

pub(crate) use apply::publish;

use crate::{
    failure::{Failure, Outcome},
    soak, up,
};

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Up(Box<up::Settings>),
    Apply(apply::Arguments),
    Validate(validate::Arguments),
    Start(start::Arguments),
    Status(status::Arguments),
    Output(output::Arguments),
    #[command(subcommand)]
    Keys(keys::Command),
    #[command(subcommand)]
    Connections(connections::Command),
    #[command(subcommand)]
    Secrets(secrets::Command),
    Schema(schema::Arguments),
    Bench(bench::Arguments),
    Fsck(fsck::Arguments),
    Soak(Box<soak::Arguments>),
}

impl Command {
    /// Does what was asked.
    pub(crate) async fn run(self) -> Result<Outcome, Failure> {
        match self {
            Self::Up(settings) => up::run(*settings).await,
            Self::Apply(arguments) => apply::run(arguments).await,
            Self::Validate(arguments) => validate::run(&arguments),
            Self::Start(arguments) => start::run(arguments).await,
            Self::Status(arguments) => status::run(arguments).await,
            Self::Output(arguments) => output::run(arguments).await,
            Self::Keys(command) => keys::run(command).await,
            Self::Connections(command) => connections::run(command).await,
            Self::Secrets(command) => secrets::run(command).await,
            Self::Schema(arguments) => schema::run(arguments),
            Self::Bench(arguments) => bench::run(arguments).await,
            Self::Fsck(arguments) => fsck::run(arguments).await,
            Self::Soak(arguments) => soak::run(*arguments).await,
        }
    }
}
