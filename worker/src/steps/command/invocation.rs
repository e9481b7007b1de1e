//! What a `command` step runs, with its templates filled in.

use std::{
    io::{Error, ErrorKind},
    path::Path,
};

use millstream_shared::flow::{
    expression::{ExpressionError, Scope, render},
    step::CommandStep,
};
use serde_json::Value;

use super::{limits::Limits, supervisor::Order};
use crate::{mask::Mask, steps::StepError};

/// A program with all that it is given.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    pub(super) stdin: Vec<u8>,
    /// Hides secrets in what the program prints.
    pub(super) mask: Mask,
    /// The paths of its tables, by the variables that hold them.
    pub(super) tables: Vec<(String, String)>,
    search_path: String,
}

impl Invocation {
    /// What a step runs where its templates can name what is in `scope`.
    pub(super) fn of_step(
        step: &CommandStep,
        scope: &Scope,
        search_path: &str,
    ) -> Result<Self, StepError> {
        let filled_in = || -> Result<CommandStep, ExpressionError> {
            let mut step = step.clone();
            for template in step
                .args
                .iter_mut()
                .chain(step.env.values_mut())
                .chain(step.stdin.iter_mut())
            {
                *template = render(template, scope)?;
            }
            Ok(step)
        };
        let step =
            filled_in().map_err(|error| StepError::permanent("expression", error.to_string()))?;
        Self::new(&step, search_path)
    }

    /// What a step runs whose templates are filled in.
    pub(super) fn new(step: &CommandStep, search_path: &str) -> Result<Self, StepError> {
        let program = step.program.clone();
        if program.is_empty()
            || program.contains('\0')
            || (program.contains('/') && !program.starts_with('/'))
        {
            return Err(StepError::permanent(
                "command_program",
                format!(
                    "`program` must be an absolute path or a name on the search path, not `{program}`"
                ),
            ));
        }
        if let Some(name) = step.env.keys().find(|name| !is_variable(name)) {
            return Err(StepError::permanent(
                "command_program",
                format!("`{name}` is not the name of an environment variable"),
            ));
        }
        let env = step.env.iter();
        Ok(Self {
            program,
            args: step.args.iter().map(text).collect(),
            env: env
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            stdin: step.stdin.as_ref().map(text).unwrap_or_default().into(),
            mask: Mask::default(),
            tables: Vec::new(),
            search_path: search_path.to_owned(),
        })
    }

    /// The command in `folder`, within `limits`.
    pub(super) fn order(&self, folder: &Path, limits: &Limits) -> Result<Order, StepError> {
        let place = folder.to_string_lossy().into_owned();
        let own = [
            ("PATH", self.search_path.clone()),
            ("HOME", place.clone()),
            ("TMPDIR", place),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        let own = own
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter();
        let env: Vec<_> = own
            .chain(self.tables.clone())
            .chain(self.env.clone())
            .collect();
        let texts = env.iter().flat_map(|(name, value)| [name, value]);
        if texts.chain(&self.args).any(|text| text.contains('\0')) {
            return Err(self.not_started(&ErrorKind::InvalidInput.into()));
        }
        Ok(Order {
            program: self.program.clone(),
            args: self.args.clone(),
            env,
            folder: folder.to_owned(),
            bounds: limits.bounds(),
        })
    }

    /// Why the program could not be started. The message names the program
    /// alone: arguments and environment may hold secrets.
    pub(super) fn not_started(&self, error: &Error) -> StepError {
        let program = &self.program;
        match error.kind() {
            ErrorKind::NotFound => StepError::permanent(
                "command_program",
                format!(
                    "program `{program}`, or the interpreter that it names, was not found on this worker"
                ),
            ),
            ErrorKind::PermissionDenied => StepError::permanent(
                "command_program",
                format!("program `{program}` may not be executed by this worker"),
            ),
            ErrorKind::InvalidInput => StepError::permanent(
                "command_program",
                format!("program `{program}` was given a text with a NUL character"),
            ),
            ErrorKind::ArgumentListTooLong => StepError::permanent(
                "command_program",
                format!("program `{program}` was given more than arguments can hold; `stdin` can"),
            ),
            _ => StepError::transient(
                "command_start",
                format!("program `{program}` could not be started: {error}"),
            ),
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// A text as it is, nothing for `null`, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn invocation(step: Value) -> Result<Invocation, StepError> {
        Invocation::new(&serde_json::from_value(step).unwrap(), "/bin")
    }

    #[test]
    fn texts_stay_as_they_are_and_values_become_json() {
        let step = json!({
            "program": "cat", "args": ["a b", 1, true, null, { "x": [1] }],
            "env": { "N": 5 }, "stdin": [{ "a": 1 }],
        });
        let invocation = invocation(step).unwrap();
        assert_eq!(invocation.args, ["a b", "1", "true", "", r#"{"x":[1]}"#]);
        assert_eq!(invocation.env, [("N".to_owned(), "5".to_owned())]);
        assert_eq!(invocation.stdin, br#"[{"a":1}]"#);
    }

    #[test]
    fn a_relative_program_or_an_odd_variable_is_refused() {
        for (wrong, expected) in [
            (json!({ "program": "bin/x" }), "`bin/x`"),
            (json!({ "program": "./x" }), "`./x`"),
            (json!({ "program": "" }), "absolute"),
            (json!({ "program": "x", "env": { "A=B": "1" } }), "`A=B`"),
        ] {
            let error = invocation(wrong).unwrap_err();
            assert_eq!((error.code, error.retriable), ("command_program", false));
            assert!(error.message.contains(expected), "{error}");
        }
    }
}
