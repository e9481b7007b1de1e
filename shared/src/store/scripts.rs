//! The Lua scripts: each is one atomic change of state.

use std::{sync::LazyLock, time::Duration};

use redis::{RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::time::sleep;

use super::{link::is_elsewhere, partition::Partition};

/// How often a partition is followed to another server for one call, and the
/// pause before that: it takes a moment until all servers know who has it.
const FOLLOWED_MAX: u32 = 5;
const FOLLOWED_PAUSE: Duration = Duration::from_millis(50);

/// A script and the name by which the server knows it.
pub(super) struct Script {
    text: String,
    hash: String,
}

/// A script with what all scripts share in front of it.
fn script(body: &str) -> Script {
    let text = format!("{}\n{body}", include_str!("scripts/common.lua"));
    let hash = redis::Script::new(&text).get_hash().to_owned();
    Script { text, hash }
}

/// Every script of the store.
pub(super) struct Scripts {
    pub(super) begin: Script,
    pub(super) beat: Script,
    pub(super) cancel: Script,
    pub(super) checkpoint: Script,
    pub(super) claim: Script,
    pub(super) enqueue: Script,
    pub(super) finish: Script,
    pub(super) forget: Script,
    pub(super) heal: Script,
    pub(super) hand_back: Script,
    pub(super) promote: Script,
    pub(super) publish: Script,
    pub(super) reap: Script,
    pub(super) requeue: Script,
    pub(super) reseal: Script,
    pub(super) watch: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    begin: script(include_str!("scripts/begin.lua")),
    beat: script(include_str!("scripts/beat.lua")),
    cancel: script(include_str!("scripts/cancel.lua")),
    checkpoint: script(include_str!("scripts/checkpoint.lua")),
    claim: script(include_str!("scripts/claim.lua")),
    enqueue: script(include_str!("scripts/enqueue.lua")),
    finish: script(include_str!("scripts/finish.lua")),
    forget: script(include_str!("scripts/forget.lua")),
    heal: script(include_str!("scripts/heal.lua")),
    hand_back: script(include_str!("scripts/hand_back.lua")),
    promote: script(include_str!("scripts/promote.lua")),
    publish: script(include_str!("scripts/publish.lua")),
    reap: script(include_str!("scripts/reap.lua")),
    requeue: script(include_str!("scripts/requeue.lua")),
    reseal: script(include_str!("scripts/reseal.lua")),
    watch: script(include_str!("scripts/watch.lua")),
});

impl Scripts {
    fn all(&self) -> [&Script; 16] {
        [
            &self.begin,
            &self.beat,
            &self.cancel,
            &self.checkpoint,
            &self.claim,
            &self.enqueue,
            &self.finish,
            &self.forget,
            &self.heal,
            &self.hand_back,
            &self.promote,
            &self.publish,
            &self.reap,
            &self.requeue,
            &self.reseal,
            &self.watch,
        ]
    }

    /// Gives every script to the server, which forgets them when it restarts.
    pub(super) async fn load(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for script in self.all() {
            pipeline
                .cmd("SCRIPT")
                .arg("LOAD")
                .arg(&script.text)
                .ignore();
        }
        pipeline.exec_async(connection).await
    }
}

/// One call of a script on a partition: its keys, and its arguments behind
/// those that every script has.
pub(super) struct Call<'p> {
    script: &'static Script,
    partition: &'p Partition,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl<'p> Call<'p> {
    pub(super) fn new(script: &'static Script, partition: &'p Partition) -> Self {
        Self {
            script,
            partition,
            keys: Vec::new(),
            arguments: vec![partition.prefix().into(), partition.publish().into()],
        }
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn argument(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.argument(number.to_string())
    }

    fn command(&self) -> redis::Cmd {
        self.with_script("EVALSHA", &self.script.hash)
    }

    /// The command for a server that has forgotten the script. It may forget
    /// everything again at any time, so the text comes along.
    fn command_with_text(&self) -> redis::Cmd {
        self.with_script("EVAL", &self.script.text)
    }

    fn with_script(&self, word: &str, script: &str) -> redis::Cmd {
        let mut command = redis::cmd(word);
        command.arg(script).arg(self.keys.len());
        command.arg(&self.keys).arg(&self.arguments);
        command
    }

    /// Runs the script. Where another server has the partition by now, nothing
    /// was executed, and that one is asked.
    pub(super) async fn invoke(&self) -> Result<Value, RedisError> {
        let mut tries = 1;
        loop {
            match self.invoke_once().await {
                Err(error) if is_elsewhere(&error) && tries < FOLLOWED_MAX => {
                    tries += 1;
                    sleep(FOLLOWED_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn invoke_once(&self) -> Result<Value, RedisError> {
        let link = self.partition.link();
        let mut connection = link.connection().await?;
        link.observe(self.invoke_on(&mut connection).await)
    }

    /// Runs the script on a connection. Where the server has forgotten it, it
    /// is sent along: NOSCRIPT comes before anything is executed.
    pub(super) async fn invoke_on(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Value, RedisError> {
        match self.command().query_async(connection).await {
            Err(error) if is_noscript(&error) => {
                self.command_with_text().query_async(connection).await
            }
            answer => answer,
        }
    }

    /// Runs many calls, all on this partition, in one round trip. Each has an
    /// answer of its own; those that the server had no script for are sent again
    /// with it.
    pub(super) async fn invoke_all(
        calls: &[Self],
        partition: &Partition,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let link = partition.link();
        let mut connection = link.connection().await?;
        let commands = calls.iter().map(Self::command).collect();
        let mut answers = link.observe(pipelined(commands, &mut connection).await)?;
        let forgotten: Vec<usize> = (0..calls.len())
            .filter(|&index| answers[index].as_ref().is_err_and(is_noscript))
            .collect();
        if !forgotten.is_empty() {
            let commands = forgotten.iter().map(|&index| &calls[index]);
            let commands = commands.map(Self::command_with_text).collect();
            let again = link.observe(pipelined(commands, &mut connection).await)?;
            for (index, answer) in forgotten.into_iter().zip(again) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }
}

async fn pipelined(
    commands: Vec<redis::Cmd>,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
    let count = commands.len();
    let mut pipeline = redis::pipe();
    for command in commands {
        pipeline.add_command(command);
    }
    // An error of one command is an answer here, not the end of all of them.
    let answers = connection.send_packed_commands(&pipeline, 0, count).await?;
    let answers = answers.into_iter().map(|answer| match answer {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    });
    Ok(answers.collect())
}

fn is_noscript(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}
