//! What each kind of step must satisfy by itself.

use serde_json::Value;

use super::{command, databases, files, inputs::is_name, rules, timeout};
use crate::{
    flow::{
        expression::is_template,
        finding::{At, Finding, Path},
        step::{HttpStep, Step, StepKind},
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
        StepKind::Http(http) => check_http(http, &path.member("http"), findings),
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

fn check_http(http: &HttpStep, path: &Path, findings: &mut Vec<Finding>) {
    if let Some(message) = bad_url(&http.url) {
        findings.push(Finding::new(path.member("url"), message));
    }
    for (name, value) in &http.headers {
        let path = path.member("headers").member(name);
        if !is_header_name(name) {
            findings.push(Finding {
                path,
                at: At::Name,
                message: format!("`{}` cannot be a header", name.escape_debug()),
            });
        } else if value.contains(|character| character != '\t' && char::is_control(character)) {
            findings.push(Finding::new(path, "a header is one line"));
        }
    }
    let bodies = [
        ("json", http.json.is_some()),
        ("form", http.form.is_some()),
        ("body", http.body.is_some()),
    ];
    let given: Vec<&str> = bodies
        .iter()
        .filter_map(|(name, is_given)| is_given.then_some(*name))
        .collect();
    if given.len() > 1 {
        let given = given.join("` and `");
        let message = format!("at most one of `json`, `form` and `body` stands, not `{given}`");
        findings.push(Finding::new(path.clone(), message));
    }
}

/// What is wrong with an address, as far as it can be told before its templates
/// are replaced.
fn bad_url(url: &str) -> Option<&'static str> {
    let literal = url.split("{{").next().unwrap_or_default();
    let literal = literal.split("{%").next().unwrap_or_default();
    let is_whole = literal.len() == url.len();
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = literal.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        // `{{ inputs.url }}` and `http{{ s }}://…` show only when they run.
        let start = literal.to_ascii_lowercase();
        let is_open = !is_whole && "https://".starts_with(&start) | "http://".starts_with(&start);
        return (!is_open).then_some("must start with `http://` or `https://`");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() && (is_whole || authority.len() < rest.len()) {
        return Some("names no host");
    }
    let has_user = authority.contains('@');
    has_user.then_some("must have no user name or password; use `auth`")
}

fn is_header_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
