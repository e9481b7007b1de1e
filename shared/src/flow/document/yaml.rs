//! From a YAML or JSON text to a value, within limits, refusing what can be
//! read in two ways.

use serde_json::Value;
use serde_saphyr::{
    Error, Location, MessageFormatter, Options, UserMessageFormatter, budget::BudgetBreach,
    options::AliasLimits,
};

use super::Problem;

/// How deep maps and lists may nest.
const DEPTH_MAX: usize = 64;

/// The most texts, numbers, maps and lists in a document.
const NODES_MAX: usize = 100_000;

/// The most aliases (`*name`) in a document.
const ALIASES_MAX: usize = 100;

/// The most parts of a document that aliases may repeat.
const REPEATED_MAX: usize = 10_000;

/// The value that `text` stands for.
pub(super) fn read(text: &str) -> Result<Value, Problem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        Problem {
            path: String::new(),
            line: location.line().max(1),
            column: location.column().max(1),
            message: message(&error),
        }
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_merge_keys: ALIASES_MAX,
            max_recorded_anchor_events: REPEATED_MAX,
            // A few texts used often are no bomb; the limits above hold those off.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: alias_limits(),
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn alias_limits() -> AliasLimits {
    serde_saphyr::alias_limits! {
        max_total_replayed_events: REPEATED_MAX,
        max_replay_stack_depth: 8,
        max_alias_expansions_per_anchor: ALIASES_MAX,
    }
}

/// What is wrong, in words.
fn message(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => message(error),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the member `{key}` stands here twice")
        }
        Error::DuplicateMappingKey { key: None, .. } => "a member stands here twice".to_owned(),
        Error::MultipleDocuments { .. } => {
            "a text holds one flow: there is a second document here".to_owned()
        }
        Error::Eof { .. } => "the text is empty".to_owned(),
        Error::NonFiniteFloat { value, .. } => format!("`{value}` is not a finite number"),
        Error::UnknownAnchor { .. } => "there is no anchor of this name before this".to_owned(),
        Error::UnsupportedTag { tag, .. } => format!("the tag `{tag}` is not known"),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_many_aliases(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias stands inside of what it repeats".to_owned()
        }
        Error::Budget { breach, .. } => breach_message(breach),
        _ => UserMessageFormatter.format_message(error).into_owned(),
    }
}

fn breach_message(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("maps and lists nest at most {DEPTH_MAX} deep"),
        BudgetBreach::Nodes { .. } => format!("a flow has at most {NODES_MAX} parts"),
        BudgetBreach::Documents { .. } => {
            "a text holds one flow: there is a second document here".to_owned()
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::RecordedAnchorEvents { .. } => too_many_aliases(),
        _ => "the text is too large to be a flow".to_owned(),
    }
}

fn too_many_aliases() -> String {
    format!("a flow has at most {ALIASES_MAX} aliases, which repeat at most {REPEATED_MAX} parts")
}
