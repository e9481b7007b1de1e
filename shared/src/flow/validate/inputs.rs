//! What the declaration of an input must satisfy.

use indexmap::IndexMap;

use crate::flow::{
    finding::{At, Finding, Path},
    inputs::Input,
};

/// The longest name of an input, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Checks the declared inputs, which stand at `path`.
pub(super) fn check(inputs: &IndexMap<String, Input>, path: &Path, findings: &mut Vec<Finding>) {
    for (name, input) in inputs {
        let path = path.member(name);
        if !is_name(name) {
            findings.push(Finding {
                path: path.clone(),
                at: At::Name,
                message: format!(
                    "the name of an input has 1 to {NAME_CHARS_MAX} characters, none of them a \
                     line break or the like"
                ),
            });
        }
        check_input(input, &path, findings);
    }
}

/// Whether `name` can be the name of an input or argument.
pub(super) fn is_name(name: &str) -> bool {
    let characters = name.chars().count();
    (1..=NAME_CHARS_MAX).contains(&characters) && !name.contains(char::is_control)
}

fn check_input(input: &Input, path: &Path, findings: &mut Vec<Finding>) {
    let mut are_values_good = true;
    if let Some(values) = &input.one_of {
        let path = path.member("enum");
        if values.is_empty() {
            findings.push(Finding::new(path.clone(), "must have at least one value"));
            are_values_good = false;
        }
        for (index, value) in values.iter().enumerate() {
            if let Err(message) = input.kind.accept(value) {
                findings.push(Finding::new(path.item(index), message));
                are_values_good = false;
            }
        }
    }
    let Some(default) = &input.default else {
        return;
    };
    let path = path.member("default");
    if input.required {
        let message = "a required input has no default: leave out one of the two";
        findings.push(Finding::new(path.clone(), message));
    }
    if are_values_good && let Err(message) = input.accept(default) {
        findings.push(Finding::new(path, message));
    }
}
