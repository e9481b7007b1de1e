//! The body of a start: inputs, in our own form or in that of InVision.

use std::collections::HashSet;

use indexmap::{IndexMap, map::Entry};
use millstream_shared::{
    flow::{
        Flow,
        inputs::accept,
        step::{OnError, Step},
    },
    id::StepId,
    run::StartRequest,
};
use serde_json::{Map, Value};

use crate::{
    error::{ApiError, MemberProblem},
    members::Members,
};

/// The members of InVision's form.
const OLD_FORM: [&str; 3] = ["globalArguments", "activitiesExecutionData", "dataContext"];

/// What a body says, before it is held against the flow.
#[derive(Debug, Default, PartialEq)]
struct Given {
    inputs: Map<String, Value>,
    activities: Vec<Activity>,
    data_context: Option<String>,
}

/// New arguments for a step.
#[derive(Debug, PartialEq)]
struct Activity {
    /// Where it stands in the body, to name it in an error.
    path: String,
    step: String,
    args: Map<String, Value>,
}

/// Reads the body of a start and holds it against the flow. An empty one is
/// fine for a flow that needs no inputs.
pub(super) fn read(body: &[u8], flow: &Flow) -> Result<StartRequest, ApiError> {
    let given = if body.trim_ascii().is_empty() {
        Given::default()
    } else {
        Given::parse(body)?
    };
    let args = overridden(given.activities, flow).map_err(ApiError::InvalidBody)?;
    Ok(StartRequest {
        inputs: accept(&flow.inputs, &given.inputs)?,
        args,
        data_context: given.data_context,
    })
}

impl Given {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut members = Members::parse(body)?;
        if members.has("inputs") {
            for name in OLD_FORM {
                if members.has(name) {
                    members.problem(
                        name,
                        "cannot stand beside `inputs`: give one of the two forms",
                    );
                }
            }
        }
        let object = "an object of names and values";
        let new_form: Option<Map<_, _>> = members.take("inputs", object);
        let old_form = members.take("globalArguments", object);
        let list = members.take("activitiesExecutionData", "a list of objects");
        let given = Self {
            inputs: new_form.or(old_form).unwrap_or_default(),
            activities: activities(&mut members, list.unwrap_or_default()),
            data_context: members.take("dataContext", "a text"),
        };
        match members.into_problems() {
            problems if problems.is_empty() => Ok(given),
            problems => Err(ApiError::InvalidBody(problems)),
        }
    }
}

fn activities(members: &mut Members, list: Vec<Value>) -> Vec<Activity> {
    let mut activities = Vec::new();
    for (place, value) in list.into_iter().enumerate() {
        let path = format!("activitiesExecutionData[{place}]");
        let mut activity = Members::nested(path.clone(), value);
        let step = activity.require("activityName", "the id of a step");
        let arguments = activity.take("arguments", "a list of objects");
        let args = arguments_of(&mut activity, arguments.unwrap_or_default());
        members.problems_of(activity);
        if let Some(step) = step {
            activities.push(Activity { path, step, args });
        }
    }
    activities
}

fn arguments_of(activity: &mut Members, list: Vec<Value>) -> Map<String, Value> {
    let mut args = Map::new();
    for (place, value) in list.into_iter().enumerate() {
        let path = activity.path_of(&format!("arguments[{place}]"));
        let mut argument = Members::nested(path, value);
        let name: Option<String> = argument.require("name", "the name of an argument");
        let value = argument.take("value", "a value").unwrap_or(Value::Null);
        if let Some(name) = name
            && args.insert(name, value).is_some()
        {
            argument.problem("name", "is given twice");
        }
        activity.problems_of(argument);
    }
    args
}

/// The arguments by step, each of which the flow must declare.
fn overridden(
    activities: Vec<Activity>,
    flow: &Flow,
) -> Result<IndexMap<StepId, Map<String, Value>>, Vec<MemberProblem>> {
    let steps = all_steps(flow);
    let mut overridden = IndexMap::new();
    let mut problems = Vec::new();
    for activity in activities {
        let path = format!("{}.activityName", activity.path);
        let Some(step) = steps.iter().find(|step| step.id.as_str() == activity.step) else {
            let message = format!("the flow has no step `{}`", shortened(&activity.step));
            problems.push(MemberProblem::new(path, message));
            continue;
        };
        for name in activity.args.keys() {
            if !step.args.contains_key(name) {
                let message = format!("step `{}` has no argument `{}`", step.id, shortened(name));
                let path = format!("{}.arguments", activity.path);
                problems.push(MemberProblem::new(path, message));
            }
        }
        match overridden.entry(step.id.clone()) {
            Entry::Vacant(place) => drop(place.insert(activity.args)),
            Entry::Occupied(_) => problems.push(MemberProblem::new(path, "is given twice")),
        }
    }
    if problems.is_empty() {
        Ok(overridden)
    } else {
        Err(problems)
    }
}

/// Every step of the flow, those that run on an error included.
fn all_steps(flow: &Flow) -> Vec<&Step> {
    let mut found: Vec<&Step> = Vec::new();
    let mut left: Vec<&Step> = flow.steps.iter().chain(&flow.on_failure).collect();
    while let Some(step) = left.pop() {
        if let OnError::Steps(steps) = &step.on_error {
            left.extend(steps);
        }
        found.push(step);
    }
    let unique = found.iter().map(|step| &step.id).collect::<HashSet<_>>();
    debug_assert_eq!(
        unique.len(),
        found.len(),
        "ids of steps are unique in a flow"
    );
    found
}

/// Enough of a text to recognise it by.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use millstream_shared::flow::StepKind;
    use serde_json::json;

    use super::*;

    fn parsed(body: Value) -> Result<Given, ApiError> {
        Given::parse(body.to_string().as_bytes())
    }

    fn names(error: ApiError) -> Vec<String> {
        let ApiError::InvalidBody(problems) = error else {
            panic!("{error}");
        };
        problems.into_iter().map(|problem| problem.name).collect()
    }

    fn step(id: &str, args: &[&str]) -> Step {
        let args = args.iter().map(|name| ((*name).to_owned(), json!(1)));
        Step {
            id: id.parse().unwrap(),
            name: None,
            needs: vec![],
            when: None,
            retry: None,
            timeout: None,
            on_error: OnError::Fail,
            keep: None,
            args: args.collect(),
            kind: StepKind::Set(IndexMap::new()),
        }
    }

    fn flow() -> Flow {
        let mut load = step("load", &["day"]);
        load.on_error = OnError::Steps(vec![step("undo", &["deep"])]);
        Flow {
            id: "sales".parse().unwrap(),
            name: None,
            description: None,
            inputs: IndexMap::new(),
            concurrency: None,
            queue_limit: None,
            timeout: None,
            worker_tag: Default::default(),
            steps: vec![load],
            on_failure: vec![step("alarm", &["who"])],
            output: None,
        }
    }

    fn activity(step: &str, args: Value) -> Activity {
        Activity {
            path: "activitiesExecutionData[0]".into(),
            step: step.into(),
            args: serde_json::from_value(args).unwrap(),
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let new_form = parsed(json!({"inputs": {"day": "2026-11-24"}})).unwrap();
        let old_form = parsed(json!({"globalArguments": {"day": "2026-11-24"}})).unwrap();
        assert_eq!(new_form, old_form);
        assert_eq!(parsed(json!({})).unwrap(), Given::default());
        let unsaid = json!({"inputs": null, "globalArguments": null, "dataContext": null});
        assert_eq!(parsed(unsaid).unwrap(), Given::default());
    }

    #[test]
    fn the_form_of_invision_brings_arguments_of_steps_and_a_context() {
        let given = parsed(json!({
            "activitiesExecutionData": [
                {"activityName": "load", "arguments": [{"name": "day", "value": 7}, {"name": "x"}]}
            ],
            "dataContext": "budget 2027",
        }));
        let expected = Given {
            inputs: Map::new(),
            activities: vec![activity("load", json!({"day": 7, "x": null}))],
            data_context: Some("budget 2027".into()),
        };
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn the_two_forms_do_not_mix() {
        let error = parsed(json!({"inputs": {}, "dataContext": "x"})).unwrap_err();
        assert_eq!(names(error), ["dataContext"]);
    }

    #[test]
    fn every_stray_or_misshapen_member_is_named() {
        let error = parsed(json!({
            "globalArguments": [],
            "activitiesExecutionData": [
                {"arguments": [{"name": "a", "value": 1}, {"name": "a"}, {"value": 2, "type": "x"}, 3]},
                {"activityName": 1, "args": []},
            ],
            "input": {},
        }))
        .unwrap_err();
        let expected = [
            "globalArguments",
            "activitiesExecutionData[0].activityName",
            "activitiesExecutionData[0].arguments[1].name",
            "activitiesExecutionData[0].arguments[2].name",
            "activitiesExecutionData[0].arguments[2].type",
            "activitiesExecutionData[0].arguments[3]",
            "activitiesExecutionData[0].arguments[3].name",
            "activitiesExecutionData[1].activityName",
            "activitiesExecutionData[1].args",
            "input",
        ];
        assert_eq!(names(error), expected);
    }

    #[test]
    fn arguments_reach_any_step_that_declares_them() {
        let activities = vec![
            activity("load", json!({"day": 2})),
            activity("undo", json!({"deep": true})),
            activity("alarm", json!({})),
        ];
        let args = overridden(activities, &flow()).unwrap();
        assert_eq!(args[&"load".parse::<StepId>().unwrap()]["day"], json!(2));
        assert_eq!(args.len(), 3);
    }

    #[test]
    fn arguments_for_nobody_are_refused_by_name() {
        let activities = vec![
            activity("lode", json!({})),
            activity("load", json!({"dya": 1})),
            activity("load", json!({"day": 1})),
        ];
        let problems = overridden(activities, &flow()).unwrap_err();
        let messages: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
        let expected = [
            "the flow has no step `lode`",
            "step `load` has no argument `dya`",
            "is given twice",
        ];
        assert_eq!(messages, expected);
    }
}
