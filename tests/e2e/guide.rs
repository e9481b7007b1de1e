//! What the guide to the steps shows is what happens.
//!
//! A block of the guide behind `<!-- run: ID -->` is a flow that is published
//! and must succeed, one behind `<!-- file: NAME -->` is put into the folder
//! of files before, and one behind `<!-- shows: NAME -->` is what a file there
//! must read. They count in their order; other blocks are for people.
//! One behind `<!-- answers: PATH -->` is what the service behind the connection
//! `shop` answers there; a connection `lake` leads to a bucket of this name.

use std::fs;

use harness::{HttpServer, PrivateS3, Reply, Service, Setup};
use serde_json::json;

use crate::secrets::{WITH_KEY, keep};

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
        api: WITH_KEY,
        worker: WITH_KEY,
        ..Setup::default()
    };
    let (service, s3) = tokio::join!(Service::start(setup), PrivateS3::start());
    let admin = service.admin();
    keep(&admin, "connections/lake", s3.connection("lake")).await;
    let blocks = blocks();
    let answers = blocks.clone();
    let shop = HttpServer::start(move |asked| {
        let is_asked =
            |block: &&(&str, &str, &str)| block.0 == "answers" && block.1 == asked.target;
        match answers.iter().find(is_asked) {
            Some((.., text)) => Reply::new(200, *text),
            None => Reply::new(404, "the guide does not show this"),
        }
    })
    .await;
    let connection = json!({ "kind": "http", "url": shop.url("/api") });
    keep(&admin, "connections/shop", connection).await;
    assert!(blocks.iter().any(|(purpose, ..)| *purpose == "run"));
    for (purpose, name, text) in blocks {
        let file = service.files().join(name);
        match purpose {
            "file" => fs::write(file, text).unwrap(),
            "answers" => {}
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
