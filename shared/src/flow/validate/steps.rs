//! What each kind of step must satisfy by itself.

use serde_json::Value;

use super::{command, databases, files, http, inputs::is_name, rules, timeout};
use crate::{
    flow::{
        expression::is_template,
        finding::{At, Finding, Path},
        step::{Step, StepKind},
        texts,
    },
    retry::RetryPolicy,
};

/// Checks `step`, which stands at `path`, but not the steps in its `on_error`.
pub(super) fn check(step: &Step, path: &Path, findings: &mut Vec<Finding>) {
    timeout(step.timeout, path, findings);
    if let Some(retry) = &step.retry {
        check_retry(retry, &path.member("retry"), findings);
    }
    if let Some(when) = &step.when
        && is_template(when)
    {
        let message = "is an expression by itself: write it without `{{ }}`";
        findings.push(Finding::new(path.member("when"), message));
    }
    for (name, value) in &step.args {
        check_argument(name, value, &path.member("args").member(name), findings);
    }
    match &step.kind {
        StepKind::Set(values) if values.is_empty() => {
            let message = "must have at least one value";
            findings.push(Finding::new(path.member("set"), message));
        }
        // Its names are checked with the tables that it takes.
        StepKind::Set(_) | StepKind::Sql(_) => {}
        StepKind::Http(request) => http::check(request, &path.member("http"), findings),
        StepKind::Command(step) => command::check(step, &path.member("command"), findings),
        StepKind::Read(read) => files::check_read(read, &path.member("read"), findings),
        StepKind::Query(query) => {
            databases::check_statement(query, &path.member("query"), findings)
        }
        StepKind::Load(load) => databases::check_load(load, &path.member("load"), findings),
        StepKind::Execute(execute) => {
            databases::check_statement(execute, &path.member("execute"), findings);
        }
        StepKind::Write(write) => files::check_write(write, &path.member("write"), findings),
        StepKind::Check(check) => rules::check(check, &path.member("check"), findings),
    }
}

fn check_retry(retry: &RetryPolicy, path: &Path, findings: &mut Vec<Finding>) {
    let attempts_max = RetryPolicy::ATTEMPTS_MAX;
    if !(1..=attempts_max).contains(&retry.attempts) {
        let message = format!("must be from 1 to {attempts_max}, not {}", retry.attempts);
        findings.push(Finding::new(path.member("attempts"), message));
    }
    if retry.initial > retry.max {
        let message = format!(
            "the first wait, {}, is longer than the longest, {}",
            retry.initial, retry.max
        );
        findings.push(Finding::new(path.clone(), message));
    }
}

fn check_argument(name: &str, value: &Value, path: &Path, findings: &mut Vec<Finding>) {
    if !is_name(name) {
        findings.push(Finding {
            path: path.clone(),
            at: At::Name,
            message: "the name of an argument has 1 to 64 characters, none of them a line break \
                      or the like"
                .to_owned(),
        });
    }
    for (path, text) in texts::of_value(value, path) {
        if let texts::Text::Template(text) = text
            && is_template(text)
        {
            let message = "an argument's default is a value: it cannot have `{{ }}`";
            findings.push(Finding::new(path, message));
        }
    }
}
