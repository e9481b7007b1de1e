//! Reading a flow's text: YAML or JSON in, a validated [`Flow`] or a list of
//! problems with line and column out.

mod places;
mod reader;
mod refused;
mod step;
mod yaml;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Flow,
    finding::{Finding, Path},
    validate,
};
use places::Places;

pub(crate) use step::StepDocument;

/// The longest text of a flow, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The most problems that are reported at once.
pub const PROBLEMS_MAX: usize = 100;

/// One thing that is wrong with a flow's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where in the document, as in `steps[2].read.path`; empty for the whole.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A text that is not a valid flow, with all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the flow is not valid")]
pub struct InvalidFlow {
    /// What is wrong, in the order of the text; never empty.
    pub problems: Vec<Problem>,
}

impl Flow {
    /// Reads and validates a flow written in YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, InvalidFlow> {
        let document = read_text(text).map_err(|problem| InvalidFlow {
            problems: vec![problem],
        })?;
        let invalid = |findings| invalid(text, &document, findings);
        let flow = reader::flow(&document).map_err(invalid)?;
        let findings = validate::findings(&flow);
        if findings.is_empty() {
            Ok(flow)
        } else {
            Err(invalid(findings))
        }
    }
}

fn read_text(text: &str) -> Result<Value, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem {
            path: String::new(),
            line: 1,
            column: 1,
            message: format!(
                "a flow has at most {TEXT_BYTES_MAX} bytes, not {}",
                text.len()
            ),
        });
    }
    yaml::read(text)
}

/// The findings as problems, in the order of the text.
fn invalid(text: &str, document: &Value, findings: Vec<Finding>) -> InvalidFlow {
    let places = Places::of(text);
    let mut problems: Vec<Problem> = findings
        .into_iter()
        .map(|finding| {
            let place = places.find(&finding.path, finding.at, document);
            Problem {
                path: finding.path.to_string(),
                line: place.line,
                column: place.column,
                message: finding.message,
            }
        })
        .collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup();
    if problems.len() > PROBLEMS_MAX {
        let further = problems.len() - PROBLEMS_MAX;
        problems.truncate(PROBLEMS_MAX);
        if let Some(last) = problems.last().cloned() {
            problems.push(Problem {
                path: Path::default().to_string(),
                message: format!("{further} further problems are not shown"),
                ..last
            });
        }
    }
    InvalidFlow { problems }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const DAILY_SALES: &str = include_str!("../../../../tests/fixtures/flows/daily-sales.yaml");
    const EVERYTHING: &str = include_str!("../../../../tests/fixtures/flows/everything.json");

    /// What is wrong with `text`, as `line:column path: message`.
    fn problems(text: &str) -> Vec<String> {
        let Err(invalid) = Flow::parse(text) else {
            return Vec::new();
        };
        assert_eq!(invalid.to_string(), "the flow is not valid");
        let show = |problem: Problem| {
            let Problem {
                path,
                line,
                column,
                message,
            } = problem;
            format!("{line}:{column} {path}: {message}")
        };
        invalid.problems.into_iter().map(show).collect()
    }

    /// Asserts that each of the expected texts begins a problem, in this order,
    /// and that there is no other.
    fn assert_problems(text: &str, expected: &[&str]) {
        let found = problems(text);
        let matches = found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| a.starts_with(b));
        assert!(matches, "{text}\n{found:#?}\nbut expected {expected:#?}");
    }

    #[test]
    fn a_flow_survives_being_stored() {
        for text in [DAILY_SALES, EVERYTHING] {
            let flow = Flow::parse(text).unwrap();
            let stored = serde_json::to_string(&flow).unwrap();
            assert_eq!(serde_json::from_str::<Flow>(&stored).unwrap(), flow);
            // What is stored is itself a valid text.
            assert_eq!(Flow::parse(&stored).unwrap(), flow);
        }
    }

    #[test]
    fn reading_what_is_stored_is_quick() {
        let flow = Flow::parse(DAILY_SALES).unwrap();
        let stored = serde_json::to_string(&flow).unwrap();
        let started = Instant::now();
        for _ in 0..100 {
            serde_json::from_str::<Flow>(&stored).unwrap();
        }
        let each = started.elapsed() / 100;
        // Without optimisation, on a busy machine.
        assert!(each.as_millis() < 5, "{each:?}");
    }

    #[test]
    fn a_text_that_is_no_document_is_refused_with_its_place() {
        for (text, expected) in [
            ("", "1:1 : must be a map, but is empty"),
            ("# nothing\n", "1:1 : must be a map, but is empty"),
            ("[]", "1:1 : must be a map, not a list"),
            ("hello", "1:1 : must be a map, not the text `hello`"),
            ("id: [", "1:5 : unclosed bracket '['"),
            ("id: f\n  steps: x", "2:8 : mapping values are not allowed"),
            ("id: f\nid: g", "2:1 : the member `id` stands here twice"),
            (
                "{\"id\": 1, \"id\": 2}",
                "1:11 : the member `id` stands here twice",
            ),
            ("id: f\n---\nid: g", "2:1 : a text holds one flow"),
            ("id: *x", "1:5 : there is no anchor of this name"),
            (
                "id: &x [*x]",
                "1:9 : an alias stands inside of what it repeats",
            ),
            ("id: !env f", "1:10 : the tag `!env` is not known"),
            ("id: .inf", "1:5 : `.inf` is not a finite number"),
            ("id: 1e999", "1:5 : `1e999` is not a finite number"),
            ("id: \"\\ud800\"", "1:5 : while parsing a quoted scalar"),
        ] {
            assert_problems(text, &[expected]);
        }
    }

    #[test]
    fn a_text_made_to_exhaust_its_reader_is_refused() {
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                      c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                      e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        for (text, expected) in [
            (laughs.to_owned(), "a flow has at most 100 aliases"),
            (
                format!("a: {}{}", "[".repeat(70), "]".repeat(70)),
                "nest at most 64 deep",
            ),
            (
                format!("a: {}", "[".repeat(200_000)),
                "recursion limit exceeded",
            ),
            (
                format!("a: {}", "{a: ".repeat(200_000)),
                "nest at most 64 deep",
            ),
            (
                format!("a: [{}]", "1,".repeat(200_000)),
                "a flow has at most 100000 parts",
            ),
            (
                format!("a: {}", "x".repeat(2_000_000)),
                "a flow has at most 1048576 bytes",
            ),
        ] {
            let found = problems(&text);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn aliases_and_tabs_and_odd_numbers_are_read_as_one_expects() {
        let text = "id: f\nsteps:\n- &a {id: a, set: &v {zip: 0755, big: 1_000, no: no}}\n\
                    - {id: b, set: *v}\n- {<<: *a, id: c}\n";
        let flow = Flow::parse(text).unwrap();
        let stored = serde_json::to_value(&flow).unwrap();
        let expected = serde_json::json!({ "zip": "0755", "big": "1_000", "no": "no" });
        for step in 0..3 {
            assert_eq!(stored["steps"][step]["set"], expected);
        }
        // What an alias brings in stands where the alias does.
        let text = "id: f\nsteps:\n- {id: a, set: &v {x: '{{ no }}'}}\n- {id: b, set: *v}\n";
        assert_problems(
            text,
            &["3:23 steps[0].set.x: `no`", "4:16 steps[1].set.x: `no`"],
        );
    }

    #[test]
    fn each_member_of_the_wrong_shape_is_named_at_once() {
        let text = "\
id: a b
timeout: 5
colour: red
schedules: []
concurrency: { limit: -1, when_full: queue }
inputs:
  a: { type: text }
  b: { requird: true, type: date }
  c: 5
steps:
  - id: one
    sett: { x: 1 }
    needs: two
    timeout: soon
  - sql: select 1
  - id: three
    query: { connection: crm 1 }
  - id: four
    http: { url: https://x, headers: { X: 5 } }
    on_error:
      - id: five
        read: { pth: x.csv }
  - [id, six]
";
        assert_problems(
            text,
            &[
                "1:5 id: a flow id must be 1 to 128 of",
                "2:10 timeout: must be a text, not the number 5; put it in quotes",
                "3:1 colour: there is no member `colour` here; known are `id`, `name`,",
                "4:1 schedules: `schedules` is not available in this version; known are",
                "5:23 concurrency.limit: must be a whole number, not the number -1",
                "7:14 inputs.a.type: must be `string`, `integer`, `number`, `boolean`,",
                "8:8 inputs.b.requird: there is no member `requird` here; known are `type`,",
                "9:6 inputs.c: must be a map, not the number 5",
                "12:5 steps[0].sett: there is no member `sett` here; known are `id`,",
                "13:12 steps[0].needs: must be a list, not the text `two`",
                "14:14 steps[0].timeout: a duration must be a number with a unit",
                "15:5 steps[1]: the member `id` is missing",
                "17:26 steps[2].query.connection: a connection must be 1 to 64 of",
                "19:43 steps[3].http.headers.X: must be a text, not the number 5; put it",
                "22:17 steps[3].on_error[0].read.pth: there is no member `pth` here",
                "23:5 steps[4]: must be a map, not a list",
            ],
        );
    }

    #[test]
    fn a_mark_of_csv_is_one_character() {
        assert_problems(
            "id: f\nsteps: [{id: a, read: {path: a.csv, csv: {delimiter: ab}} }]",
            &["2:54 steps[0].read.csv.delimiter: must be one ASCII character, and no line end"],
        );
    }

    #[test]
    fn the_shape_of_a_step_is_checked_to_its_depth() {
        for (step, expected) in [
            (
                "id: a",
                "2:9 steps[0]: a step has exactly one of `set`, `http`, `command`, `read`, \
                       `query`, `sql`, `load`, `execute`, `write`, `check`, and this one has none",
            ),
            (
                "id: a, sql: x, set: {x: 1}",
                "2:9 steps[0]: a step has exactly one of `set`, `http`, \
                       `command`, `read`, `query`, `sql`, `load`, `execute`, `write`, `check`, and this \
                       one has `set` and `sql`",
            ),
            (
                "id: a-b, sql: x",
                "2:14 steps[0].id: a step id must be 1 to 64",
            ),
            ("id: a, sql:", "2:9 steps[0]: a step has exactly one of"),
            (
                "id: a, set: 5",
                "2:22 steps[0].set: must be a map, not the number 5",
            ),
            (
                "id: a, set: {x: 1}, when: true",
                "2:36 steps[0].when: must be a text, not `true`",
            ),
            (
                "id: a, set: {x: 1}, needs:",
                "2:35 steps[0].needs: must be a list, but is empty",
            ),
            (
                "id: a, sql: x, on_error: later",
                "2:35 steps[0].on_error: must be `fail`, `continue` or a list of steps, not",
            ),
            (
                "id: a, http: {url: x, method: get}",
                "2:40 steps[0].http.method: must be `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or",
            ),
            (
                "id: a, http: {url: x, auth: basic}",
                "2:38 steps[0].http.auth: must be a map, not a name alone",
            ),
            (
                "id: a, http: {url: x, auth: {digest: {}}}",
                "2:39 steps[0].http.auth.digest: must be `basic` or `bearer`, not `digest`",
            ),
            (
                "id: a, http: {url: x, auth: {basic: {username: u}}}",
                "2:46 steps[0].http.auth.basic: the member `password` is missing",
            ),
            (
                "id: a, http: {url: x, auth: {basic: {}, bearer: {}}}",
                "2:38 steps[0].http.auth: must have exactly one of `basic` and `bearer`",
            ),
            (
                "id: a, read: {path: x.csv, columns: {n: int}}",
                "2:50 steps[0].read.columns.n: must be `string`, `integer`, `number`,",
            ),
            (
                "id: a, retry: {initial: 1s}, sql: x",
                "2:24 steps[0].retry: the member `attempts` is missing",
            ),
            (
                "id: a, retry: {attempts: 1.5}, sql: x",
                "2:35 steps[0].retry.attempts: must be a whole number, not the number 1.5",
            ),
        ] {
            assert_problems(&format!("id: f\nsteps: [{{{step} }}]"), &[expected]);
        }
    }

    #[test]
    fn a_place_within_a_text_is_found_where_the_text_stands_as_it_is() {
        let text = "\
id: f
steps:
  - id: a
    sql: |

      select *
        from ,
  - id: b
    sql: |2-

        select *
         from ,
  - { id: c, sql: 'select * from ,' }
  - { id: d, sql: select * from , }
  - id: e
    sql: >-
      select *
      from ,
  - id: g
    sql: \"select *\\nfrom ,\"
";
        let message = "the SQL is not well formed: identifier is expected here, not `,`";
        let expected = [
            (7, 14, "a"),
            (12, 15, "b"),
            (13, 34, "c"),
            (17, 7, "e"),
            (20, 10, "g"),
        ];
        let found = problems(text);
        // The comma ends the text of `d`, as YAML reads it.
        assert!(
            found.iter().any(|problem| problem.starts_with("14:")),
            "{found:#?}"
        );
        for (line, column, step) in expected {
            let start = format!("{line}:{column} ");
            let is_there =
                |problem: &String| problem.starts_with(&start) && problem.ends_with(message);
            assert!(found.iter().any(is_there), "{step}: {found:#?}");
        }
    }

    #[test]
    fn more_problems_than_anybody_reads_are_cut_off() {
        let steps: String = (0..150)
            .map(|n| format!("- {{id: s{n}, set: {{}}}}\n"))
            .collect();
        let found = problems(&format!("id: f\nsteps:\n{steps}"));
        assert_eq!(found.len(), PROBLEMS_MAX + 1);
        assert!(found[PROBLEMS_MAX].ends_with("50 further problems are not shown"));
        let members: String = (0..20_000).map(|n| format!("x{n}: 1\n")).collect();
        assert!(problems(&members).len() <= PROBLEMS_MAX + 1);
    }
}
