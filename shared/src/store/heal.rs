//! Runs that have not ended: whether each is where its state says, and what is
//! done about those that are not.

use redis::{Value, from_redis_value};

use super::{Store, StoreError, connect::unexpected, partition::Partition, scripts::SCRIPTS};

/// How many runs are looked at in one script.
const LOOKED_AT_PER_CALL: usize = 100;

/// Something that was wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The run, or the key that is at fault.
    pub subject: String,
    /// What was wrong.
    pub what: String,
}

/// Where a look at the open runs of all partitions stands.
#[derive(Clone, Debug, Default)]
pub struct OpenRuns {
    partition: u8,
    cursor: u64,
}

impl Store {
    /// Looks at some of the runs that have not ended, puts those that are not
    /// where their state says where they can go on, and tells of them. Moves
    /// `place` on; says whether it has come round.
    ///
    /// # Errors
    /// Fails where Redis does.
    pub async fn heal_some(&self, place: &mut OpenRuns) -> Result<(Vec<Fault>, bool), StoreError> {
        let partition = self.at(place.partition);
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(partition.open()).arg(place.cursor);
        scan.arg("COUNT").arg(LOOKED_AT_PER_CALL);
        let (cursor, found): (u64, Vec<String>) = partition.link().ask(&scan).await?;
        let faults = partition.check_open(&members(&found), true).await?;
        place.cursor = cursor;
        if cursor == 0 {
            place.partition = ((u16::from(place.partition) + 1) % self.partitions()) as u8;
        }
        Ok((faults, cursor == 0 && place.partition == 0))
    }
}

impl Partition {
    /// What is wrong with these runs, each named with its flow, where known.
    pub(super) async fn check_open(
        &self,
        runs: &[(String, String)],
        healing: bool,
    ) -> Result<Vec<Fault>, StoreError> {
        let mut faults = Vec::new();
        for some in runs.chunks(LOOKED_AT_PER_CALL) {
            let mut call = self
                .call(&SCRIPTS.heal)
                .key(self.open())
                .argument(if healing { "heal" } else { "look" });
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
