//! Which step waits for which: what authors said, and what steps name.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;

use super::{
    expression,
    finding::Path,
    sql,
    step::{OnError, Step, StepKind},
    texts::{self, Text},
};
use crate::id::StepId;

/// For each of `steps`, the steps among them that must end before it starts:
/// those in its `needs`, those whose tables it takes, and those that its
/// templates name. What the steps in its `on_error` name counts as well. A step
/// never waits for itself.
pub fn upstream(steps: &[Step]) -> IndexMap<StepId, BTreeSet<StepId>> {
    let known = Known::of(steps);
    steps
        .iter()
        .map(|step| {
            let mut found = BTreeSet::new();
            for_each_inner(step, &mut |step| {
                found.extend(known.needed_by(step));
                found.extend(known.tables_of(step));
                found.extend(known.named_by(step));
            });
            found.remove(&step.id);
            (step.id.clone(), found)
        })
        .collect()
}

/// The steps among `steps` whose tables `step`, or a step in its `on_error`,
/// takes: by `from`, by name in SQL, or into a program.
pub fn tables_of(step: &Step, steps: &[Step]) -> BTreeSet<StepId> {
    let known = Known::of(steps);
    let mut found = BTreeSet::new();
    for_each_inner(step, &mut |step| found.extend(known.tables_of(step)));
    found.remove(&step.id);
    found
}

/// Whether `step` waits for another one not only for its table: it is among its
/// `needs`, or named in a template.
pub(super) fn waits_for_more_than_table(step: &Step, other: &StepId, steps: &[Step]) -> bool {
    let known = Known::of(steps);
    known.needed_by(step).contains(other) || known.named_by(step).contains(other)
}

/// Steps that wait for one another in a circle: each waits for the next, and the
/// last for the first. No step is in two of the circles.
pub(super) fn cycles(upstream: &IndexMap<StepId, BTreeSet<StepId>>) -> Vec<Vec<StepId>> {
    let mut search = Search {
        upstream,
        seen: BTreeSet::new(),
        way: Vec::new(),
        found: Vec::new(),
    };
    for id in upstream.keys() {
        search.visit(id);
    }
    search.found
}

struct Search<'a> {
    upstream: &'a IndexMap<StepId, BTreeSet<StepId>>,
    seen: BTreeSet<&'a StepId>,
    way: Vec<&'a StepId>,
    found: Vec<Vec<StepId>>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, id: &'a StepId) {
        if let Some(start) = self.way.iter().position(|passed| *passed == id) {
            let cycle: Vec<StepId> = self.way[start..].iter().copied().cloned().collect();
            let is_new = |id| !self.found.iter().flatten().any(|known| known == id);
            if cycle.iter().all(is_new) {
                self.found.push(cycle);
            }
            return;
        }
        if !self.seen.insert(id) {
            return;
        }
        self.way.push(id);
        for next in self.upstream.get(id).into_iter().flatten() {
            self.visit(next);
        }
        self.way.pop();
    }
}

/// Steps by their names.
struct Known<'a> {
    exact: HashMap<&'a str, &'a StepId>,
    folded: HashMap<String, &'a StepId>,
}

impl<'a> Known<'a> {
    fn of(steps: &'a [Step]) -> Self {
        let ids = || steps.iter().map(|step| &step.id);
        Self {
            exact: ids().map(|id| (id.as_str(), id)).collect(),
            folded: ids()
                .map(|id| (id.as_str().to_ascii_lowercase(), id))
                .collect(),
        }
    }

    fn find(&self, name: &str) -> Option<StepId> {
        self.exact.get(name).copied().cloned()
    }

    fn needed_by(&self, step: &Step) -> Vec<StepId> {
        let needs = step.needs.iter();
        needs.filter_map(|id| self.find(id.as_str())).collect()
    }

    fn tables_of(&self, step: &Step) -> Vec<StepId> {
        match &step.kind {
            StepKind::Write(write) => self.find(write.from.as_str()).into_iter().collect(),
            StepKind::Check(check) => self.find(check.table.as_str()).into_iter().collect(),
            StepKind::Load(load) => self.find(load.from.as_str()).into_iter().collect(),
            StepKind::Command(command) => {
                let tables = command.tables.iter().flat_map(|tables| tables.taken.keys());
                tables.filter_map(|id| self.find(id.as_str())).collect()
            }
            StepKind::Http(http) => {
                let table = http.table.as_ref();
                let found = table.and_then(|table| self.find(table.from.as_str()));
                found.into_iter().collect()
            }
            // SQL that is no query was refused when the flow was published.
            StepKind::Sql(sql) => sql::tables(sql)
                .unwrap_or_default()
                .iter()
                .filter_map(|table| {
                    let id = self.folded.get(&table.name.to_ascii_lowercase())?;
                    table.is(id.as_str()).then(|| (*id).clone())
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn named_by(&self, step: &Step) -> Vec<StepId> {
        texts::of_step(step, &Path::default())
            .into_iter()
            .filter_map(|(_, text)| match text {
                Text::Template(template) => expression::references(template).ok(),
                Text::Condition(condition) => expression::condition_references(condition).ok(),
            })
            .flatten()
            .filter(|reference| reference.root == "steps")
            .filter_map(|reference| self.find(&reference.member?))
            .collect()
    }
}

/// Calls `act` with `step` and with all steps in its `on_error`.
pub(super) fn for_each_inner<'a>(step: &'a Step, act: &mut impl FnMut(&'a Step)) {
    act(step);
    if let OnError::Steps(steps) = &step.on_error {
        for inner in steps {
            for_each_inner(inner, act);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    const DAILY_SALES: &str = include_str!("../../../tests/fixtures/flows/daily-sales.yaml");

    fn ids(found: &BTreeSet<StepId>) -> Vec<&str> {
        found.iter().map(StepId::as_str).collect()
    }

    #[test]
    fn the_order_of_a_flow_follows_from_what_its_steps_name() {
        let flow = Flow::parse(DAILY_SALES).unwrap();
        let upstream = upstream(&flow.steps);
        let found: Vec<_> = upstream
            .iter()
            .map(|(id, found)| (id.as_str(), ids(found)))
            .collect();
        assert_eq!(
            found,
            [
                ("orders", vec![]),
                ("customers", vec![]),
                ("by_country", vec!["customers", "orders"]),
                ("load", vec!["by_country"]),
                ("tell", vec!["load"]),
            ]
        );
    }

    #[test]
    fn a_step_waits_for_what_the_steps_in_its_on_error_name() {
        let text = "\
id: f
steps:
  - { id: raw, read: { path: x.csv } }
  - { id: b, set: { x: 1 } }
  - { id: c, set: { x: 1 } }
  - id: d
    set: { x: '{{ inputs }}' }
    on_error:
      - id: e
        needs: [b]
        set: { x: '{{ steps.d.error }}' }
        on_error: [{ id: g, set: { x: \"{{ steps['c'].value[1:] }}\" } }]
      - { id: h, write: { path: x.csv, from: raw } }
";
        let flow = Flow::parse(text).unwrap();
        let upstream = upstream(&flow.steps);
        assert_eq!(ids(&upstream[3]), ["b", "c", "raw"]);
        assert_eq!(ids(&tables_of(&flow.steps[3], &flow.steps)), ["raw"]);
    }

    #[test]
    fn tables_are_the_steps_that_sql_and_from_name() {
        let flow = Flow::parse(DAILY_SALES).unwrap();
        let tables = |step: usize| tables_of(&flow.steps[step], &flow.steps);
        assert_eq!(ids(&tables(2)), ["customers", "orders"]);
        assert_eq!(ids(&tables(3)), ["by_country"]);
        assert!(tables(4).is_empty());
        // Names in SQL are without case unless they are quoted.
        let text = "{id: f, steps: [{id: Raw, read: {path: x.csv}}, \
                    {id: a, sql: 'select * from RAW'}, {id: b, sql: 'select * from \"Raw\"'}]}";
        let flow = Flow::parse(text).unwrap();
        for step in 1..3 {
            assert_eq!(ids(&tables_of(&flow.steps[step], &flow.steps)), ["Raw"]);
        }
    }

    #[test]
    fn a_program_waits_for_the_tables_that_it_takes() {
        let text = "{id: f, steps: [{id: raw, read: {path: x.csv}}, \
                    {id: a, command: {program: x, tables: {in: {raw: {format: csv}}}}}]}";
        let flow = Flow::parse(text).unwrap();
        assert_eq!(ids(&upstream(&flow.steps)[1]), ["raw"]);
        assert_eq!(ids(&tables_of(&flow.steps[1], &flow.steps)), ["raw"]);
    }

    #[test]
    fn a_long_chain_of_steps_is_no_circle() {
        let steps: String = (1..1000)
            .map(|n| format!("- {{id: s{n}, needs: [s{}], set: {{x: 1}}}}\n", n - 1))
            .collect();
        let text = format!("id: f\nsteps:\n- {{id: s0, set: {{x: 1}}}}\n{steps}");
        let flow = Flow::parse(&text).unwrap();
        assert!(cycles(&upstream(&flow.steps)).is_empty());
    }
}
