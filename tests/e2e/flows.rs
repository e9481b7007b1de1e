//! Flows that several tests use.

use harness::Gate;
use serde_json::json;

/// A flow of one step that makes a value; it takes no time.
pub(crate) fn quick(id: &str) -> String {
    format!(
        "id: \"{id}\"
inputs:
  name: {{ type: string, default: world }}
steps:
  - id: greet
    set: {{ text: \"hello {{{{ inputs.name }}}}\" }}
"
    )
}

/// A flow that fails.
pub(crate) fn failing(id: &str) -> String {
    shell(id, &[("fail", "echo it must fail >&2; exit 3")])
}

/// A flow whose one step waits until a gate is open.
pub(crate) fn gated(id: &str, gate: &Gate) -> String {
    shell(id, &[("wait", &gate.script())])
}

/// A flow of shell scripts that run one after the other.
pub(crate) fn shell(id: &str, steps: &[(&str, &str)]) -> String {
    let mut text = format!("id: {id}\nsteps:\n");
    let mut before = None;
    for (step, script) in steps {
        // JSON is YAML, and quotes whatever stands in a script.
        let command = json!({ "program": "sh", "args": ["-c", script] });
        let needs = before.map_or(String::new(), |before| format!("    needs: [{before}]\n"));
        text.push_str(&format!("  - id: {step}\n{needs}    command: {command}\n"));
        before = Some(*step);
    }
    text
}
