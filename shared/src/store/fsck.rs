//! A look at everything that is stored of runs: whether each run is where its
//! state says, and whether nothing is left over. For a person who wants to know,
//! and for tests; the workers mend what matters by themselves.

use std::{collections::BTreeSet, time::Duration};

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, Value, from_redis_value};

use super::{Fault, Store, StoreError, heal::members, keys, partition::Partition};
use crate::run::RunState;

/// How many keys, members or entries are read at once.
const READ_PER_CALL: usize = 500;

/// How long a fault must last to count. While runs are on their way, what is read
/// one after the other need not fit together.
const LASTING: Duration = Duration::from_millis(500);

/// What a look at everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    /// How many runs have a record.
    pub runs: u64,
    /// How many of them have not ended.
    pub open: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Everything that one partition has about runs besides their records.
#[derive(Default)]
struct Places {
    /// For each run that is named somewhere, where that is, and in which states
    /// it may be there.
    named: Vec<(String, String, &'static [RunState])>,
}

impl Store {
    /// Looks at all that is stored of runs. Where asked to `repair`, runs that
    /// are not where their state says are put where they can go on. What is
    /// told is what was found before.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn fsck(&self, repair: bool) -> Result<Checkup, StoreError> {
        let first = self.check_all(false).await?;
        if first.faults.is_empty() {
            return Ok(first);
        }
        tokio::time::sleep(LASTING).await;
        let mut second = self.check_all(false).await?;
        second.faults.retain(|fault| first.faults.contains(fault));
        if repair && !second.faults.is_empty() {
            self.check_all(true).await?;
        }
        Ok(second)
    }

    async fn check_all(&self, repair: bool) -> Result<Checkup, StoreError> {
        let mut checkup = Checkup::default();
        for partition in 0..self.partitions() {
            self.at(partition as u8).fsck(&mut checkup, repair).await?;
        }
        Ok(checkup)
    }
}

impl Partition {
    async fn fsck(&self, checkup: &mut Checkup, repair: bool) -> Result<(), StoreError> {
        self.check_records(checkup, repair).await?;
        let mut places = Places::default();
        self.read_open(checkup, repair).await?;
        self.read_queues(&mut places).await?;
        self.read_lists(&mut places).await?;
        for some in places.named.chunks(READ_PER_CALL) {
            let mut pipeline = redis::pipe();
            for (run, ..) in some {
                pipeline.hget(self.named_run(run), "state");
            }
            let states: Vec<Option<String>> = self.read_all(pipeline).await?;
            let misplaced = some.iter().zip(states).filter(|((_, _, allowed), state)| {
                let state = state.as_ref().and_then(|state| state.parse().ok());
                !state.is_some_and(|state| allowed.contains(&state))
            });
            let faults = misplaced.map(|((run, place, _), state)| Fault {
                subject: run.clone(),
                what: format!(
                    "it is {} and stands in {place}",
                    state.as_deref().unwrap_or("gone")
                ),
            });
            checkup.faults.extend(faults);
        }
        checkup.faults.extend(self.check_counts(repair).await?);
        Ok(())
    }

    /// Looks at every record: whether it is where its state says, and whether it
    /// expires when it should.
    async fn check_records(&self, checkup: &mut Checkup, repair: bool) -> Result<(), StoreError> {
        let prefix = self.named_run("");
        let mut cursor = 0;
        loop {
            let (next, found) = self.scan(cursor, &format!("{prefix}*")).await?;
            let names = found.iter().filter_map(|key| key.strip_prefix(&prefix));
            let runs: BTreeSet<&str> = names.filter(|name| !name.contains(':')).collect();
            self.check_expiry(&runs, checkup).await?;
            let runs: Vec<_> = runs
                .into_iter()
                .map(|run| (run.to_owned(), String::new()))
                .collect();
            checkup.faults.extend(self.check_open(&runs, repair).await?);
            let steps = found.iter().filter(|key| key.ends_with(":steps"));
            self.check_steps(steps, checkup).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn check_expiry(
        &self,
        runs: &BTreeSet<&str>,
        checkup: &mut Checkup,
    ) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for run in runs {
            pipeline.hget(self.named_run(run), "state");
            pipeline.pttl(self.named_run(run));
        }
        let answers: Vec<Option<String>> = self.read_all(pipeline).await?;
        for (run, answer) in runs.iter().zip(answers.chunks(2)) {
            let number = |text: &String| text.parse().ok();
            let ttl_ms: i64 = answer[1].as_ref().and_then(number).unwrap_or(-1);
            let state = answer[0].as_ref();
            let state = state.and_then(|state| state.parse::<RunState>().ok());
            checkup.runs += 1;
            let what = match state {
                None => "its record is not one of a run",
                Some(state) if state.is_final() && ttl_ms == -1 => {
                    "it has ended and is kept for ever"
                }
                Some(state) if !state.is_final() && ttl_ms >= 0 => "it has not ended and expires",
                Some(_) => continue,
            };
            checkup.faults.push(fault(run, what));
        }
        Ok(())
    }

    /// Checkpoints live as long as their run.
    async fn check_steps<'k>(
        &self,
        steps: impl Iterator<Item = &'k String>,
        checkup: &mut Checkup,
    ) -> Result<(), StoreError> {
        let steps: Vec<_> = steps.collect();
        let mut pipeline = redis::pipe();
        for key in &steps {
            pipeline.exists(key.trim_end_matches(":steps"));
        }
        let there: Vec<Option<bool>> = self.read_all(pipeline).await?;
        let orphans = steps
            .iter()
            .zip(there)
            .filter(|(_, there)| *there == Some(false));
        let faults = orphans.map(|(key, _)| fault(key, "the run of these checkpoints is gone"));
        checkup.faults.extend(faults);
        Ok(())
    }

    async fn read_open(&self, checkup: &mut Checkup, repair: bool) -> Result<(), StoreError> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("ZSCAN");
            scan.arg(self.open())
                .arg(cursor)
                .arg("COUNT")
                .arg(READ_PER_CALL);
            let (next, found): (u64, Vec<String>) = self.read(&scan).await?;
            let members = members(&found);
            checkup.open += members.len() as u64;
            let gone = self.check_open(&members, repair).await?;
            let new = gone.into_iter();
            let new: Vec<_> = new
                .filter(|fault| !checkup.faults.contains(fault))
                .collect();
            checkup.faults.extend(new);
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn read_queues(&self, places: &mut Places) -> Result<(), StoreError> {
        const MAY: &[RunState] = &[RunState::Queued, RunState::Running];
        for queue in self.keys_of("queue:*").await? {
            let mut from = "-".to_owned();
            loop {
                let mut range = redis::cmd("XRANGE");
                range.arg(&queue).arg(&from).arg("+");
                range.arg("COUNT").arg(READ_PER_CALL);
                let entries: Vec<(String, Vec<String>)> = self.read(&range).await?;
                let Some((last, _)) = entries.last() else {
                    break;
                };
                from = format!("({last}");
                for (entry, fields) in entries {
                    let run = fields.get(1).cloned().unwrap_or_default();
                    places.named.push((run, format!("{queue} as {entry}"), MAY));
                }
            }
        }
        Ok(())
    }

    /// Places within limits, lines for them, and what is delayed.
    async fn read_lists(&self, places: &mut Places) -> Result<(), StoreError> {
        const HOLDS: &[RunState] = &[RunState::Queued, RunState::Running];
        let mut note = |runs: Vec<String>, place: &str, may: &'static [RunState]| {
            let named = runs.into_iter().map(|run| (run, place.to_owned(), may));
            places.named.extend(named);
        };
        for group in self.keys_of("group:*").await? {
            let mut members = redis::cmd("SMEMBERS");
            note(self.read(members.arg(&group)).await?, &group, HOLDS);
        }
        for line in self.keys_of("parked:*").await? {
            let mut members = redis::cmd("ZRANGE");
            let members = members.arg(&line).arg(0).arg(-1);
            note(self.read(members).await?, &line, &[RunState::Parked]);
        }
        let mut delayed = redis::cmd("ZRANGE");
        let delayed = delayed.arg(self.delayed()).arg(0).arg(-1);
        note(self.read(delayed).await?, "delayed", &[RunState::Delayed]);
        Ok(())
    }

    /// All keys of the partition whose name behind the prefix has this pattern.
    async fn keys_of(&self, pattern: &str) -> Result<BTreeSet<String>, StoreError> {
        let mut keys = BTreeSet::new();
        let mut cursor = 0;
        loop {
            let (next, found) = self
                .scan(cursor, &format!("{}{pattern}", self.prefix()))
                .await?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }

    async fn scan(&self, cursor: u64, pattern: &str) -> Result<(u64, Vec<String>), StoreError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern);
        self.read(scan.arg("COUNT").arg(READ_PER_CALL)).await
    }

    /// An answer; nothing where a key is not of the type that was asked for, which
    /// is told with the runs that it should name.
    async fn read<T: FromRedisValue + Default>(&self, command: &Cmd) -> Result<T, StoreError> {
        match self.link().ask(command).await {
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(T::default()),
            answer => Ok(answer?),
        }
    }

    /// Many answers; none for a key that is not of the type that was asked for.
    async fn read_all<T: FromRedisValue>(
        &self,
        mut pipeline: Pipeline,
    ) -> Result<Vec<Option<T>>, StoreError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.link().connection().await?;
        pipeline.ignore_errors();
        let answers: Result<Vec<Result<Value, RedisError>>, _> =
            pipeline.query_async(&mut connection).await;
        let answers = self.link().observe(answers)?.into_iter();
        let values = answers.map(|answer| from_redis_value(answer.ok()?).ok().flatten());
        Ok(values.collect())
    }

    fn named_run(&self, run: &str) -> String {
        format!("{}{}{run}", self.prefix(), keys::RUN)
    }
}

fn fault(subject: &str, what: &str) -> Fault {
    Fault {
        subject: subject.to_owned(),
        what: what.to_owned(),
    }
}
