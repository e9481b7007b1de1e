//! Where a file lies, as far as its path tells.

/// Where a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A path without a scheme: a local file, or one within what a connection
    /// leads to.
    Relative(&'a str),
    /// An object in a bucket or container.
    Object {
        /// What keeps it.
        store: StoreKind,
        /// The bucket or container.
        bucket: &'a str,
        /// Its name there, or a pattern of names.
        key: &'a str,
    },
    /// An address of HTTP.
    Web(&'a str),
}

/// A kind of store for objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// S3, or what speaks like it.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// A path whose scheme leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{scheme}://` leads nowhere: files lie at `s3://`, `az://`, `gs://`, `http://` or \
     `https://`, or in the local folders"
)]
pub struct UnknownScheme {
    scheme: String,
}

impl StoreKind {
    /// The kind of the connections that lead to it.
    pub fn connection_kind(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "azure",
            Self::Gcs => "gcs",
        }
    }

    /// How the addresses of its objects start.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
            Self::Gcs => "gs",
        }
    }
}

/// Where `path` leads to.
///
/// # Errors
/// Fails where it starts with a scheme that is not known.
pub fn of_path(path: &str) -> Result<Place<'_>, UnknownScheme> {
    let Some((scheme, rest)) = path.split_once("://") else {
        return Ok(Place::Relative(path));
    };
    let object = |store| {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Place::Object { store, bucket, key })
    };
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => object(StoreKind::S3),
        "az" => object(StoreKind::Azure),
        "gs" => object(StoreKind::Gcs),
        "http" | "https" => Ok(Place::Web(path)),
        other if is_scheme(other) => Err(UnknownScheme {
            scheme: other.to_owned(),
        }),
        _ => Ok(Place::Relative(path)),
    }
}

fn is_scheme(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(plain)
}

/// Whether a path, or a part of it, can mean several files.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The path of a file without what stands behind it in an address of HTTP.
pub fn without_query(path: &str) -> &str {
    match of_path(path) {
        Ok(Place::Web(url)) => url.split(['?', '#']).next().unwrap_or(url),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_where_its_file_lies() {
        let object = |store, bucket, key| Place::Object { store, bucket, key };
        for (path, place) in [
            ("orders/*.csv", Place::Relative("orders/*.csv")),
            ("/data/a:b.csv", Place::Relative("/data/a:b.csv")),
            ("a b://c", Place::Relative("a b://c")),
            (
                "s3://raw/2026/*.csv",
                object(StoreKind::S3, "raw", "2026/*.csv"),
            ),
            ("S3://raw", object(StoreKind::S3, "raw", "")),
            ("az://c/x", object(StoreKind::Azure, "c", "x")),
            ("gs://b/x//y", object(StoreKind::Gcs, "b", "x//y")),
            ("HTTPS://h/a.csv?x=1", Place::Web("HTTPS://h/a.csv?x=1")),
        ] {
            assert_eq!(of_path(path), Ok(place), "{path}");
        }
        let unknown = of_path("ftp://h/a.csv").unwrap_err().to_string();
        assert!(unknown.starts_with("`ftp://` leads nowhere"), "{unknown}");
    }

    #[test]
    fn only_an_address_of_http_has_a_query() {
        assert_eq!(without_query("http://h/a.csv?sig=x.y#z"), "http://h/a.csv");
        assert_eq!(without_query("s3://b/a?.csv"), "s3://b/a?.csv");
        assert_eq!(without_query("a?.csv"), "a?.csv");
    }
}
