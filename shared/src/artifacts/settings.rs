//! Where the artifact store is.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where artifacts are kept.
#[derive(Clone, Debug, clap::Args)]
pub struct ArtifactSettings {
    /// Where outputs and values are kept that are too large for Redis, and tables
    /// that later attempts of their run need: a folder, `file:///folder`,
    /// `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`, the
    /// same for every API process and worker. Credentials come from the
    /// environment variables of each cloud: `AWS_…`, `AZURE_…`, `GOOGLE_…`.
    /// Without it nothing is kept beyond what fits into Redis.
    #[arg(
        long = "artifacts",
        env = "MILLSTREAM_ARTIFACTS",
        value_name = "PLACE",
        default_value = "",
        hide_default_value = true
    )]
    pub place: ArtifactPlace,
}

/// A place for artifacts, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactPlace(pub(super) Option<Place>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket {
        cloud: Cloud,
        bucket: String,
        /// Without a slash at either end.
        prefix: String,
    },
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    Amazon,
    Azure,
    Google,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                let scheme = match cloud {
                    Cloud::Amazon => "s3",
                    Cloud::Azure => "az",
                    Cloud::Google => "gs",
                };
                write!(f, "{scheme}://{bucket}")?;
                if prefix.is_empty() {
                    Ok(())
                } else {
                    write!(f, "/{prefix}")
                }
            }
        }
    }
}

impl FromStr for ArtifactPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a folder, `file:///folder`, `s3://bucket/prefix`, \
                                `az://container/prefix` or `gs://bucket/prefix`";
        if text.is_empty() {
            return Ok(Self(None));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self(Some(Place::Folder(text.into()))));
        };
        let cloud = match scheme {
            "file" if rest.starts_with('/') => return Ok(Self(Some(Place::Folder(rest.into())))),
            "s3" => Cloud::Amazon,
            "az" => Cloud::Azure,
            "gs" => Cloud::Google,
            _ => return Err(EXPECTED.to_owned()),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(in_name) {
            return Err(EXPECTED.to_owned());
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self(Some(Place::Bucket {
            cloud,
            bucket: bucket.to_owned(),
            prefix,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        for (text, shown) in [
            ("artifacts", "artifacts"),
            ("/srv/artifacts", "/srv/artifacts"),
            ("file:///srv/artifacts", "/srv/artifacts"),
            ("s3://kept", "s3://kept"),
            ("az://kept/a/b/", "az://kept/a/b"),
            ("gs://kept.example//a", "gs://kept.example/a"),
        ] {
            let place: ArtifactPlace = text.parse().unwrap();
            assert_eq!(place.0.unwrap().to_string(), shown);
        }
        assert_eq!("".parse(), Ok(ArtifactPlace(None)));
        for wrong in [
            "s3://",
            "s3:///kept",
            "ftp://host/x",
            "file://host/x",
            "s3://key:secret@kept",
        ] {
            let error = wrong.parse::<ArtifactPlace>().unwrap_err();
            assert!(error.contains("`s3://bucket/prefix`"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
