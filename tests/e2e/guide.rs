//! What the guide to the steps shows is what happens.
//!
//! A block of the guide behind `<!-- run: ID -->` is a flow that is published
//! and must succeed, one behind `<!-- file: NAME -->` is put into the folder
//! of files before, and one behind `<!-- shows: NAME -->` is what a file there
//! must read. They count in their order; other blocks are for people. A
//! connection `lake` leads to a bucket of this name.

use std::fs;

use harness::{Answer, PrivateS3, Service, Setup};
use reqwest::Method;

use crate::stores::SECRETS_KEY;

const GUIDE: &str = include_str!("../../docs/steps.md");

/// The marked blocks: what each is for, its name, and its text.
fn blocks() -> Vec<(&'static str, &'static str, &'static str)> {
    let marked = GUIDE.split("<!-- ").skip(1).filter_map(|part| {
        let (mark, rest) = part.split_once(" -->\n```")?;
        let (purpose, name) = mark.split_once(": ")?;
        let (_, block) = rest.split_once('\n')?;
        let (text, _) = block.split_once("```\n")?;
        Some((purpose, name, text))
    });
    marked.collect()
}

#[tokio::test]
async fn the_flows_of_the_guide_run_as_they_stand() {
    let setup = Setup {
        api: &[SECRETS_KEY],
        worker: &[SECRETS_KEY],
        ..Setup::default()
    };
    let (service, s3) = tokio::join!(Service::start(setup), PrivateS3::start());
    let admin = service.admin();
    let lake = admin.request(Method::PUT, "/api/admin/v1/connections/lake");
    let lake = Answer::of(lake.json(&s3.connection("lake"))).await;
    assert_eq!(lake.status, 201, "{lake:?}");
    let blocks = blocks();
    assert!(blocks.iter().any(|(purpose, ..)| *purpose == "run"));
    for (purpose, name, text) in blocks {
        let file = service.files().join(name);
        match purpose {
            "file" => fs::write(file, text).unwrap(),
            "shows" => assert_eq!(fs::read_to_string(file).unwrap(), text, "{name}"),
            "run" => {
                admin.publish(text).await;
                let run = admin.start(name).await;
                let status = admin.end(name, &run).await;
                let error = match status.as_str() {
                    "Succeeded" => None,
                    _ => Some(service.run_error(&run).await),
                };
                assert_eq!(error, None, "{name}");
            }
            other => panic!("the guide has a mark `{other}`"),
        }
    }
}
