//! The argument form of InVision: global arguments are inputs, arguments of an
//! activity override those of a step, and the data context reaches every step.

use std::path::Path;

use harness::{Answer, Service, Setup};
use serde_json::{Value, json};

/// A flow that writes what it was given into a file.
fn flow(file: &Path) -> String {
    let script = json!(["-c", format!("cat > '{}'", file.display())]);
    format!(
        "id: given
inputs:
  day: {{ type: date, required: true }}
  count: {{ type: integer, default: 1 }}
steps:
  - id: note
    args: {{ label: none, size: 3 }}
    command:
      program: sh
      args: {script}
      stdin:
        day: \"{{{{ inputs.day }}}}\"
        count: \"{{{{ inputs.count }}}}\"
        label: \"{{{{ args.label }}}}\"
        size: \"{{{{ args.size }}}}\"
        context: \"{{{{ run.data_context }}}}\"
"
    )
}

#[tokio::test]
async fn arguments_of_the_old_form_reach_inputs_steps_and_context() {
    let service = Service::start(Setup::default()).await;
    let admin = service.admin();
    let file = service.folder().join("given.json");
    admin.publish(&flow(&file)).await;
    let body = json!({
        "globalArguments": { "day": "2026-11-24", "count": "5" },
        "activitiesExecutionData": [
            { "activityName": "note", "arguments": [{ "name": "label", "value": "urgent" }] }
        ],
        "dataContext": "tenant-7",
    });
    let request = admin.start_request("given", "?await=true").json(&body);
    assert_eq!(Answer::of(request).await.run_status(), "Succeeded");
    let given: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let expected = json!({
        "day": "2026-11-24", "count": 5, "label": "urgent", "size": 3, "context": "tenant-7",
    });
    assert_eq!(given, expected);
}

#[tokio::test]
async fn arguments_that_lead_nowhere_are_400_and_named() {
    let service = Service::start(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let admin = service.admin();
    admin.publish(&flow(Path::new("/dev/null"))).await;
    let day = json!({ "day": "2026-11-24" });
    for (body, named) in [
        (
            json!({ "globalArguments": { "stray": 1, "day": "2026-11-24" } }),
            "stray",
        ),
        (json!({ "globalArguments": {} }), "day"),
        (
            json!({ "globalArguments": day, "activitiesExecutionData": [
                { "activityName": "nobody", "arguments": [] }] }),
            "nobody",
        ),
        (
            json!({ "globalArguments": day, "activitiesExecutionData": [
                { "activityName": "note", "arguments": [{ "name": "stray", "value": 1 }] }] }),
            "stray",
        ),
        (
            json!({ "globalArguments": day, "activitiesExecutionData": {} }),
            "activitiesExecutionData",
        ),
        (
            json!({ "globalArguments": day, "dataContext": 5 }),
            "dataContext",
        ),
    ] {
        let answer = Answer::of(admin.start_request("given", "").json(&body)).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.body.contains(named), "{body}: {answer:?}");
    }
}
