//! What the expressions of a run can name.

use std::collections::HashMap;

use millstream_shared::{
    flow::{Step, expression::Scope},
    id::StepId,
    run::{RunError, StepRecord},
    store::{Checkpoints, Claimed},
};
use serde_json::{Map, Value, json};

/// Everything that is known of a run while it is executed.
pub(super) struct RunScope {
    inputs: Value,
    run: Value,
    steps: Map<String, Value>,
    args: HashMap<StepId, Map<String, Value>>,
}

impl RunScope {
    pub(super) fn new(claimed: &Claimed, checkpoints: &Checkpoints) -> Self {
        let request = &claimed.request;
        let mut scope = Self {
            inputs: Value::Object(request.inputs.clone()),
            run: json!({
                "id": claimed.lease.run,
                "flow": claimed.flow,
                "version": claimed.version,
                "data_context": request.data_context,
            }),
            steps: Map::new(),
            args: request.args.clone().into_iter().collect(),
        };
        for (step, record) in &checkpoints.ended {
            scope.end(step, record);
        }
        scope
    }

    /// Notes what a step came to.
    pub(super) fn end(&mut self, step: &StepId, record: &StepRecord) {
        self.steps.insert(step.to_string(), record.result());
    }

    /// Notes why the run failed.
    pub(super) fn fail(&mut self, error: RunError) {
        self.run["error"] = json!(error);
    }

    /// What the templates of `step` can name.
    pub(super) fn for_step(&self, step: &Step) -> Scope {
        let mut args: Map<String, Value> = step.args.clone().into_iter().collect();
        args.extend(self.args.get(&step.id).cloned().unwrap_or_default());
        self.scope(args)
    }

    /// What the template of the output can name.
    pub(super) fn for_output(&self) -> Scope {
        self.scope(Map::new())
    }

    fn scope(&self, args: Map<String, Value>) -> Scope {
        Scope::new(&json!({
            "inputs": self.inputs,
            "run": self.run,
            "steps": self.steps,
            "args": args,
        }))
    }
}
