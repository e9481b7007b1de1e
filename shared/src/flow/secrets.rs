//! Where a flow may name secrets, and which ones a step names.
//!
//! What a secret stands in must not be kept: so only what goes out to a service
//! or into a program may hold one, and nothing that is stored of a run.

use std::collections::BTreeSet;

use super::{
    expression,
    finding::Path,
    step::{Step, StepKind},
    texts::{self, Text},
};
use crate::id::SecretName;

/// What the name of a secret follows: `{{ secrets.token }}`.
pub const ROOT: &str = "secrets";

/// Why a secret is refused where it stands.
pub(super) const NOT_HERE: &str = "a secret cannot stand here, since this is kept or shown: secrets \
                                   go into what `http` sends, and into `env` and `stdin` of \
                                   `command`";

/// The parts of a step, which stands at `path`, that may name secrets.
pub(super) fn places(kind: &StepKind, path: &Path) -> Vec<Path> {
    match kind {
        StepKind::Http(http) => {
            let parts = http.multipart.iter().flatten();
            let multipart = path.member("http").member("multipart");
            let values = parts.map(|(name, _)| multipart.member(name).member("value"));
            // The names of files are kept and shown.
            let members = ["url", "headers", "query", "json", "form", "body", "auth"];
            let members = members.map(|name| path.member("http").member(name));
            members.into_iter().chain(values).collect()
        }
        // Everybody on a machine sees the arguments of its programs.
        StepKind::Command(_) => {
            let command = path.member("command");
            vec![command.member("env"), command.member("stdin")]
        }
        StepKind::Set(_)
        | StepKind::Read(_)
        | StepKind::Sql(_)
        | StepKind::Write(_)
        | StepKind::Check(_)
        | StepKind::Query(_)
        | StepKind::Load(_)
        | StepKind::Execute(_) => Vec::new(),
    }
}

/// The secrets that a step names, without those of the steps in its `on_error`.
pub fn named_by(step: &Step) -> BTreeSet<SecretName> {
    let root = Path::default();
    let places = places(&step.kind, &root);
    let mut named = BTreeSet::new();
    for (path, text) in texts::of_step(step, &root) {
        let Text::Template(template) = text else {
            continue;
        };
        // Reading a template takes far longer than looking for a word.
        let may_name = template.contains(ROOT) && places.iter().any(|at| path.is_within(at));
        if !may_name {
            continue;
        }
        let references = expression::references(template).unwrap_or_default();
        let secrets = references.into_iter().filter(|found| found.root == ROOT);
        named.extend(secrets.filter_map(|found| found.member?.parse().ok()));
    }
    named
}

#[cfg(test)]
mod tests {
    use crate::flow::Flow;

    use super::*;

    /// What is wrong with a flow of one step.
    fn wrong(step: &str) -> Vec<(String, String)> {
        let text = format!("id: f\nsteps:\n  - id: a\n    {step}\n");
        let problems = Flow::parse(&text).err().map(|invalid| invalid.problems);
        let problems = problems.into_iter().flatten();
        problems.map(|found| (found.path, found.message)).collect()
    }

    #[test]
    fn a_step_says_which_secrets_it_needs() {
        let text = "\
id: f
steps:
  - id: a
    http:
      url: 'https://h/{{ secrets.path }}'
      headers: { X: \"{{ secrets['header'] }}{{ inputs }}\" }
      query: { q: ['{{ secrets.query }}'] }
      json: { deep: [{ x: '{{ secrets.json | upper }}' }] }
      auth: { basic: { username: u, password: '{{ secrets.password }}' } }
    on_error: [{ id: b, http: { url: 'https://h/{{ secrets.other }}' } }]
  - id: c
    command: { program: x, env: { E: '{{ secrets.env }}' }, stdin: ['{{ secrets.stdin }}'] }
  - id: e
    http: { url: 'https://h', multipart: { f: { value: '{{ secrets.part }}' } } }
  - id: d
    set: { x: secrets.none, y: \"{{ 'secrets.none' }}\" }
";
        let flow = Flow::parse(text).unwrap();
        let named = |step: usize| {
            let named = named_by(&flow.steps[step]).into_iter();
            named.map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named(0), ["header", "json", "password", "path", "query"]);
        assert_eq!(named(1), ["env", "stdin"]);
        assert_eq!(named(2), ["part"]);
        assert!(named(3).is_empty());
    }

    #[test]
    fn what_is_kept_can_hold_no_secret() {
        let secret = "'{{ secrets.token }}'";
        for (step, place) in [
            (format!("set: {{ x: [{secret}] }}"), "steps[0].set.x[0]"),
            (
                format!("command: {{ program: x, args: [{secret}] }}"),
                "steps[0].command.args[0]",
            ),
            (
                format!("command: {{ program: {secret} }}"),
                "steps[0].command.program",
            ),
            (
                "when: secrets.token == 1\n    set: { x: 1 }".to_owned(),
                "steps[0].when",
            ),
            (
                "read: { path: '{{ secrets.token }}.csv' }".to_owned(),
                "steps[0].read.path",
            ),
            (
                format!("http: {{ url: 'https://h', save: {secret} }}"),
                "steps[0].http.save",
            ),
            (
                format!("http: {{ url: 'https://h', multipart: {{ a: {{ file: {secret} }} }} }}"),
                "steps[0].http.multipart.a.file",
            ),
            (
                format!("set: {{ x: 1 }}\noutput: {{ x: {secret} }}"),
                "output.x",
            ),
            (
                format!("set: {{ x: 1 }}\nconcurrency: {{ limit: 1, key: {secret} }}"),
                "concurrency.key",
            ),
        ] {
            assert_eq!(
                wrong(&step),
                [(place.to_owned(), NOT_HERE.to_owned())],
                "{step}"
            );
        }
    }

    #[test]
    fn a_secret_is_named_outright() {
        for (expression, expected) in [
            ("secrets", "a secret must be named"),
            ("secrets[inputs]", "a secret must be named"),
            ("secrets | tojson", "a secret must be named"),
            ("secrets['a b']", "a secret"),
        ] {
            let step = format!("http: {{ url: \"https://h/{{{{ {expression} }}}}\" }}");
            let found = wrong(&step);
            assert_eq!(found[0].0, "steps[0].http.url", "{found:?}");
            assert!(found[0].1.starts_with(expected), "{found:?}");
        }
    }
}
