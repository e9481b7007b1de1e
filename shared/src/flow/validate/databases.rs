//! What steps that work on databases must satisfy by themselves.

use crate::flow::{
    finding::{Finding, Path},
    step::{LoadMode, LoadStep, StatementStep},
};

/// The longest name of a table or a column: what no database exceeds.
const NAME_CHARS_MAX: usize = 128;

/// Checks a statement, which stands at `path`.
pub(super) fn check_statement(step: &StatementStep, path: &Path, findings: &mut Vec<Finding>) {
    let path = path.member("sql");
    if step.sql.trim().is_empty() {
        findings.push(Finding::new(path, "must be a statement"));
    } else if step.sql.contains("{{") {
        let message = "SQL is never a template, so `{{ }}` has no meaning in it: put a placeholder \
                       there (`$1` in PostgreSQL, `?` elsewhere) and the value into `params`";
        findings.push(Finding::new(path, message));
    }
}

/// Checks a load, which stands at `path`.
pub(super) fn check_load(load: &LoadStep, path: &Path, findings: &mut Vec<Finding>) {
    let parts: Vec<&str> = load.table.split('.').collect();
    if load.table.contains("{{") {
        let message = "the name of a table is not a template";
        findings.push(Finding::new(path.member("table"), message));
    } else if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
        let message = "must be the name of a table, or `schema.table`";
        findings.push(Finding::new(path.member("table"), message));
    }
    let keys = path.member("keys");
    match (load.mode, load.keys.is_empty()) {
        (LoadMode::Upsert, true) => {
            let message = "`mode: upsert` needs `keys`: the columns by which rows are told apart";
            findings.push(Finding::new(path.clone(), message));
        }
        (LoadMode::Append | LoadMode::Replace, false) => {
            let message = "only `mode: upsert` has keys";
            findings.push(Finding::new(keys.clone(), message));
        }
        _ => {}
    }
    for (index, key) in load.keys.iter().enumerate() {
        if !is_name(key) {
            let message = "must be the name of a column";
            findings.push(Finding::new(keys.item(index), message));
        } else if load.keys[..index].contains(key) {
            let message = format!("`{key}` is there already");
            findings.push(Finding::new(keys.item(index), message));
        }
    }
}

fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    (1..=NAME_CHARS_MAX).contains(&length) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use crate::flow::Flow;

    fn problems(step: &str) -> Vec<String> {
        let text = format!("id: f\nsteps:\n  - {{ id: a, read: {{ path: x.csv }} }}\n  - {step}\n");
        let problems = Flow::parse(&text).err().map(|invalid| invalid.problems);
        let show = |problem: crate::flow::Problem| format!("{}: {}", problem.path, problem.message);
        problems.into_iter().flatten().map(show).collect()
    }

    #[test]
    fn sql_is_no_template_and_its_params_are() {
        let step = "{ id: b, query: { connection: c, sql: 'select $1', params: ['{{ steps.a.rows }}', 2] } }";
        assert!(problems(step).is_empty());
        let step = "{ id: b, execute: { connection: c, sql: 'delete from {{ x }}' } }";
        let found = problems(step);
        assert!(
            found[0].starts_with("steps[1].execute.sql: SQL is never a template"),
            "{found:?}"
        );
        let step = "{ id: b, query: { connection: c, sql: ' ', params: ['{{ steps.no.rows }}'] } }";
        assert_eq!(
            problems(step),
            [
                "steps[1].query.sql: must be a statement",
                "steps[1].query.params[0]: there is no step `no`"
            ]
        );
    }

    #[test]
    fn a_load_names_a_table_and_keys_where_they_have_a_meaning() {
        let load = |rest: &str| {
            problems(&format!(
                "{{ id: b, load: {{ connection: c, from: a, {rest} }} }}"
            ))
        };
        for fine in [
            "table: t, mode: append",
            "table: s.t, mode: upsert, keys: [k, l], create: true",
            "table: 'A table', mode: replace, create: false",
        ] {
            assert!(load(fine).is_empty(), "{fine}: {:?}", load(fine));
        }
        let needs = "steps[1].load: `mode: upsert` needs `keys`: the columns by which rows are \
                     told apart";
        assert_eq!(load("table: t, mode: upsert"), [needs]);
        assert_eq!(
            load("table: t, mode: append, keys: [k]"),
            ["steps[1].load.keys: only `mode: upsert` has keys"]
        );
        assert_eq!(
            load("table: t, mode: upsert, keys: [k, k, '']"),
            [
                "steps[1].load.keys[1]: `k` is there already",
                "steps[1].load.keys[2]: must be the name of a column"
            ]
        );
        for table in ["a.b.c", "''", "a."] {
            let found = load(&format!("table: {table}, mode: append"));
            assert_eq!(
                found,
                ["steps[1].load.table: must be the name of a table, or `schema.table`"]
            );
        }
        let found = load("table: '{{ x }}', mode: append");
        assert_eq!(
            found,
            ["steps[1].load.table: the name of a table is not a template"]
        );
        let found = load("table: t, mode: merge");
        assert!(
            found[0].contains("must be `append`, `replace` or `upsert`"),
            "{found:?}"
        );
    }
}
