//! `check`: whether a table keeps the rules of its flow.

use std::collections::HashMap;

use millstream_shared::flow::step::{CheckStep, OnViolation};
use serde_json::{Value, json};

use super::{StepContext, StepError, StepOutput, read::until_cancelled};
use crate::tables::{Feed, Kind, Table};

/// How many columns an error names.
const COLUMNS_NAMED_MAX: usize = 50;

/// A rule that a table must keep, and the count in SQL of what breaks it.
struct Rule {
    /// The column that it is about; none for all of the row.
    column: Option<String>,
    /// The member of the step that it stands in.
    name: &'static str,
    /// What is wrong with a row that breaks it.
    broken: String,
    /// Counts what breaks it.
    count: String,
}

/// Looks at the table once and counts for each rule what breaks it. Nothing is
/// changed, so it can be repeated.
pub(crate) async fn check(
    step: &CheckStep,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let table = context.table(&step.table)?.clone();
    let rules = rules(step, &table)?;
    let rows = table.rows();
    let counts = rules.iter().map(|rule| rule.count.as_str());
    let counts: Vec<&str> = std::iter::once("count(*)").chain(counts).collect();
    let named: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(place, count)| format!("{count} as c{place}"))
        .collect();
    let query = format!(
        "select {} from {}",
        named.join(", "),
        quoted(step.table.as_str())
    );
    let tables = HashMap::from([(step.table.clone(), Feed::Table(table))]);
    let counting = context.services.tables.sql(&query, &tables);
    let counted = until_cancelled(context, counting).await?;
    let counts = counted.table.counts()?;
    let violations = violations(step, rows, &rules, &counts);
    if !violations.is_empty() && step.on_violation == OnViolation::Fail {
        let told: Vec<&str> = violations
            .iter()
            .map(|broken| broken.told.as_str())
            .collect();
        let table = &step.table;
        let message = format!("table `{table}` breaks its rules: {}", told.join("; "));
        return Err(StepError::permanent("check_failed", message));
    }
    let shown: Vec<Value> = violations.iter().map(Violation::shown).collect();
    Ok(StepOutput {
        value: json!({ "rows": rows, "violations": shown }),
        rows: Some(rows),
        rows_in: Some(rows),
        ..StepOutput::default()
    })
}

/// A rule that is broken.
struct Violation {
    column: Option<String>,
    rule: &'static str,
    rows: u64,
    told: String,
}

impl Violation {
    fn shown(&self) -> Value {
        json!({
            "column": self.column,
            "rule": self.rule,
            "rows": self.rows,
            "message": self.told,
        })
    }
}

fn violations(step: &CheckStep, rows: u64, rules: &[Rule], counts: &[u64]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut of_rows = |told: String| {
        violations.push(Violation {
            column: None,
            rule: "rows",
            rows,
            told,
        });
    };
    let bounds = step
        .rows
        .map_or((None, None), |bounds| (bounds.min, bounds.max));
    match bounds {
        (Some(min), _) if rows < min => {
            of_rows(format!("it has {rows} rows, and must have {min} at least"))
        }
        (_, Some(max)) if rows > max => {
            of_rows(format!("it has {rows} rows, and may have {max} at most"))
        }
        _ => {}
    }
    for (place, rule) in rules.iter().enumerate() {
        let broken_by = counts.get(place + 1).copied().unwrap_or(0);
        if broken_by > 0 {
            let column = rule
                .column
                .as_ref()
                .map_or(String::new(), |name| format!("column `{name}`: "));
            let told = format!("{column}{broken_by} of {rows} rows {}", rule.broken);
            violations.push(Violation {
                column: rule.column.clone(),
                rule: rule.name,
                rows: broken_by,
                told,
            });
        }
    }
    violations
}

/// All rules but those about the number of rows.
fn rules(step: &CheckStep, table: &Table) -> Result<Vec<Rule>, StepError> {
    let mut rules = Vec::new();
    for (name, wanted) in &step.columns {
        let kind = kind_of(table, name)?;
        let value = quoted(name);
        let mut add = |rule: &'static str, broken: String, count: String| {
            rules.push(Rule {
                column: Some(name.clone()),
                name: rule,
                broken,
                count,
            });
        };
        if wanted.not_null {
            add(
                "not_null",
                "have no value".to_owned(),
                format!("count(*) filter (where {value} is null)"),
            );
        }
        if wanted.unique {
            let count = format!("count({value}) - count(distinct {value})");
            add("unique", "repeat a value".to_owned(), count);
        }
        for (rule, bound, sign, word) in [
            ("min", &wanted.min, "<", "less"),
            ("max", &wanted.max, ">", "more"),
        ] {
            if let Some(bound) = bound {
                let literal = literal(bound, kind, name, rule)?;
                let count = format!("count(*) filter (where {value} {sign} {literal})");
                add(rule, format!("have {word} than {bound}"), count);
            }
        }
        if let Some(pattern) = &wanted.pattern {
            let text = format!("cast({value} as varchar)");
            let count = format!(
                "count(*) filter (where {text} !~ {})",
                text_literal(pattern)
            );
            add("pattern", format!("do not match `{pattern}`"), count);
        }
        if let Some(values) = &wanted.one_of {
            let literals: Result<Vec<_>, _> = values
                .iter()
                .map(|wanted| literal(wanted, kind, name, "in"))
                .collect();
            let count = format!(
                "count(*) filter (where {value} not in ({}))",
                literals?.join(", ")
            );
            add(
                "in",
                "have another value than those allowed".to_owned(),
                count,
            );
        }
    }
    if let Some(condition) = &step.sql {
        rules.push(Rule {
            column: None,
            name: "sql",
            broken: format!("do not fulfil `{condition}`"),
            count: format!("count(*) filter (where ({condition}) is not true)"),
        });
    }
    Ok(rules)
}

fn kind_of(table: &Table, column: &str) -> Result<Kind, StepError> {
    table.kind_of(column).ok_or_else(|| {
        let names: Vec<_> = table.columns().take(COLUMNS_NAMED_MAX).collect();
        let message = format!(
            "there is no column `{column}`; there are {}",
            names.join(", ")
        );
        StepError::permanent("bad_check", message)
    })
}

/// A value of a rule in SQL, if a column of this kind can be compared with it.
fn literal(value: &Value, kind: Kind, column: &str, rule: &str) -> Result<String, StepError> {
    match (value, kind) {
        (Value::Number(number), Kind::Number) => Ok(number.to_string()),
        (Value::String(text), Kind::Text | Kind::Time) => Ok(text_literal(text)),
        (Value::Bool(truth), Kind::Truth) => Ok(truth.to_string()),
        _ => {
            let kind = match kind {
                Kind::Number => "numbers",
                Kind::Text => "texts",
                Kind::Time => "days or moments, which a rule names as texts",
                Kind::Truth => "`true` and `false`",
                Kind::Other => "values that cannot be compared",
            };
            let message = format!("column `{column}` holds {kind}, and `{rule}` is {value}");
            Err(StepError::permanent("bad_check", message))
        }
    }
}

fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
