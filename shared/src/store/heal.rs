//! Runs that have not ended: whether each is where its state says, and what is
//! done about those that are not.

use std::collections::BTreeMap;

use redis::{Value, from_redis_value};

use super::{
    Store, StoreError,
    connect::unexpected,
    keys,
    partition::Partition,
    scripts::{Call, SCRIPTS},
};

/// How many runs are looked at in one script.
const LOOKED_AT_PER_CALL: usize = 100;

/// How many records of runs are looked at with each round, whatever their state.
const RECORDS_PER_ROUND: usize = 1000;

/// Something that was wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The run, or the key that is at fault.
    pub subject: String,
    /// What was wrong.
    pub what: String,
}

/// Where a look at the runs of all partitions stands.
#[derive(Clone, Debug, Default)]
pub struct RunsLookedAt {
    partition: u8,
    cursor: u64,
    /// For each partition, where the look at all records stands.
    records: BTreeMap<u8, u64>,
}

impl Store {
    /// Looks at some of the runs that have not ended, puts those that are not
    /// where their state says where they can go on, and tells of them. Moves
    /// `place` on; says whether it has come round.
    ///
    /// What names the open runs may itself have been deleted, so with each round
    /// some of all records are looked at as well.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn heal_some(
        &self,
        place: &mut RunsLookedAt,
    ) -> Result<(Vec<Fault>, bool), StoreError> {
        let partition = self.at(place.partition);
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(partition.open()).arg(place.cursor);
        scan.arg("COUNT").arg(LOOKED_AT_PER_CALL);
        let (cursor, found): (u64, Vec<String>) = partition.link().ask(&scan).await?;
        let here = place.partition;
        // First, so that what cannot be looked at is not met for ever.
        place.cursor = cursor;
        if cursor == 0 {
            place.partition = ((u16::from(here) + 1) % self.partitions()) as u8;
        }
        let mut faults = partition.check_open(&members(&found), true).await?;
        if cursor == 0 {
            let records = place.records.entry(here).or_default();
            let (next, runs) = partition.some_records(*records, RECORDS_PER_ROUND).await?;
            *records = next;
            faults.extend(partition.check_open(&runs, true).await?);
            faults.extend(partition.check_counts(true).await?);
        }
        Ok((faults, cursor == 0 && place.partition == 0))
    }
}

impl Partition {
    /// Some of the runs that have a record, without their flows, and where to go
    /// on.
    pub(super) async fn some_records(
        &self,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<(String, String)>), StoreError> {
        let prefix = format!("{}{}", self.prefix(), keys::RUN);
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*"));
        let (next, found): (u64, Vec<String>) =
            self.link().ask(scan.arg("COUNT").arg(count)).await?;
        let runs = found.iter().filter_map(|key| key.strip_prefix(&prefix));
        let runs = runs.filter(|run| !run.contains(':'));
        let runs = runs.map(|run| (run.to_owned(), String::new()));
        Ok((next, runs.collect()))
    }

    /// Flows whose open runs are miscounted.
    pub(super) async fn check_counts(&self, healing: bool) -> Result<Vec<Fault>, StoreError> {
        read(self.look(healing).invoke().await?)
    }

    fn look(&self, healing: bool) -> Call<'_> {
        self.call(&SCRIPTS.heal)
            .key(self.open())
            .argument(if healing { "heal" } else { "look" })
    }

    /// What is wrong with these runs, each named with its flow, where known.
    pub(super) async fn check_open(
        &self,
        runs: &[(String, String)],
        healing: bool,
    ) -> Result<Vec<Fault>, StoreError> {
        let mut faults = Vec::new();
        for some in runs.chunks(LOOKED_AT_PER_CALL) {
            let mut call = self.look(healing);
            for (run, flow) in some {
                call = call.argument(run.as_str()).argument(flow.as_str());
            }
            faults.extend(read(call.invoke().await?)?);
        }
        Ok(faults)
    }
}

/// The runs, each with its flow, in an answer of `ZSCAN`, in which members and
/// scores take turns.
pub(super) fn members(found: &[String]) -> Vec<(String, String)> {
    let members = found.iter().step_by(2).map(|member| {
        let (run, flow) = member.split_once(' ').unwrap_or((member, ""));
        (run.to_owned(), flow.to_owned())
    });
    members.collect()
}

fn read(answer: Value) -> Result<Vec<Fault>, StoreError> {
    let rows: Vec<(String, String)> = from_redis_value(answer).map_err(|_| unexpected("heal"))?;
    let faults = rows.into_iter();
    Ok(faults
        .map(|(subject, what)| Fault { subject, what })
        .collect())
}
