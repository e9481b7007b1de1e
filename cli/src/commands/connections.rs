//! `millstream connections`: how flows reach databases, file stores and
//! services.

use std::path::PathBuf;

use millstream_shared::{connection::read_document, id::ConnectionName};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Outcome},
    output::OutputSettings,
    secret_input,
    service::{Service, ServiceSettings},
};

/// List, show, set and delete connections
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    List(List),
    Show(Show),
    Set(Set),
    Delete(Delete),
}

/// Show the names and kinds of all connections
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Show a connection without its secrets
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Its name
    #[arg(value_name = "NAME")]
    connection: ConnectionName,

    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Make a connection, or put another one in its place
///
/// The file is the whole of it: nothing of an earlier one stays, no password
/// either.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Its name
    #[arg(value_name = "NAME")]
    connection: ConnectionName,

    /// A YAML or JSON file with its members; `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Delete a connection
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Its name
    #[arg(value_name = "NAME")]
    connection: ConnectionName,

    #[command(flatten)]
    service: ServiceSettings,
}

pub(crate) async fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::List(list) => {
            let service = Service::new(&list.service)?;
            let request = service.admin_request(Method::GET, &["connections"]);
            let told: Value = service.read(service.send(request).await?).await?;
            let connections = told["connections"].as_array().into_iter().flatten();
            list.output.print(&told, connections.map(listed))?;
        }
        Command::Show(show) => {
            let service = Service::new(&show.service)?;
            let request = request(&service, Method::GET, &show.connection);
            let told: Value = service.read(service.send(request).await?).await?;
            show.output.print(&told, shown(&told))?;
        }
        Command::Set(set) => {
            let document = document(&set.file)?;
            let service = Service::new(&set.service)?;
            let request = request(&service, Method::PUT, &set.connection).json(&document);
            let answer = service.send(request).await?;
            let verb = verb(answer.status());
            let told: Value = service.read(answer).await?;
            let text = format!("{} {verb}", set.connection);
            set.output.print(&told, [text])?;
        }
        Command::Delete(delete) => {
            let service = Service::new(&delete.service)?;
            let request = request(&service, Method::DELETE, &delete.connection);
            service.send(request).await?;
        }
    }
    Ok(Outcome::Done)
}

fn request(service: &Service, method: Method, name: &ConnectionName) -> reqwest::RequestBuilder {
    service.admin_request(method, &["connections", name.as_str()])
}

/// What became of something that was set.
pub(super) fn verb(status: StatusCode) -> &'static str {
    match status {
        StatusCode::CREATED => "created",
        _ => "replaced",
    }
}

/// The members in a file. Errors repeat no part of it.
fn document(file: &std::path::Path) -> Result<Value, Failure> {
    let text = secret_input::read(file)?;
    read_document(&text).map_err(|wrong| Failure::Usage(format!("`{}`: {wrong}", file.display())))
}

/// A connection in one line: its name and its kind, or why it cannot be shown.
fn listed(connection: &Value) -> String {
    let text = |member: &str| connection[member].as_str().unwrap_or_default();
    match connection.get("error") {
        Some(_) => format!("{} ({})", text("name"), text("error")),
        None => format!("{} {}", text("name"), text("kind")),
    }
}

/// A connection member by member, as `set` takes them, with the names of the
/// secret ones that are set.
fn shown(connection: &Value) -> Vec<String> {
    let members = connection.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) if !text.contains(char::is_control) => format!("{name}: {text}"),
        value => format!("{name}: {}", json!(value)),
    };
    members.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_shown_line_by_line() {
        let told = json!({ "name": "crm", "kind": "postgres", "port": 5432, "ca": "a\nb",
                           "secrets": ["password"] });
        assert_eq!(listed(&told), "crm postgres");
        let lines = [
            "name: crm",
            "kind: postgres",
            "port: 5432",
            "ca: \"a\\nb\"",
            "secrets: [\"password\"]",
        ];
        assert_eq!(shown(&told), lines);
        let broken = json!({ "name": "crm", "error": "it is damaged" });
        assert_eq!(listed(&broken), "crm (it is damaged)");
    }
}
