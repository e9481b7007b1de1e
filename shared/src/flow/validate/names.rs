//! Whether what a flow names exists and can be named there.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::all_steps;
use crate::{
    flow::{
        Flow,
        expression::{self, Reference},
        finding::{At, Finding, Path},
        secrets,
        sql::{self, InvalidSql, TableName},
        step::{OnError, Step, StepKind},
        texts::{self, Text},
    },
    id::{SecretName, StepId},
};

/// Checks all names in `flow`.
pub(super) fn check(flow: &Flow, findings: &mut Vec<Finding>) {
    let root = Path::default();
    let mut checker = Checker {
        flow,
        all: all_steps(flow)
            .into_iter()
            .map(|(_, step)| step.id.as_str())
            .collect(),
        findings,
    };
    let main = View::of(&flow.steps);
    for (index, step) in flow.steps.iter().enumerate() {
        checker.step(step, &root.member("steps").item(index), &main);
    }
    // A failed run has results, but its tables are gone.
    let after = View::of(&flow.on_failure);
    let after = View {
        results: main
            .results
            .iter()
            .chain(&after.results)
            .map(|(id, step)| (*id, *step))
            .collect(),
        ..after
    };
    for (index, step) in flow.on_failure.iter().enumerate() {
        checker.step(step, &root.member("on_failure").item(index), &after);
    }
    if let Some(output) = &flow.output {
        let place = Place {
            roots: &["inputs", "steps", "run"],
            own: None,
            view: &main,
        };
        checker.value(output, &root.member("output"), &place);
    }
    if let Some(key) = flow
        .concurrency
        .as_ref()
        .and_then(|limit| limit.key.as_ref())
    {
        let place = Place {
            roots: &["inputs"],
            own: None,
            view: &main,
        };
        let path = root.member("concurrency").member("key");
        checker.text(Text::Template(key), &path, &place);
    }
}

/// The steps that can be named at some place.
#[derive(Clone)]
struct View<'a> {
    /// Those whose results are there.
    results: HashMap<&'a str, &'a Step>,
    /// Those whose tables are there, if they make one.
    tables: HashMap<&'a str, &'a Step>,
}

impl<'a> View<'a> {
    fn of(steps: &'a [Step]) -> Self {
        let steps: HashMap<&str, &Step> =
            steps.iter().map(|step| (step.id.as_str(), step)).collect();
        Self {
            results: steps.clone(),
            tables: steps,
        }
    }
}

/// What a text can name where it stands.
#[derive(Clone, Copy)]
struct Place<'p, 'a> {
    roots: &'static [&'static str],
    /// The step that it is in.
    own: Option<&'a Step>,
    view: &'p View<'a>,
}

struct Checker<'a, 'f> {
    flow: &'a Flow,
    /// The names of all steps anywhere in the flow.
    all: HashSet<&'a str>,
    findings: &'f mut Vec<Finding>,
}

impl<'a> Checker<'a, '_> {
    fn step(&mut self, step: &'a Step, path: &Path, view: &View<'a>) {
        for (index, need) in step.needs.iter().enumerate() {
            let found = self.find(need.as_str(), Some(step), &view.results);
            if let Err(message) = found {
                let path = path.member("needs").item(index);
                self.findings.push(Finding::new(path, message));
            }
        }
        let place = Place {
            roots: &["inputs", "steps", "run", "args"],
            own: Some(step),
            view,
        };
        let take_secrets = secrets::places(&step.kind, path);
        let command = path.member("command");
        let take_paths = ["args", "env", "stdin"].map(|member| command.member(member));
        for (path, text) in texts::of_step(step, path) {
            let is_within = |places: &[Path]| places.iter().any(|place| path.is_within(place));
            let roots: &[&str] = match (is_within(&take_secrets), is_within(&take_paths)) {
                (false, false) => place.roots,
                (true, false) => &["inputs", "steps", "run", "args", "secrets"],
                (false, true) => &["inputs", "steps", "run", "args", "tables"],
                (true, true) => &["inputs", "steps", "run", "args", "tables", "secrets"],
            };
            self.text(text, &path, &Place { roots, ..place });
        }
        match &step.kind {
            StepKind::Sql(sql) => self.sql(sql, &path.member("sql"), step, view),
            StepKind::Write(write) => {
                self.taken(&write.from, path.member("write").member("from"), step, view);
            }
            StepKind::Check(check) => {
                self.taken(
                    &check.table,
                    path.member("check").member("table"),
                    step,
                    view,
                );
            }
            StepKind::Command(program) => {
                let path = command.member("tables").member("in");
                let tables = program.tables.iter();
                for table in tables.flat_map(|tables| tables.taken.keys()) {
                    self.taken(table, path.member(table.as_str()), step, view);
                }
            }
            StepKind::Load(load) => {
                self.taken(&load.from, path.member("load").member("from"), step, view);
            }
            StepKind::Http(http) => {
                if let Some(table) = &http.table {
                    let path = path.member("http").member("table").member("from");
                    self.taken(&table.from, path, step, view);
                }
            }
            _ => {}
        }
        if let OnError::Steps(inner) = &step.on_error {
            self.on_error(inner, &path.member("on_error"), step, view);
        }
    }

    /// Checks the name of a table, which stands at `path`.
    fn taken(&mut self, table: &StepId, path: Path, step: &'a Step, view: &View<'a>) {
        if let Err(message) = self.table(table.as_str(), step, view) {
            self.findings.push(Finding::new(path, message));
        }
    }

    /// Checks steps that run one after the other when `failed` has failed.
    fn on_error(&mut self, steps: &'a [Step], path: &Path, failed: &'a Step, view: &View<'a>) {
        let mut view = view.clone();
        view.results.insert(failed.id.as_str(), failed);
        view.tables.remove(failed.id.as_str());
        for (index, step) in steps.iter().enumerate() {
            self.step(step, &path.item(index), &view);
            view.results.insert(step.id.as_str(), step);
            view.tables.insert(step.id.as_str(), step);
        }
    }

    fn value(&mut self, value: &Value, path: &Path, place: &Place<'_, 'a>) {
        for (path, text) in texts::of_value(value, path) {
            self.text(text, &path, place);
        }
    }

    fn text(&mut self, text: Text<'_>, path: &Path, place: &Place<'_, 'a>) {
        let references = match text {
            Text::Template(template) => expression::references(template),
            // This is reported where the condition's form is checked.
            Text::Condition(condition) if expression::is_template(condition) => return,
            Text::Condition(condition) => expression::condition_references(condition),
        };
        match references {
            Err(error) => self
                .findings
                .push(Finding::new(path.clone(), error.to_string())),
            Ok(references) => {
                for reference in references {
                    if let Err(message) = self.reference(&reference, place) {
                        self.findings.push(Finding::new(path.clone(), message));
                    }
                }
            }
        }
    }

    fn reference(&self, reference: &Reference, place: &Place<'_, 'a>) -> Result<(), String> {
        let Reference { root, member } = reference;
        if !place.roots.contains(&root.as_str()) {
            if root == secrets::ROOT {
                return Err(secrets::NOT_HERE.to_owned());
            }
            let known = place.roots.join("`, `");
            return Err(format!("`{root}` is not known here; known are `{known}`"));
        }
        match (root.as_str(), member.as_deref()) {
            ("steps", None) => Err("a step must be named, as in `steps.load.rows`".to_owned()),
            ("steps", Some(name)) => self.find(name, place.own, &place.view.results).map(drop),
            ("inputs", Some(name)) if !self.flow.inputs.contains_key(name) => {
                Err(format!("the flow has no input `{name}`"))
            }
            ("secrets", None) => Err("a secret must be named, as in `secrets.token`".to_owned()),
            ("secrets", Some(name)) => {
                let name = name.parse::<SecretName>();
                name.map(drop).map_err(|error| error.to_string())
            }
            ("tables", None) => Err("a table must be named, as in `tables.orders`".to_owned()),
            ("tables", Some(name)) => match place.own {
                Some(step) if has_table(step, name) => Ok(()),
                _ => Err(format!(
                    "the command has no table `{name}` in its `tables`: the one that it makes is \
                     called like its step"
                )),
            },
            ("args", Some(name)) => match place.own {
                Some(step) if step.args.contains_key(name) => Ok(()),
                _ => Err(format!("the step has no argument `{name}` in its `args`")),
            },
            _ => Ok(()),
        }
    }

    fn sql(&mut self, sql: &str, path: &Path, step: &'a Step, view: &View<'a>) {
        match sql::tables(sql) {
            Ok(tables) => {
                for table in tables {
                    if let Err(message) = self.named_table(&table, step, view) {
                        self.findings.push(Finding {
                            path: path.clone(),
                            at: At::Within {
                                line: table.line,
                                column: table.column,
                            },
                            message,
                        });
                    }
                }
            }
            Err(error) => self.findings.push(bad_sql(sql, error, path)),
        }
    }

    fn named_table(
        &self,
        table: &TableName,
        step: &'a Step,
        view: &View<'a>,
    ) -> Result<(), String> {
        let id = view.tables.keys().find(|id| table.is(id));
        self.table(id.copied().unwrap_or(&table.name), step, view)
    }

    fn table(&self, name: &str, step: &'a Step, view: &View<'a>) -> Result<(), String> {
        let found = self.find(name, Some(step), &view.tables)?;
        match &found.kind {
            StepKind::Read(_) | StepKind::Query(_) | StepKind::Sql(_) => Ok(()),
            StepKind::Command(command) => match &command.tables {
                Some(tables) if tables.made.is_some() => Ok(()),
                _ => Err(format!(
                    "`{name}` makes no table; a `command` does where its `tables` have `out`"
                )),
            },
            StepKind::Http(http) if http.makes_table() => Ok(()),
            _ => Err(format!(
                "`{name}` makes no table; steps with `read`, `query`, `sql` and `http` with \
                 `extract: {{ to: table }}` do"
            )),
        }
    }

    /// The step `name` among `steps`, or why there is none.
    fn find(
        &self,
        name: &str,
        own: Option<&Step>,
        steps: &HashMap<&'a str, &'a Step>,
    ) -> Result<&'a Step, String> {
        if own.is_some_and(|own| own.id.as_str() == name) {
            return Err("a step cannot name itself".to_owned());
        }
        if let Some(step) = steps.get(name) {
            return Ok(step);
        }
        if self.all.contains(name) {
            return Err(format!(
                "the step `{name}` cannot be named here: it may not have run"
            ));
        }
        let similar = steps.keys().find(|id| id.eq_ignore_ascii_case(name));
        let hint = similar.map_or_else(String::new, |id| format!("; did you mean `{id}`?"));
        Err(format!("there is no step `{name}`{hint}"))
    }
}

/// Whether the program of a step takes or makes a table of this name.
fn has_table(step: &Step, name: &str) -> bool {
    let StepKind::Command(command) = &step.kind else {
        return false;
    };
    let tables = command.tables.iter();
    tables
        .flat_map(|tables| tables.files(&step.id))
        .any(|(id, _)| id.as_str() == name)
}

fn bad_sql(sql: &str, error: InvalidSql, path: &Path) -> Finding {
    let mut message = error.message;
    if expression::is_template(sql) {
        message.push_str("; SQL is not a template, so `{{ }}` has no meaning in it");
    }
    let at = match error.place {
        Some((line, column)) => At::Within { line, column },
        None => At::Value,
    };
    Finding {
        path: path.clone(),
        at,
        message,
    }
}
