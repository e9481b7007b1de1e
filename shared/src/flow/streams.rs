//! Which steps hand their rows on while they make them.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;

use super::{
    graph,
    step::{OnError, Step, StepKind},
};
use crate::id::StepId;

/// For each of `steps` whose rows another one can take while they are made, the
/// one that takes them: both are executed at the same time, and there is never a
/// table between them.
///
/// So it is where `read` and `sql` are followed by `sql`, `write` or `load`,
/// nobody else takes the rows, and neither step has to wait for something that
/// comes only behind the other. A time limit, a condition of the taker or a
/// failure that the run survives is about one step alone, which would not be
/// so where both are at work; such steps hand on a table. So does a step that
/// keeps its table: there has to be one.
///
/// `upstream` is what [`graph::upstream`] says of the steps, and `takes` what
/// [`graph::tables_of`] says of each.
pub fn streams(
    steps: &[Step],
    upstream: &IndexMap<StepId, BTreeSet<StepId>>,
    takes: &HashMap<StepId, BTreeSet<StepId>>,
) -> HashMap<StepId, StepId> {
    let mut takers: HashMap<&StepId, Vec<&Step>> = HashMap::new();
    for step in steps {
        for table in takes.get(&step.id).into_iter().flatten() {
            takers.entry(table).or_default().push(step);
        }
    }
    let mut groups = Groups {
        upstream,
        links: HashMap::new(),
    };
    for step in steps.iter().filter(|step| makes_rows(step)) {
        if let Some([taker]) = takers.get(&step.id).map(Vec::as_slice)
            && takes_rows(taker)
            && !graph::waits_for_more_than_table(taker, &step.id, steps)
        {
            groups.link(&step.id, &taker.id);
        }
    }
    groups.links
}

fn makes_rows(step: &Step) -> bool {
    let makes = matches!(step.kind, StepKind::Read(_) | StepKind::Sql(_));
    makes && !step.keeps_table() && stands_alone(step)
}

fn takes_rows(step: &Step) -> bool {
    let takes = match &step.kind {
        StepKind::Sql(_) | StepKind::Load(_) => true,
        // Its rows are read twice, and then once more for each lot of folders.
        StepKind::Write(write) => write.partition_by.is_empty(),
        _ => false,
    };
    takes && step.when.is_none() && stands_alone(step)
}

fn stands_alone(step: &Step) -> bool {
    step.on_error == OnError::Fail && step.timeout.is_none()
}

/// Steps that are executed at the same time, and what they wait for.
struct Groups<'a> {
    upstream: &'a IndexMap<StepId, BTreeSet<StepId>>,
    links: HashMap<StepId, StepId>,
}

impl Groups<'_> {
    /// Puts a maker and its taker together, unless some step would then wait for
    /// one that cannot end before it.
    fn link(&mut self, maker: &StepId, taker: &StepId) {
        self.links.insert(maker.clone(), taker.clone());
        if self.is_circular() {
            self.links.remove(maker);
        }
    }

    /// The last step of those that are executed together with `step`.
    fn last<'s>(&'s self, mut step: &'s StepId) -> &'s StepId {
        while let Some(taker) = self.links.get(step) {
            step = taker;
        }
        step
    }

    /// Whether groups of steps wait for one another in a circle, or a step for
    /// another one of its group otherwise than by its rows.
    fn is_circular(&self) -> bool {
        let mut waits: IndexMap<StepId, BTreeSet<StepId>> = IndexMap::new();
        for (step, upstream) in self.upstream {
            let group = self.last(step);
            for before in upstream {
                if self.links.get(before) == Some(step) {
                    continue;
                }
                let other = self.last(before);
                if other == group {
                    return true;
                }
                waits
                    .entry(group.clone())
                    .or_default()
                    .insert(other.clone());
            }
        }
        !graph::cycles(&waits).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    /// The links of a flow with these steps, as `a>b`.
    fn links(steps: &str) -> Vec<String> {
        let flow = Flow::parse(&format!("id: f\nsteps:\n{steps}")).unwrap();
        let steps = &flow.steps;
        let takes = steps
            .iter()
            .map(|step| (step.id.clone(), graph::tables_of(step, steps)));
        let links = streams(steps, &graph::upstream(steps), &takes.collect());
        let mut links: Vec<String> = links
            .iter()
            .map(|(maker, taker)| format!("{maker}>{taker}"))
            .collect();
        links.sort();
        links
    }

    const READ: &str = "  - { id: a, read: { path: a.csv } }\n";
    const SQL: &str = "  - { id: b, sql: select x from a }\n";
    const WRITE: &str = "  - { id: c, write: { path: c.csv, from: b } }\n";

    #[test]
    fn rows_flow_from_files_through_queries_to_files() {
        assert_eq!(links(&format!("{READ}{SQL}{WRITE}")), ["a>b", "b>c"]);
        let two = "  - { id: a2, read: { path: b.csv } }\n  - { id: b, sql: select a.x from a join a2 on a.x = a2.x }\n";
        assert_eq!(
            links(&format!("{READ}{two}{WRITE}")),
            ["a2>b", "a>b", "b>c"]
        );
    }

    #[test]
    fn what_several_steps_take_is_a_table() {
        let more = "  - { id: d, write: { path: d.csv, from: b } }\n";
        assert_eq!(links(&format!("{READ}{SQL}{WRITE}{more}")), ["a>b"]);
        let check = "  - { id: d, check: { table: b, rows: { min: 1 } } }\n";
        assert_eq!(links(&format!("{READ}{SQL}{WRITE}{check}")), ["a>b"]);
    }

    #[test]
    fn steps_that_mean_one_alone_stay_alone() {
        for (member, expected) in [
            ("retry: { attempts: 3 }", "a>b,b>c"),
            ("keep: false", "a>b,b>c"),
            ("keep: true", "a>b"),
            ("timeout: 1m", "b>c"),
            ("on_error: continue", "b>c"),
            ("needs: [a]", "b>c"),
            ("when: \"steps.a.rows > 0\"", "b>c"),
        ] {
            let sql = match member.split(':').next() {
                Some("timeout" | "on_error") => {
                    let read = format!("  - {{ id: a, read: {{ path: a.csv }}, {member} }}\n");
                    assert_eq!(links(&format!("{read}{SQL}{WRITE}")).join(","), expected);
                    continue;
                }
                _ => format!("  - {{ id: b, sql: select x from a, {member} }}\n"),
            };
            assert_eq!(links(&format!("{READ}{sql}{WRITE}")).join(","), expected);
        }
        let named = "  - { id: c, write: { path: \"{{ steps.b.rows }}.csv\", from: b } }\n";
        assert_eq!(links(&format!("{READ}{SQL}{named}")), ["a>b"]);
        let far = "  - { id: c, write: { path: \"{{ steps.a.rows }}.csv\", from: b } }\n";
        assert_eq!(links(&format!("{READ}{SQL}{far}")), ["a>b"]);
        let folders =
            "  - { id: c, write: { path: c, from: b, format: csv, partition_by: [x] } }\n";
        assert_eq!(links(&format!("{READ}{SQL}{folders}")), ["a>b"]);
    }

    #[test]
    fn no_step_waits_for_one_that_waits_for_it() {
        // `c` waits for `s`, which comes only when `a` has ended.
        let steps = "  - { id: s, set: { n: \"{{ steps.a.rows }}\" } }\n  - { id: c, write: { path: c.csv, from: a }, needs: [s] }\n";
        assert!(links(&format!("{READ}{steps}")).is_empty());
        // Each taker waits for the maker of the other: only one pair flows.
        let pairs = "  - { id: b, read: { path: b.csv } }\n  - { id: c, write: { path: c.csv, from: a }, needs: [b] }\n  - { id: d, write: { path: d.csv, from: b }, needs: [a] }\n";
        assert_eq!(links(&format!("{READ}{pairs}")).len(), 1);
    }
}
