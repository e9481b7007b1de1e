//! How flows reach databases, file stores and services: connections by name,
//! which an administrator keeps and authors only name.

mod document;
mod http;
mod seal;

use std::{collections::BTreeMap, fmt, num::NonZeroU16};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use document::{InvalidConnection, InvalidDocument, Shown, read_document};
pub use seal::{InvalidSecretsKey, NotSealed, SecretsKeys};

/// A value that is never shown: neither by `Debug` nor by any answer.
///
/// Serialising it gives its text, so a value that holds one is only ever
/// serialised to be sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// What it hides.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The longest value of a secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The shortest value of a secret, in characters. A shorter one could not be
/// taken out of texts: it would be found all over them.
pub const SECRET_CHARACTERS_MIN: usize = 4;

/// Checks what shall be the value of a secret.
///
/// # Errors
/// Says what is wrong with it, without a part of it.
pub fn check_secret(value: &str) -> Result<(), String> {
    if value.len() > SECRET_BYTES_MAX {
        return Err(format!("must have at most {SECRET_BYTES_MAX} bytes"));
    }
    if value.trim().chars().count() < SECRET_CHARACTERS_MIN {
        return Err(format!(
            "must have at least {SECRET_CHARACTERS_MIN} characters, spaces around them not \
             counted: a shorter value could not be masked where it shows up"
        ));
    }
    Ok(())
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a connection leads to, and with which rights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Connection {
    /// A PostgreSQL database.
    Postgres(Server),
    /// A MySQL or MariaDB database.
    Mysql(Server),
    /// A file of SQLite, within the folders of `MILLSTREAM_FILES`.
    Sqlite(SqliteFile),
    /// A database of Microsoft SQL Server.
    Sqlserver(Server),
    /// A bucket of S3 or of something that speaks like it.
    S3(S3),
    /// A container of Azure Blob Storage.
    Azure(Azure),
    /// A bucket of Google Cloud Storage.
    Gcs(Gcs),
    /// A service over HTTP.
    Http(HttpService),
}

/// A database server and who may use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port; the usual one of its kind if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// The database.
    pub database: String,
    /// The user name.
    pub user: String,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether the way there is encrypted.
    #[serde(default)]
    pub tls: Tls,
    /// Certificates of authorities to trust besides those of the system, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Whether the way to a server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Never.
    Disable,
    /// Where the server can; its certificate is not looked at.
    #[default]
    Prefer,
    /// Always; its certificate is not looked at.
    Require,
    /// Always, and the certificate must be for its host.
    Verify,
}

/// A file of SQLite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteFile {
    /// Relative to the first folder of `MILLSTREAM_FILES`. It is made if it is
    /// not there.
    pub path: String,
}

/// With which rights a store is reached that has no key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Those that the machine of the worker has: from its environment, or from
    /// the service for that of its cloud.
    Worker,
    /// None: what the store shows everybody.
    Public,
}

/// A bucket of S3, and who may use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket, as `s3://<bucket>/…` names it.
    pub bucket: String,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The address of a service that is not Amazon's: `http://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The public part of an access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The secret part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// The token of temporary rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// With which rights, where no key is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// A container of Azure Blob Storage, and who may use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// The container, as `az://<container>/…` names it.
    pub container: String,
    /// The storage account.
    pub account: String,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_key: Option<Secret>,
    /// A shared access signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sas_token: Option<Secret>,
    /// With which rights, where no key is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The address of a service that is not Azure's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A bucket of Google Cloud Storage, and who may use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gcs {
    /// The bucket, as `gs://<bucket>/…` names it.
    pub bucket: String,
    /// The text of the key file of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_key: Option<Secret>,
    /// With which rights, where no key is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The address of a service that is not Google's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A service over HTTP, and how requests show who sends them: not at all, by
/// user name, token, key, or a token that an authority hands out for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpService {
    /// What the addresses of its steps start with.
    pub url: String,
    /// Headers of every request, which steps can replace. They are shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A user name, sent with `password` as basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password of the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A key, sent where `api_key_header` or `api_key_query` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// The header that the key is sent in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_header: Option<String>,
    /// The query parameter that the key is sent in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_query: Option<String>,
    /// The name by which an authority of OAuth 2.0 knows this service, which
    /// gets its tokens there (client credentials).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The secret of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Where tokens are handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// What the token is to allow, with spaces between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whom the token is meant for, where the authority wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How the authority is shown the name and its secret.
    #[serde(default, skip_serializing_if = "ClientAuth::is_default")]
    pub client_auth: ClientAuth,
}

/// How an authority of OAuth 2.0 is shown who asks for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// As basic authentication.
    #[default]
    Basic,
    /// As members of the body.
    Body,
}

impl ClientAuth {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Connection {
    /// The word for what it leads to.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Sqlite(_) => "sqlite",
            Self::Sqlserver(_) => "sqlserver",
            Self::S3(_) => "s3",
            Self::Azure(_) => "azure",
            Self::Gcs(_) => "gcs",
            Self::Http(_) => "http",
        }
    }

    /// Whether `query`, `load` and `execute` can use it.
    pub fn is_database(&self) -> bool {
        matches!(
            self,
            Self::Postgres(_) | Self::Mysql(_) | Self::Sqlite(_) | Self::Sqlserver(_)
        )
    }

    /// The bucket or container that it leads to, if it leads to one.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::S3(s3) => Some(&s3.bucket),
            Self::Azure(azure) => Some(&azure.container),
            Self::Gcs(gcs) => Some(&gcs.bucket),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_can_be_masked_and_stored() {
        for fine in ["four", "four ", "ø-ø-", &"x".repeat(SECRET_BYTES_MAX)] {
            assert_eq!(check_secret(fine), Ok(()));
        }
        for wrong in ["", "abc", "  a  ", "øøø", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            let told = check_secret(wrong).unwrap_err();
            assert!(told.contains("must have at"), "{told}");
        }
    }
}
