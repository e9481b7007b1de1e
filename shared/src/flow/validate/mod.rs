//! What a flow must satisfy beyond its shape.

mod command;
mod databases;
mod files;
mod http;
mod inputs;
mod names;
mod pages;
mod rules;
mod steps;

use std::collections::HashMap;

use super::{
    Flow,
    finding::{Finding, Path},
    graph,
    step::{OnError, Step},
};
use crate::{duration::Span, id::StepId};

/// The most steps in a flow, those in `on_error` and `on_failure` included.
pub const STEPS_MAX: usize = 1000;

/// The most inputs of a flow.
pub const INPUTS_MAX: usize = 200;

/// The highest limit of runs at once.
const CONCURRENCY_MAX: u32 = 10_000;

/// The highest limit of runs on their way.
const QUEUE_LIMIT_MAX: u32 = 1_000_000;

/// All that is wrong with `flow`.
pub(super) fn findings(flow: &Flow) -> Vec<Finding> {
    let root = Path::default();
    let steps = all_steps(flow);
    let mut findings = Vec::new();
    limits(flow, steps.len(), &mut findings);
    if !findings.is_empty() {
        // Checking what is too much would take too long.
        return findings;
    }
    inputs::check(&flow.inputs, &root.member("inputs"), &mut findings);
    concurrency(flow, &mut findings);
    queue_limit(flow, &mut findings);
    timeout(flow.timeout, &root, &mut findings);
    unique(&steps, &mut findings);
    for (path, step) in &steps {
        steps::check(step, path, &mut findings);
    }
    names::check(flow, &mut findings);
    cycles(&flow.steps, &root.member("steps"), &mut findings);
    cycles(&flow.on_failure, &root.member("on_failure"), &mut findings);
    findings
}

/// All steps of a flow with their places, in the order of the text.
fn all_steps(flow: &Flow) -> Vec<(Path, &Step)> {
    let root = Path::default();
    let mut found = Vec::new();
    collect(&flow.steps, &root.member("steps"), &mut found);
    collect(&flow.on_failure, &root.member("on_failure"), &mut found);
    found
}

fn collect<'a>(steps: &'a [Step], path: &Path, found: &mut Vec<(Path, &'a Step)>) {
    for (index, step) in steps.iter().enumerate() {
        let path = path.item(index);
        found.push((path.clone(), step));
        if let OnError::Steps(inner) = &step.on_error {
            collect(inner, &path.member("on_error"), found);
        }
    }
}

fn limits(flow: &Flow, steps: usize, findings: &mut Vec<Finding>) {
    let root = Path::default();
    if flow.steps.is_empty() {
        findings.push(Finding::new(
            root.member("steps"),
            "a flow has at least one step",
        ));
    }
    if steps > STEPS_MAX {
        let message = format!("a flow has at most {STEPS_MAX} steps, not {steps}");
        findings.push(Finding::new(root.member("steps"), message));
    }
    let inputs = flow.inputs.len();
    if inputs > INPUTS_MAX {
        let message = format!("a flow has at most {INPUTS_MAX} inputs, not {inputs}");
        findings.push(Finding::new(root.member("inputs"), message));
    }
}

fn concurrency(flow: &Flow, findings: &mut Vec<Finding>) {
    if let Some(concurrency) = &flow.concurrency
        && !(1..=CONCURRENCY_MAX).contains(&concurrency.limit)
    {
        let path = Path::default().member("concurrency").member("limit");
        let message = format!(
            "must be from 1 to {CONCURRENCY_MAX}, not {}",
            concurrency.limit
        );
        findings.push(Finding::new(path, message));
    }
}

fn queue_limit(flow: &Flow, findings: &mut Vec<Finding>) {
    if let Some(limit) = flow.queue_limit
        && !(1..=QUEUE_LIMIT_MAX).contains(&limit)
    {
        let message = format!("must be from 1 to {QUEUE_LIMIT_MAX}, not {limit}");
        findings.push(Finding::new(Path::default().member("queue_limit"), message));
    }
}

/// Checks the member `timeout` of what stands at `path`.
fn timeout(timeout: Option<Span>, path: &Path, findings: &mut Vec<Finding>) {
    timeout_of("timeout", timeout, path, findings);
}

/// Checks a member that limits how long something may take.
fn timeout_of(name: &str, timeout: Option<Span>, path: &Path, findings: &mut Vec<Finding>) {
    if timeout.is_some_and(|timeout| timeout.as_millis() == 0) {
        let message = "must be at least `1ms`";
        findings.push(Finding::new(path.member(name), message));
    }
}

fn unique(steps: &[(Path, &Step)], findings: &mut Vec<Finding>) {
    let mut seen = HashMap::new();
    for (path, step) in steps {
        let folded = step.id.as_str().to_ascii_lowercase();
        if let Some(first) = seen.insert(folded, &step.id) {
            let message = format!(
                "`{}` is taken by another step, `{first}`; case does not count",
                step.id
            );
            findings.push(Finding::new(path.member("id"), message));
        }
    }
}

fn cycles(steps: &[Step], path: &Path, findings: &mut Vec<Finding>) {
    let position = |id: &StepId| steps.iter().position(|step| step.id == *id);
    for mut cycle in graph::cycles(&graph::upstream(steps)) {
        let first = cycle.iter().enumerate().min_by_key(|(_, id)| position(id));
        let Some((start, _)) = first else { continue };
        cycle.rotate_left(start);
        cycle.extend(cycle.first().cloned());
        let index = cycle.first().and_then(position).unwrap_or_default();
        let names: Vec<&str> = cycle.iter().map(|id| id.as_str()).collect();
        let message = format!(
            "steps wait for one another in a circle: {}",
            names.join(" waits for ")
        );
        findings.push(Finding::new(path.item(index), message));
    }
}

#[cfg(test)]
mod tests {
    use crate::flow::Flow;

    /// What is wrong with `text`, as `line:column path: message`.
    fn problems(text: &str) -> Vec<String> {
        let problems = Flow::parse(text).err().map(|invalid| invalid.problems);
        let show = |problem: crate::flow::Problem| {
            let (line, column) = (problem.line, problem.column);
            format!("{line}:{column} {}: {}", problem.path, problem.message)
        };
        problems.into_iter().flatten().map(show).collect()
    }

    fn assert_problems(text: &str, expected: &[&str]) {
        assert_eq!(problems(text), expected, "{text}");
    }

    #[test]
    fn ids_differ_in_more_than_case_all_over_the_flow() {
        let text = "\
id: f
steps:
  - { id: load, set: { x: 1 } }
  - id: other
    set: { x: 1 }
    on_error:
      - { id: LOAD, set: { x: 1 } }
on_failure:
  - { id: Other, set: { x: 1 } }
";
        assert_problems(
            text,
            &[
                "7:15 steps[1].on_error[0].id: `LOAD` is taken by another step, `load`; case does \
                 not count",
                "9:11 on_failure[0].id: `Other` is taken by another step, `other`; case does not \
                 count",
            ],
        );
    }

    #[test]
    fn needs_name_other_steps() {
        let text = "\
id: f
steps:
  - { id: a, needs: [a, b, Nope, B], set: { x: 1 } }
  - { id: b, set: { x: 1 } }
";
        assert_problems(
            text,
            &[
                "3:22 steps[0].needs[0]: a step cannot name itself",
                "3:28 steps[0].needs[2]: there is no step `Nope`",
                "3:34 steps[0].needs[3]: there is no step `B`; did you mean `b`?",
            ],
        );
    }

    #[test]
    fn a_circle_is_named_whatever_it_is_made_of() {
        let text = "\
id: f
steps:
  - { id: z, set: { x: 1 } }
  - { id: a, needs: [d], read: { path: x.csv } }
  - { id: b, sql: select * from A }
  - { id: c, write: { path: c.csv, from: b } }
  - { id: d, when: steps.c.rows > 0, set: { x: 1 } }
  - { id: m, set: { x: \"{{ steps['n'].rows }}\" } }
  - id: n
    set: { x: 1 }
    on_error: [{ id: o, set: { x: '{{ steps.m.state }}' } }]
";
        assert_problems(
            text,
            &[
                "4:5 steps[1]: steps wait for one another in a circle: a waits for d waits for c \
                 waits for b waits for a",
                "8:5 steps[5]: steps wait for one another in a circle: m waits for n waits for m",
            ],
        );
    }

    #[test]
    fn templates_name_what_there_is() {
        let text = "\
id: f
inputs: { day: { type: date } }
steps:
  - id: a
    args: { least: 1 }
    set:
      - no list
";
        assert!(problems(text)[0].starts_with("7:7 steps[0].set: must be a map"));
        let text = "\
id: f
inputs: { day: { type: date } }
steps:
  - id: a
    args: { least: 1 }
    when: args.lest > inputs.dy
    set:
      fine: '{% for day in [inputs.day] %}{{ day }}{{ args.least }}{{ run.id }}{% endfor %}'
      root: '{{ env.HOME }} {{ now() }}'
      step: '{{ steps.b.rows }}'
      bare: [{ deep: '{{ steps[inputs.day] }}' }]
      form: '{{ 1 + }}'
      name: '{{ 1 | nope }}'
  - id: c
    http: { url: 'https://x/{{ steps.A.value }}', headers: { X: '{{ args.least }}' } }
output: { x: '{{ args.least }}', y: ['{{ steps.a }}'] }
concurrency: { limit: 1, key: '{{ inputs.day }}{{ run.id }}' }
";
        let known = "known are `inputs`, `steps`, `run`, `args`";
        assert_problems(
            text,
            &[
                "6:11 steps[0].when: the step has no argument `lest` in its `args`",
                "6:11 steps[0].when: the flow has no input `dy`",
                &format!("9:13 steps[0].set.root: `env` is not known here; {known}"),
                &format!("9:13 steps[0].set.root: `now` is not known here; {known}"),
                "10:13 steps[0].set.step: there is no step `b`",
                "11:22 steps[0].set.bare[0].deep: a step must be named, as in `steps.load.rows`",
                "12:13 steps[0].set.form: in `{{ 1 + }}`: unexpected `}}`",
                "13:13 steps[0].set.name: in `{{ 1 | nope }}`: there is no filter `nope`",
                "15:18 steps[1].http.url: there is no step `A`; did you mean `a`?",
                "15:65 steps[1].http.headers.X: the step has no argument `least` in its `args`",
                "16:14 output.x: `args` is not known here; known are `inputs`, `steps`, `run`",
                "17:31 concurrency.key: `run` is not known here; known are `inputs`",
            ],
        );
    }

    #[test]
    fn a_table_is_taken_from_a_step_that_makes_one() {
        let text = "\
id: f
steps:
  - { id: raw, read: { path: x.csv } }
  - { id: values, set: { x: 1 } }
  - id: joined
    sql: |
      with own as (select * from RAW)
      select * from own join nope on true
      join \"Raw\" on true join joined on true
  - { id: out, write: { path: x.csv, from: values } }
  - { id: out2, write: { path: x.csv, from: out3 } }
  - { id: many, sql: 'select 1; select 2' }
  - { id: templated, sql: \"select '{{ x }}' from {{ inputs.table }}\" }
";
        assert_problems(
            text,
            &[
                "8:30 steps[2].sql: there is no step `nope`",
                "9:12 steps[2].sql: there is no step `Raw`; did you mean `raw`?",
                "9:31 steps[2].sql: a step cannot name itself",
                "10:44 steps[3].write.from: `values` makes no table; steps with `read`, \
                 `query`, `sql` and `http` with `extract: { to: table }` do",
                "11:45 steps[4].write.from: there is no step `out3`",
                "12:22 steps[5].sql: must be one query, not several",
                "13:50 steps[6].sql: the SQL is not well formed: identifier is expected here, not \
                 `{`; SQL is not a template, so `{{ }}` has no meaning in it",
            ],
        );
    }

    #[test]
    fn what_runs_after_a_failure_names_only_what_can_have_run() {
        let text = "\
id: f
steps:
  - { id: raw, read: { path: x.csv } }
  - id: a
    sql: select * from raw
    on_error:
      - { id: b, set: { x: '{{ steps.a.error }} {{ steps.raw.rows }} {{ steps.c }}' } }
      - { id: c, set: { x: '{{ steps.b.value }}' } }
      - { id: d, write: { path: d.csv, from: a } }
      - { id: e, write: { path: e.csv, from: raw } }
  - { id: g, set: { x: '{{ steps.b }}' } }
on_failure:
  - { id: h, set: { x: '{{ steps.a.error }} {{ run.error.message }} {{ steps.b }}' } }
  - { id: i, needs: [h], write: { path: i.csv, from: raw } }
output: '{{ steps.h }}'
";
        let rest = "cannot be named here: it may not have run";
        let expected = [
            format!("7:28 steps[1].on_error[0].set.x: the step `c` {rest}"),
            format!("9:46 steps[1].on_error[2].write.from: the step `a` {rest}"),
            format!("11:24 steps[2].set.x: the step `b` {rest}"),
            format!("13:24 on_failure[0].set.x: the step `b` {rest}"),
            format!("14:54 on_failure[1].write.from: the step `raw` {rest}"),
            format!("15:9 output: the step `h` {rest}"),
        ];
        let found = problems(text);
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_and_times_stay_in_their_limits() {
        let text = "\
id: f
timeout: 0s
concurrency: { limit: 0 }
queue_limit: 0
steps:
  - id: a
    timeout: 0ms
    retry: { attempts: 0, initial: 5s, max: 1s }
    set: {}
    when: '{{ true }}'
    args: { x: ['{{ inputs.day }}'] }
";
        assert_problems(
            text,
            &[
                "2:10 timeout: must be at least `1ms`",
                "3:23 concurrency.limit: must be from 1 to 10000, not 0",
                "4:14 queue_limit: must be from 1 to 1000000, not 0",
                "7:14 steps[0].timeout: must be at least `1ms`",
                "8:12 steps[0].retry: the first wait, 5s, is longer than the longest, 1s",
                "8:24 steps[0].retry.attempts: must be from 1 to 100, not 0",
                "9:10 steps[0].set: must have at least one value",
                "10:11 steps[0].when: is an expression by itself: write it without `{{ }}`",
                "11:17 steps[0].args.x[0]: an argument's default is a value: it cannot have `{{ }}`",
            ],
        );
    }

    #[test]
    fn an_input_fits_its_type() {
        let text = "\
id: f
inputs:
  a: { type: integer, default: x }
  b: { type: date, enum: [2026-02-30, 2026-02-28] }
  c: { type: string, enum: [], default: q }
  d: { type: string, enum: [a, b], default: c }
  e: { type: boolean, required: true, default: true }
  f: { type: integer, enum: ['1', 2], default: '2' }
  \"\": { type: string }
steps: [{ id: a, set: { x: 1 } }]
";
        assert_problems(
            text,
            &[
                "3:32 inputs.a.default: must be a whole number of 64 bits, not `x`",
                "4:27 inputs.b.enum[0]: must be a date such as `2026-11-24`, not `2026-02-30`",
                "5:28 inputs.c.enum: must have at least one value",
                "6:45 inputs.d.default: must be one of `a`, `b`, not `c`",
                "7:48 inputs.e.default: a required input has no default: leave out one of the two",
                "9:3 inputs[\"\"]: the name of an input has 1 to 64 characters, none of them a line \
                 break or the like",
            ],
        );
    }

    #[test]
    fn an_http_request_can_be_sent() {
        let text = "\
id: f
inputs: { host: { type: string } }
steps:
  - { id: a, http: { url: 'ftp://x', json: 1, body: x } }
  - { id: b, http: { url: 'https://u:p@x/{{ inputs.host }}' } }
  - { id: c, http: { url: 'https:///x' } }
  - { id: d, http: { url: '{{ inputs.host }}/x@y' } }
  - { id: e, http: { url: 'HTTP://x/@?{{ inputs.host }}', headers: { 'a b': x, C: \"x\\n\" } } }
  - { id: g, http: { url: '/{{ inputs.host }}' } }
  - { id: h, http: { url: 'file://{{ inputs.host }}' } }
  - { id: i, http: { url: 'https://{{ inputs.host }}' } }
  - { id: j, command: { program: ' ', env: { 'a=b': 1 } } }
";
        let scheme = "must start with `http://` or `https://`, or follow on the address of a \
                      `connection`";
        assert_problems(
            text,
            &[
                "4:20 steps[0].http: at most one of `json`, `form`, `body`, `file`, `table` and \
                 `multipart` stands, not `json` and `body`",
                &format!("4:27 steps[0].http.url: {scheme}"),
                "5:27 steps[1].http.url: must have no user name or password; use `auth`",
                "6:27 steps[2].http.url: names no host",
                "8:70 steps[4].http.headers[\"a b\"]: `a b` cannot be a header",
                "8:83 steps[4].http.headers.C: a header is one line",
                &format!("9:27 steps[5].http.url: {scheme}"),
                &format!("10:27 steps[6].http.url: {scheme}"),
                "12:34 steps[8].command.program: must name a program",
                "12:46 steps[8].command.env[\"a=b\"]: the name of a variable is not empty and has \
                 no `=`",
            ],
        );
    }

    #[test]
    fn a_program_can_get_and_hand_back_its_tables() {
        let text = "\
id: f
steps:
  - { id: a, read: { path: a.csv } }
  - { id: B, read: { path: b.csv } }
  - id: c
    command:
      program: sort
      args: ['{{ tables.a }}{{ tables.c }}', '{{ tables.d }}', '{{ tables }}']
      tables: { in: { a: { format: csv }, B: { format: parquet, csv: {} }, c: { format: csv }, x: { format: csv } } }
  - id: d
    command: { program: x, tables: {}, limits: { processes: 0, open_files: 15, cpu_time: 0s } }
  - id: e
    command: { program: x, stdin: 1, tables: { in: { d: { format: json, via: stdin } }, out: { format: arrow, columns: { a: date } } } }
  - { id: g, set: { x: '{{ tables.e }}' } }
  - { id: h, sql: select * from e }
  - id: i
    command: { program: x, env: { P: '{{ tables.i }}' }, tables: { out: { format: csv, csv: { quote: ',' } } } }
";
        assert_problems(
            text,
            &[
                "8:46 steps[2].command.args[1]: the command has no table `d` in its `tables`: the one that it makes is called like its step",
                "8:64 steps[2].command.args[2]: a table must be named, as in `tables.orders`",
                "9:70 steps[2].command.tables.in.B.csv: has a meaning for CSV files only, and this is another format",
                "9:79 steps[2].command.tables.in.c: a step cannot name itself",
                "9:99 steps[2].command.tables.in.x: there is no step `x`",
                "11:36 steps[3].command.tables: must have tables in `in` or one in `out`",
                "11:61 steps[3].command.limits.processes: must be at least 1",
                "11:76 steps[3].command.limits.open_files: must be at least 16",
                "11:90 steps[3].command.limits.cpu_time: must be at least `1ms`",
                "13:46 steps[4].command.tables: standard input is one table or `stdin`, not several of them",
                "13:57 steps[4].command.tables.in.d: `d` makes no table; a `command` does where its `tables` have `out`",
                "13:120 steps[4].command.tables.out.columns: an Arrow file says itself which columns it has",
                "14:24 steps[5].set.x: `tables` is not known here; known are `inputs`, `steps`, `run`, `args`",
                "17:102 steps[7].command.tables.out.csv.quote: must not be the delimiter as well",
            ],
        );
    }

    #[test]
    fn the_format_of_a_file_can_be_told() {
        let text = "\
id: f
inputs: { x: { type: string } }
steps:
  - { id: a, read: { path: in.txt } }
  - { id: b, read: { path: 'in/{{ inputs.x }}' } }
  - { id: c, read: { path: '{{ inputs.x }}/in' } }
  - { id: d, read: { path: '{{ inputs.x }}.JSONL' } }
  - { id: e, read: { path: in.txt, format: csv, columns: {} } }
  - { id: g, read: { path: in.parquet, columns: { x: date } } }
  - { id: h, read: { path: '' } }
  - { id: i, write: { path: 'out/{{ inputs.x }}', from: a } }
  - { id: j, write: { path: 'out/{{ inputs.x }}.csv', from: a } }
  - { id: k, write: { path: 'out/{{ inputs.x }}', from: a, format: parquet } }
";
        let untold = "the ending does not tell the format: end with `.csv`, `.json`, `.ndjson`, \
                      `.parquet`, `.arrow`, `.arrows` or `.xlsx`, or give `format`";
        assert_problems(
            text,
            &[
                &format!("4:28 steps[0].read.path: {untold}"),
                &format!("6:28 steps[2].read.path: {untold}"),
                "8:58 steps[4].read.columns: must have at least one column",
                "9:49 steps[5].read.columns: a Parquet file says itself which columns it has",
                "10:28 steps[6].read.path: must name a file",
                &format!("11:29 steps[7].write.path: {untold}"),
            ],
        );
    }

    #[test]
    fn what_a_flow_says_of_files_has_a_meaning() {
        let text = "\
id: f
steps:
  - { id: a, read: { path: in.json, csv: { delimiter: ';' } } }
  - { id: b, read: { path: in.csv, csv: { delimiter: \"'\", quote: \"'\" } } }
  - { id: c, read: { path: in.parquet.gz } }
  - { id: d, read: { path: in.csv.gz, csv: { quote: '', delimiter: \"\\t\" } } }
  - { id: e, read: { path: in.csv, reject_limit: 5, rejects: { path: x } } }
  - { id: g, read: { path: in.csv, on_bad_row: reject, reject_limit: 0, rejects: { path: '' } } }
  - { id: h, write: { path: out.csv, from: a, csv: { quote: ',' } } }
  - { id: i, write: { path: out.ndjson.zst, from: a, csv: { header: false } } }
  - { id: j, read: { path: in.xlsx, excel: { sheet: Orders, header_row: 0 } } }
  - { id: k, read: { path: in.csv, excel: {} } }
  - { id: l, read: { path: in.arrow, columns: { a: date } } }
  - { id: n, write: { path: out.ods, from: l } }
  - { id: m, write: { path: out, from: l, partition_by: [x, x, ''] } }
";
        assert_problems(
            text,
            &[
                "3:42 steps[0].read.csv: has a meaning for CSV files only, and this is another format",
                "4:66 steps[1].read.csv.quote: must not be the delimiter as well",
                "5:28 steps[2].read.path: only CSV, JSON and NDJSON files are compressed as a whole; \
                 the others are compressed inside",
                "7:50 steps[4].read.reject_limit: has a meaning only with `on_bad_row: reject`",
                "7:62 steps[4].read.rejects: has a meaning only with `on_bad_row: reject`",
                "8:70 steps[5].read.reject_limit: must be from 1 to 10000",
                "8:90 steps[5].read.rejects.path: must name a file",
                "9:61 steps[6].write.csv.quote: must not be the delimiter as well",
                "10:59 steps[7].write.csv: has a meaning for CSV files only, and this is another format",
                "11:73 steps[8].read.excel.header_row: rows are counted from 1",
                "12:43 steps[9].read.excel: has a meaning for workbooks only, and this is another format",
                "13:47 steps[10].read.columns: an Arrow file says itself which columns it has",
                "14:29 steps[11].write.path: a workbook is written as `.xlsx` and nothing else",
                "15:57 steps[12].write.partition_by: needs `format`, since `path` names a folder",
                "15:61 steps[12].write.partition_by[1]: names a column twice",
                "15:64 steps[12].write.partition_by[2]: must name a column",
            ],
        );
    }

    #[test]
    fn a_flow_has_some_steps_and_not_too_many() {
        assert_problems(
            "id: f\nsteps: []",
            &["2:8 steps: a flow has at least one step"],
        );
        let steps: String = (0..1001)
            .map(|n| format!("- {{id: s{n}, set: {{x: 1}}}}\n"))
            .collect();
        let text = format!("id: f\nsteps:\n{steps}");
        assert_problems(
            &text,
            &["3:3 steps: a flow has at most 1000 steps, not 1001"],
        );
        let inputs: String = (0..201)
            .map(|n| format!("  i{n}: {{type: date}}\n"))
            .collect();
        let text = format!("id: f\nsteps: [{{id: a, set: {{x: 1}}}}]\ninputs:\n{inputs}");
        assert_problems(
            &text,
            &["4:3 inputs: a flow has at most 200 inputs, not 201"],
        );
    }
}
