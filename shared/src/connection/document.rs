//! A connection as administrators write it and as it is shown.

use serde_json::{Map, Value};
use serde_saphyr::Location;

use super::{Access, Connection, check_secret, http};

/// The members that nobody is ever shown.
const SECRET_MEMBERS: &[&str] = &[
    "password",
    "secret_access_key",
    "session_token",
    "account_key",
    "sas_token",
    "service_account_key",
    "token",
    "api_key",
    "client_secret",
];

/// Why a document is not a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidConnection {
    /// The member that is wrong, empty where it is the whole.
    pub member: String,
    /// What is wrong with it. It tells no value of a secret member.
    pub message: String,
}

impl InvalidConnection {
    pub(super) fn new(member: &str, message: impl Into<String>) -> Self {
        Self {
            member: member.to_owned(),
            message: message.into(),
        }
    }
}

/// A text that is neither YAML nor JSON, and where. What stands there is not
/// repeated: it can be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: this is neither YAML nor JSON")]
pub struct InvalidDocument {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
}

/// Reads a YAML or JSON text, as [`Connection::parse`] takes it.
///
/// # Errors
/// Fails where it is neither.
pub fn read_document(text: &str) -> Result<Value, InvalidDocument> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        InvalidDocument {
            line: location.line().max(1),
            column: location.column().max(1),
        }
    })
}

/// What everybody with the right to look may see of a connection: its members
/// without secrets, and the names of the secret ones that are set.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Shown {
    /// Its members without those that are secret.
    #[serde(flatten)]
    pub members: Map<String, Value>,
    /// The secret members that are set.
    pub secrets: Vec<String>,
}

impl Connection {
    /// Reads and checks a connection.
    ///
    /// # Errors
    /// Fails where a member is missing, unknown, of the wrong type or makes no
    /// sense together with another.
    pub fn parse(document: &Value) -> Result<Self, InvalidConnection> {
        let kinds = "`postgres`, `mysql`, `sqlite`, `sqlserver`, `s3`, `azure`, `gcs` or `http`";
        let Value::Object(members) = document else {
            return Err(InvalidConnection::new("", "must be a JSON object"));
        };
        let kind = members.get("kind").and_then(Value::as_str);
        if kind.is_none() {
            let message = format!("must be one of {kinds}");
            return Err(InvalidConnection::new("kind", message));
        }
        for (name, value) in members {
            let is_secret = SECRET_MEMBERS.contains(&name.as_str());
            if is_secret && !value.is_string() {
                return Err(InvalidConnection::new(name, "must be a text"));
            }
        }
        let connection: Self = serde_json::from_value(document.clone())
            .map_err(|error| refused(members, &error.to_string(), kinds))?;
        connection.check()?;
        // What cannot be masked in messages of databases and services is
        // refused, as it is for secrets.
        for name in SECRET_MEMBERS {
            if let Some(value) = members.get(*name).and_then(Value::as_str) {
                check_secret(value).map_err(|told| InvalidConnection::new(name, told))?;
            }
        }
        Ok(connection)
    }

    /// What may be shown of it.
    pub fn shown(&self) -> Shown {
        let Ok(Value::Object(mut members)) = serde_json::to_value(self) else {
            unreachable!("a connection is an object")
        };
        let mut secrets = Vec::new();
        for name in SECRET_MEMBERS {
            if members.shift_remove(*name).is_some() {
                secrets.push((*name).to_owned());
            }
        }
        Shown { members, secrets }
    }

    /// Its secret values: what must not appear anywhere.
    pub fn secret_values(&self) -> Vec<String> {
        let Ok(Value::Object(members)) = serde_json::to_value(self) else {
            return Vec::new();
        };
        let values = SECRET_MEMBERS.iter().filter_map(|name| members.get(*name));
        values
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    /// Checks what its members mean together.
    ///
    /// # Errors
    /// Fails where one is empty, missing or makes no sense beside another.
    pub fn check(&self) -> Result<(), InvalidConnection> {
        let required = |member: &str, text: &str| {
            if text.trim().is_empty() {
                Err(InvalidConnection::new(member, "must not be empty"))
            } else {
                Ok(())
            }
        };
        match self {
            Self::Postgres(server) | Self::Mysql(server) | Self::Sqlserver(server) => {
                required("host", &server.host)?;
                required("database", &server.database)?;
                required("user", &server.user)
            }
            Self::Sqlite(file) => required("path", &file.path),
            Self::S3(s3) => {
                required("bucket", &s3.bucket)?;
                both(
                    ("access_key_id", s3.access_key_id.is_some()),
                    ("secret_access_key", s3.secret_access_key.is_some()),
                )?;
                rights(("access_key_id", s3.access_key_id.is_some()), s3.access)?;
                address("endpoint", s3.endpoint.as_deref())
            }
            Self::Azure(azure) => {
                required("container", &azure.container)?;
                required("account", &azure.account)?;
                if azure.account_key.is_some() && azure.sas_token.is_some() {
                    let message = "cannot stand beside `account_key`";
                    return Err(InvalidConnection::new("sas_token", message));
                }
                let has_key = azure.account_key.is_some() || azure.sas_token.is_some();
                rights(("account_key", has_key), azure.access)?;
                address("endpoint", azure.endpoint.as_deref())
            }
            Self::Gcs(gcs) => {
                required("bucket", &gcs.bucket)?;
                let has_key = gcs.service_account_key.is_some();
                rights(("service_account_key", has_key), gcs.access)?;
                address("endpoint", gcs.endpoint.as_deref())
            }
            Self::Http(service) => http::check(service),
        }
    }
}

/// Two members that stand together or not at all.
pub(super) fn both(one: (&str, bool), other: (&str, bool)) -> Result<(), InvalidConnection> {
    let lacking = |there: &str, lacking: &str| {
        let message = format!("must stand beside `{there}`");
        Err(InvalidConnection::new(lacking, message))
    };
    match (one.1, other.1) {
        (true, false) => lacking(one.0, other.0),
        (false, true) => lacking(other.0, one.0),
        _ => Ok(()),
    }
}

/// A store has either a key, whose member is named, or says what to do without:
/// no rights are taken that nobody gave.
fn rights((key, has_key): (&str, bool), access: Option<Access>) -> Result<(), InvalidConnection> {
    let message = match (has_key, access) {
        (true, Some(_)) => format!("cannot stand beside `{key}`"),
        (false, None) => format!(
            "is missing: without `{key}` it says whether the rights of the machine of the worker \
             are used (`worker`) or none (`public`)"
        ),
        _ => return Ok(()),
    };
    Err(InvalidConnection::new("access", message))
}

pub(super) fn address(member: &str, text: Option<&str>) -> Result<(), InvalidConnection> {
    let Some(text) = text else {
        return Ok(());
    };
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let authority = text.split('/').nth(2).unwrap_or_default();
    let message = if !is_web || authority.is_empty() {
        "must be an address such as `https://host`"
    } else if authority.contains('@') {
        "must not hold a user name or password"
    } else {
        return Ok(());
    };
    Err(InvalidConnection::new(member, message))
}

/// What serde says, without any value: it could be a secret that stands in the
/// wrong member.
fn refused(members: &Map<String, Value>, told: &str, kinds: &str) -> InvalidConnection {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if told.starts_with("unknown variant") && told.contains("`postgres`") {
        return InvalidConnection::new("kind", format!("must be one of {kinds}"));
    }
    if told.starts_with("missing field") {
        let member = quoted(told).unwrap_or_default();
        return InvalidConnection::new(&member, "is missing");
    }
    if told.starts_with("unknown field") {
        let member = quoted(told).unwrap_or_default();
        let expected = told.split_once("expected ").map_or("", |(_, rest)| rest);
        return InvalidConnection::new(&member, format!("is not a member here; {expected} are"));
    }
    let wrong = members.iter().find(|(name, value)| match name.as_str() {
        "port" => value.as_u64().is_none_or(|port| port == 0 || port > 65_535),
        "access" => !["worker", "public"].map(Value::from).contains(value),
        "tls" => !["disable", "prefer", "require", "verify"]
            .map(Value::from)
            .contains(value),
        "client_auth" => !["basic", "body"].map(Value::from).contains(value),
        "headers" => !is_map_of_texts(value),
        _ => !value.is_string(),
    });
    let (name, message) = match wrong.map(|(name, _)| name.as_str()) {
        Some("port") => ("port", "must be a number from 1 to 65535"),
        Some("access") => ("access", "must be `worker` or `public`"),
        Some("tls") => ("tls", "must be `disable`, `prefer`, `require` or `verify`"),
        Some("client_auth") => ("client_auth", "must be `basic` or `body`"),
        Some("headers") => ("headers", "must be a map of texts"),
        Some(name) => (name, "must be a text"),
        None => ("", "is not a connection"),
    };
    InvalidConnection::new(name, message)
}

fn is_map_of_texts(value: &Value) -> bool {
    let members = value.as_object();
    members.is_some_and(|members| members.values().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(document: Value) -> (String, String) {
        let error = Connection::parse(&document).unwrap_err();
        (error.member, error.message)
    }

    fn postgres() -> Value {
        json!({ "kind": "postgres", "host": "db", "database": "crm", "user": "u",
                "password": "canary" })
    }

    #[test]
    fn a_connection_is_shown_without_its_secrets() {
        let connection = Connection::parse(&postgres()).unwrap();
        let shown = serde_json::to_value(connection.shown()).unwrap();
        assert_eq!(
            shown,
            json!({ "kind": "postgres", "host": "db", "database": "crm", "user": "u",
                    "tls": "prefer", "secrets": ["password"] })
        );
        assert!(!format!("{connection:?}").contains("canary"));
        assert_eq!(connection.secret_values(), ["canary"]);
        let stored = serde_json::to_value(&connection).unwrap();
        assert_eq!(Connection::parse(&stored).unwrap(), connection);
    }

    #[test]
    fn a_password_that_could_not_be_masked_is_refused() {
        for password in ["", "abc", "  a  "] {
            let mut document = postgres();
            document["password"] = password.into();
            let (member, message) = wrong(document);
            assert_eq!(member, "password");
            assert!(message.contains("at least 4 characters"), "{message}");
        }
    }

    #[test]
    fn every_secret_member_is_known_as_one() {
        let documents = [
            postgres(),
            json!({ "kind": "s3", "bucket": "b", "access_key_id": "i",
                    "secret_access_key": "canary", "session_token": "canary" }),
            json!({ "kind": "azure", "container": "c", "account": "a", "account_key": "canary" }),
            json!({ "kind": "azure", "container": "c", "account": "a", "sas_token": "canary" }),
            json!({ "kind": "gcs", "bucket": "b", "service_account_key": "canary" }),
            json!({ "kind": "http", "url": "https://h/x", "user": "u", "password": "canary" }),
            json!({ "kind": "http", "url": "https://h/x", "token": "canary" }),
            json!({ "kind": "http", "url": "https://h/x", "api_key": "canary",
                    "api_key_header": "X-Key" }),
            json!({ "kind": "http", "url": "https://h/x", "client_id": "i",
                    "client_secret": "canary", "token_url": "https://h/token" }),
        ];
        for document in documents {
            let connection = Connection::parse(&document).unwrap();
            let shown = serde_json::to_string(&connection.shown()).unwrap();
            assert!(!shown.contains("canary"), "{shown}");
            assert!(!format!("{connection:?}").contains("canary"));
            let hidden = document.to_string().matches("canary").count();
            assert_eq!(connection.secret_values().len(), hidden);
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_any_secret() {
        let with = |member: &str, value: Value| {
            let mut document = postgres();
            document[member] = value;
            wrong(document)
        };
        assert_eq!(with("port", json!(0)).0, "port");
        assert_eq!(with("port", json!("5432")).0, "port");
        assert_eq!(with("tls", json!("yes")).0, "tls");
        assert_eq!(with("host", json!(" ")).0, "host");
        assert_eq!(with("host", json!(7)).0, "host");
        assert_eq!(with("password", json!(["canary"])).0, "password");
        let (member, message) = with("pasword", json!("canary"));
        assert_eq!(member, "pasword");
        assert!(message.contains("`password`") && !message.contains("canary"));
        assert_eq!(with("kind", json!("oracle")).0, "kind");
        assert_eq!(wrong(json!({})).0, "kind");
        assert_eq!(wrong(json!([])).0, "");
        let lacking = wrong(json!({ "kind": "mysql", "host": "h", "user": "u" }));
        assert_eq!(lacking, ("database".to_owned(), "is missing".to_owned()));
    }

    #[test]
    fn a_text_that_is_no_document_is_refused_without_a_part_of_it() {
        let document = read_document("kind: sqlite\npath: 'a b.db'\n").unwrap();
        assert_eq!(document, json!({ "kind": "sqlite", "path": "a b.db" }));
        assert_eq!(
            read_document(r#"{"port": 5}"#).unwrap(),
            json!({ "port": 5 })
        );
        for wrong in [
            "a: canary\n b: [canary",
            "password: canary\npassword: canary\n",
        ] {
            let error = read_document(wrong).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
            assert!(error.line >= 1 && error.column >= 1);
        }
    }

    #[test]
    fn members_that_make_no_sense_together_are_refused() {
        let member = |document| wrong(document).0;
        let half = json!({ "kind": "s3", "bucket": "b", "access_key_id": "i" });
        assert_eq!(member(half), "secret_access_key");
        let both = json!({ "kind": "azure", "container": "c", "account": "a",
                           "account_key": "x", "sas_token": "y" });
        assert_eq!(member(both), "sas_token");
        let nobody = json!({ "kind": "s3", "bucket": "b" });
        assert_eq!(member(nobody), "access");
        let twice = json!({ "kind": "gcs", "bucket": "b", "service_account_key": "k",
                            "access": "public" });
        assert_eq!(member(twice), "access");
        let other = json!({ "kind": "azure", "container": "c", "account": "a", "access": "mine" });
        assert_eq!(
            wrong(other),
            (
                "access".to_owned(),
                "must be `worker` or `public`".to_owned()
            )
        );
        let worker = json!({ "kind": "s3", "bucket": "b", "access": "worker" });
        assert!(Connection::parse(&worker).is_ok());
        let user = json!({ "kind": "http", "url": "https://u:p@h" });
        assert_eq!(member(user), "url");
        let scheme = json!({ "kind": "http", "url": "ftp://h" });
        assert_eq!(member(scheme), "url");
    }
}
