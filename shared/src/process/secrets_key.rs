//! `--secrets-key`: how a setting becomes the keys of the vault.

use std::ffi::OsStr;

use clap::{
    Arg, Command, Error,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};

use crate::connection::{InvalidSecretsKey, SecretsKeys};

/// Reads the setting. What is wrong with it is told without its text, which
/// may be a key but for one character.
#[derive(Clone, Debug)]
pub struct SecretsKeysParser;

impl ValueParserFactory for SecretsKeys {
    type Parser = SecretsKeysParser;

    fn value_parser() -> SecretsKeysParser {
        SecretsKeysParser
    }
}

impl TypedValueParser for SecretsKeysParser {
    type Value = SecretsKeys;

    fn parse_ref(
        &self,
        command: &Command,
        _argument: Option<&Arg>,
        text: &OsStr,
    ) -> Result<SecretsKeys, Error> {
        let keys = text.to_str().ok_or(InvalidSecretsKey);
        keys.and_then(str::parse).map_err(|wrong| {
            let told = format!("--secrets-key (MILLSTREAM_SECRETS_KEY) {wrong}\n");
            Error::raw(ErrorKind::ValueValidation, told).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        /// The key.
        #[arg(long, env = "MILLSTREAM_SECRETS_KEY", hide_env_values = true)]
        secrets_key: Option<SecretsKeys>,
    }

    #[test]
    fn a_key_shows_neither_in_the_settings_nor_in_the_help_nor_in_an_error() {
        let key = SecretsKeys::generate().unwrap();
        let given = |text: &str| Settings::try_parse_from(["program", "--secrets-key", text]);
        let settings = given(&key).unwrap();
        assert!(settings.secrets_key.is_some());
        assert!(!format!("{settings:?}").contains(&key));
        let help = Settings::command().render_long_help().to_string();
        assert!(help.contains("MILLSTREAM_SECRETS_KEY") && !help.contains(&key));
        for wrong in [&key[1..], &format!("{key},"), &format!("{key};{key}"), ""] {
            let told = given(wrong).unwrap_err().to_string();
            let first = told.split("\n\n").next().unwrap().trim();
            assert_eq!(
                first,
                "error: --secrets-key (MILLSTREAM_SECRETS_KEY) must be 32 bytes in base64, or \
                 several such keys with commas between"
            );
            assert!(wrong.is_empty() || !told.contains(wrong), "{told}");
        }
    }
}
