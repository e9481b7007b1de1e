//! `millstream secrets`: values that flows name and nobody is shown.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use millstream_shared::{
    connection::{SecretsKeys, check_secret},
    id::SecretName,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::connections::verb;
use crate::{
    failure::{Failure, Outcome},
    output::OutputSettings,
    secret_input,
    service::{Service, ServiceSettings},
};

/// List, set and delete secrets, and replace the key that they are sealed with
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    List(List),
    Set(Set),
    Delete(Delete),
    Reseal(Reseal),
    NewKey(NewKey),
}

/// Show the names of all secrets
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Make a secret, or give it another value
///
/// The value is read from standard input, or from a file. One line break at its
/// end does not belong to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Its name
    #[arg(value_name = "NAME")]
    secret: SecretName,

    /// A file that holds the value [default: standard input]
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,

    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Delete a secret
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Its name
    #[arg(value_name = "NAME")]
    secret: SecretName,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Seal all connections and secrets anew with the first of the service's keys
///
/// Prints how many there were. After that the older keys can be taken out of
/// MILLSTREAM_SECRETS_KEY.
#[derive(Debug, clap::Args)]
pub(crate) struct Reseal {
    #[command(flatten)]
    output: OutputSettings,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Print a new key for MILLSTREAM_SECRETS_KEY
#[derive(Debug, clap::Args)]
pub(crate) struct NewKey {
    #[command(flatten)]
    output: OutputSettings,
}

pub(crate) async fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::List(list) => {
            let service = Service::new(&list.service)?;
            let request = service.admin_request(Method::GET, &["secrets"]);
            let told: Value = service.read(service.send(request).await?).await?;
            let names = told["secrets"].as_array().into_iter().flatten();
            let names = names.filter_map(Value::as_str).map(str::to_owned);
            list.output.print(&told, names)?;
        }
        Command::Set(set) => {
            let value = value(set.value_file.as_deref())?;
            let service = Service::new(&set.service)?;
            let path = ["secrets", set.secret.as_str()];
            let request = service.admin_request(Method::PUT, &path);
            let answer = service.send(request.json(&json!({ "value": value })));
            let answer = answer.await?;
            let verb = verb(answer.status());
            let told: Value = service.read(answer).await?;
            set.output
                .print(&told, [format!("{} {verb}", set.secret)])?;
        }
        Command::Delete(delete) => {
            let service = Service::new(&delete.service)?;
            let path = ["secrets", delete.secret.as_str()];
            service
                .send(service.admin_request(Method::DELETE, &path))
                .await?;
        }
        Command::Reseal(reseal) => {
            let service = Service::new(&reseal.service)?;
            let request = service.admin_request(Method::POST, &["secrets", "reseal"]);
            let told: Value = service.read(service.send(request).await?).await?;
            reseal
                .output
                .print(&told, [format!("{} sealed anew", told["resealed"])])?;
        }
        Command::NewKey(new_key) => {
            let key = SecretsKeys::generate();
            let key = key.map_err(|error| anyhow!("no randomness for a key: {error}"))?;
            new_key
                .output
                .print(&json!({ "key": key }), [key.clone()])?;
        }
    }
    Ok(Outcome::Done)
}

/// The value of a secret: what stands in a file or comes on standard input.
fn value(file: Option<&Path>) -> Result<String, Failure> {
    let mut value = secret_input::read(file.unwrap_or(Path::new(secret_input::STANDARD_INPUT)))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    check_secret(&value).map_err(|why| Failure::Usage(format!("the value {why}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_value_is_what_stands_in_the_file_without_the_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("value");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            value(Some(&file))
        };
        for (text, expected) in [
            ("hush", "hush"),
            ("hush\n", "hush"),
            ("hush\r\n", "hush"),
            (" two\nlines\n\n", " two\nlines\n"),
        ] {
            assert_eq!(read(text).unwrap(), expected);
        }
        let told = read("abc\n").unwrap_err().to_string();
        assert!(
            told.contains("at least 4") && !told.contains("abc"),
            "{told}"
        );
        fs::write(&file, b"hush\xff").unwrap();
        let told = value(Some(&file)).unwrap_err().to_string();
        assert!(told.contains("UTF-8") && !told.contains("hush"), "{told}");
        fs::remove_file(&file).unwrap();
        assert!(matches!(
            value(Some(&file)),
            Err(Failure::Unreadable { .. })
        ));
    }
}
