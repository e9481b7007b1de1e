//! The texts of a step that are templates or expressions, and where they stand.

use serde_json::Value;

use super::{
    finding::Path,
    step::{CommandStep, HttpAuth, HttpPart, HttpStep, Step, StepKind},
};

/// A text with something for Jinja in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// A text with `{{ … }}` in it.
    Template(&'a str),
    /// An expression without `{{ }}`.
    Condition(&'a str),
}

/// All texts of `step`, which stands at `path`, but not those of the steps in
/// its `on_error`.
pub(crate) fn of_step<'a>(step: &'a Step, path: &Path) -> Vec<(Path, Text<'a>)> {
    let mut texts = Texts::default();
    if let Some(when) = &step.when {
        texts.0.push((path.member("when"), Text::Condition(when)));
    }
    match &step.kind {
        StepKind::Set(values) => texts.members(values, &path.member("set")),
        StepKind::Http(http) => texts.http(http, &path.member("http")),
        StepKind::Command(command) => texts.command(command, &path.member("command")),
        StepKind::Read(read) => {
            let path = path.member("read");
            texts.text(&read.path, path.member("path"));
            if let Some(rejects) = &read.rejects {
                texts.text(&rejects.path, path.member("rejects").member("path"));
            }
        }
        StepKind::Write(write) => texts.text(&write.path, path.member("write").member("path")),
        StepKind::Query(query) => {
            texts.items(&query.params, &path.member("query").member("params"))
        }
        StepKind::Execute(execute) => {
            texts.items(&execute.params, &path.member("execute").member("params"));
        }
        // SQL is never a template, and rules and loads have nothing that
        // depends on a run.
        StepKind::Sql(_) | StepKind::Load(_) | StepKind::Check(_) => {}
    }
    texts.0
}

/// All texts in `value`, which stands at `path`.
pub(crate) fn of_value<'a>(value: &'a Value, path: &Path) -> Vec<(Path, Text<'a>)> {
    let mut texts = Texts::default();
    texts.value(value, path.clone());
    texts.0
}

#[derive(Default)]
struct Texts<'a>(Vec<(Path, Text<'a>)>);

impl<'a> Texts<'a> {
    fn text(&mut self, text: &'a str, path: Path) {
        self.0.push((path, Text::Template(text)));
    }

    fn value(&mut self, value: &'a Value, path: Path) {
        match value {
            Value::String(text) => self.text(text, path),
            Value::Array(items) => self.items(items, &path),
            Value::Object(members) => self.members(members, &path),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn items(&mut self, items: &'a [Value], path: &Path) {
        for (index, item) in items.iter().enumerate() {
            self.value(item, path.item(index));
        }
    }

    fn members(&mut self, members: impl IntoIterator<Item = (&'a String, &'a Value)>, path: &Path) {
        for (name, value) in members {
            self.value(value, path.member(name));
        }
    }

    fn http(&mut self, http: &'a HttpStep, path: &Path) {
        self.text(&http.url, path.member("url"));
        for (name, value) in &http.headers {
            self.text(value, path.member("headers").member(name));
        }
        self.members(&http.query, &path.member("query"));
        if let Some(json) = &http.json {
            self.value(json, path.member("json"));
        }
        if let Some(form) = &http.form {
            self.members(form, &path.member("form"));
        }
        for (name, text) in [
            ("body", &http.body),
            ("file", &http.file),
            ("save", &http.save),
        ] {
            if let Some(text) = text {
                self.text(text, path.member(name));
            }
        }
        for (name, part) in http.multipart.iter().flatten() {
            self.part(part, &path.member("multipart").member(name));
        }
        let auth = path.member("auth");
        match &http.auth {
            None => {}
            Some(HttpAuth::Basic { username, password }) => {
                self.text(username, auth.member("basic").member("username"));
                self.text(password, auth.member("basic").member("password"));
            }
            Some(HttpAuth::Bearer { token }) => {
                self.text(token, auth.member("bearer").member("token"));
            }
        }
    }

    fn part(&mut self, part: &'a HttpPart, path: &Path) {
        if let Some(value) = &part.value {
            self.value(value, path.member("value"));
        }
        for (name, text) in [
            ("file", &part.file),
            ("filename", &part.filename),
            ("content_type", &part.content_type),
        ] {
            if let Some(text) = text {
                self.text(text, path.member(name));
            }
        }
    }

    fn command(&mut self, command: &'a CommandStep, path: &Path) {
        self.text(&command.program, path.member("program"));
        self.items(&command.args, &path.member("args"));
        if let Some(stdin) = &command.stdin {
            self.value(stdin, path.member("stdin"));
        }
        self.members(&command.env, &path.member("env"));
    }
}
