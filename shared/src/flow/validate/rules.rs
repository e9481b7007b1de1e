//! Whether the rules of a `check` step can be kept by any table.

use serde_json::Value;

use crate::flow::{
    finding::{Finding, Path},
    sql,
    step::{CheckStep, ColumnRules},
};

pub(super) fn check(step: &CheckStep, path: &Path, findings: &mut Vec<Finding>) {
    let mut wrong = |path: Path, message: String| findings.push(Finding::new(path, message));
    if step.rows.is_none() && step.columns.is_empty() && step.sql.is_none() {
        let message = "must have at least one rule: `rows`, `columns` or `sql`";
        wrong(path.clone(), message.to_owned());
    }
    if let Some(rows) = step.rows {
        match (rows.min, rows.max) {
            (None, None) => wrong(path.member("rows"), "must have `min` or `max`".to_owned()),
            (Some(min), Some(max)) if min > max => {
                wrong(
                    path.member("rows"),
                    format!("no table has at least {min} and at most {max} rows"),
                );
            }
            _ => {}
        }
    }
    for (name, rules) in &step.columns {
        column(rules, &path.member("columns").member(name), &mut wrong);
    }
    if let Some(condition) = &step.sql
        && let Err(error) = sql::check_condition(condition)
    {
        wrong(path.member("sql"), error.message);
    }
}

fn column(rules: &ColumnRules, path: &Path, wrong: &mut impl FnMut(Path, String)) {
    if *rules == ColumnRules::default() {
        let names = "`not_null`, `unique`, `min`, `max`, `pattern` or `in`";
        wrong(
            path.clone(),
            format!("must have at least one rule: {names}"),
        );
    }
    for (name, bound) in [("min", &rules.min), ("max", &rules.max)] {
        let is_comparable = matches!(bound, None | Some(Value::Number(_) | Value::String(_)));
        if !is_comparable {
            wrong(path.member(name), "must be a number or a text".to_owned());
        }
    }
    if let (Some(min), Some(max)) = (&rules.min, &rules.max) {
        let are_alike = min.is_number() == max.is_number();
        let is_empty = match (min.as_f64(), max.as_f64()) {
            (Some(min), Some(max)) => min > max,
            _ => are_alike && min.as_str() > max.as_str(),
        };
        if !are_alike {
            wrong(
                path.member("max"),
                "must be of the same kind as `min`".to_owned(),
            );
        } else if is_empty {
            wrong(
                path.clone(),
                format!("no value is at least {min} and at most {max}"),
            );
        }
    }
    if let Some(pattern) = &rules.pattern
        && let Err(error) = regex::Regex::new(pattern)
    {
        let told = error.to_string();
        let last = told.lines().last().unwrap_or_default();
        wrong(
            path.member("pattern"),
            format!("is no regular expression: {last}"),
        );
    }
    if let Some(values) = &rules.one_of {
        let path = path.member("in");
        if values.is_empty() {
            wrong(path.clone(), "must name at least one value".to_owned());
        }
        for (index, value) in values.iter().enumerate() {
            if !(value.is_number() || value.is_string() || value.is_boolean()) {
                let message = "must be a number, a text, `true` or `false`";
                wrong(path.item(index), message.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(check: &str) -> Vec<(String, String)> {
        let step: CheckStep = serde_json::from_str(check).unwrap();
        let mut findings = Vec::new();
        super::check(&step, &Path::default(), &mut findings);
        let shown = |finding: Finding| (finding.path.to_string(), finding.message);
        findings.into_iter().map(shown).collect()
    }

    #[test]
    fn rules_that_can_be_kept_are_fine() {
        let all = r#"{ "table": "t", "rows": { "min": 1, "max": 1 }, "sql": "a > 0 and b is not null",
            "columns": { "a": { "not_null": true, "unique": true, "min": -1.5, "max": 2 },
                         "b": { "min": "2026-01-01", "pattern": "^x+$", "in": ["x", 1, true] } } }"#;
        assert_eq!(findings(all), []);
    }

    #[test]
    fn rules_that_no_table_keeps_are_named() {
        for (check, path, message) in [
            (r#"{ "table": "t" }"#, "", "at least one rule"),
            (r#"{ "table": "t", "rows": {} }"#, "rows", "`min` or `max`"),
            (
                r#"{ "table": "t", "rows": { "min": 2, "max": 1 } }"#,
                "rows",
                "no table",
            ),
            (
                r#"{ "table": "t", "columns": { "a": {} } }"#,
                "columns.a",
                "at least one rule",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "min": 2, "max": 1 } } }"#,
                "columns.a",
                "no value",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "min": 2, "max": "x" } } }"#,
                "columns.a.max",
                "same kind",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "min": [] } } }"#,
                "columns.a.min",
                "a number or a text",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "pattern": "(" } } }"#,
                "columns.a.pattern",
                "unclosed",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "in": [] } } }"#,
                "columns.a.in",
                "at least one value",
            ),
            (
                r#"{ "table": "t", "columns": { "a": { "in": [null] } } }"#,
                "columns.a.in[0]",
                "a number",
            ),
            (
                r#"{ "table": "t", "sql": "a > (select 1)" }"#,
                "sql",
                "no query",
            ),
            (
                r#"{ "table": "t", "sql": "a > 1; drop table t" }"#,
                "sql",
                "nothing behind",
            ),
            (r#"{ "table": "t", "sql": "a >" }"#, "sql", ""),
        ] {
            let found = findings(check);
            assert_eq!(found.len(), 1, "{check}: {found:?}");
            assert_eq!(found[0].0, path, "{check}");
            assert!(found[0].1.contains(message), "{check}: {found:?}");
        }
    }
}
