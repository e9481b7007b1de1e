//! `millstream start`: starts a run, and waits for its end if asked to.

use std::time::Duration;

use anyhow::anyhow;
use millstream_shared::{
    duration::Span,
    id::{FlowId, RunId},
    run::Status,
};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    failure::{Failure, Outcome},
    output,
    service::{Answer, Service, ServiceSettings, Start, Wait},
};

/// Start a run of a flow
///
/// Prints `{"runId": …, "status": …}`. Exits with 0 when the run succeeded or,
/// without --await, was started; 1 when it failed; 2 for wrong usage; 3 when the
/// service could not be reached or refused; 4 when the time to wait was over
/// before the run was.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The flow
    #[arg(value_name = "ID")]
    flow: FlowId,

    /// An input; one that is no text is written as in JSON
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = name_and_value)]
    inputs: Vec<(String, String)>,

    /// Inputs as a JSON object
    #[arg(long = "inputs", value_name = "JSON", value_parser = object)]
    object: Option<Map<String, Value>>,

    /// The same key starts the same run only once within 24 hours
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,

    #[command(flatten)]
    waiting: Waiting,

    #[command(flatten)]
    service: ServiceSettings,
}

/// Whether and how long to wait.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait for the end of the run
    #[arg(long = "await")]
    wait: bool,

    /// Wait at most so long: seconds, or a duration such as 2h
    #[arg(long, value_name = "DURATION", value_parser = timeout, requires = "wait")]
    timeout: Option<Duration>,
}

impl Waiting {
    /// The wait that begins now.
    pub(crate) fn begin(&self) -> Wait {
        match (self.wait, self.timeout) {
            (false, _) => Wait::No,
            (true, None) => Wait::Unbounded,
            (true, Some(timeout)) => Wait::Until(Instant::now() + timeout),
        }
    }

    /// What the status of a run means for the one who asked.
    pub(crate) fn outcome(&self, answer: Answer) -> Outcome {
        match answer.status {
            Status::Succeeded => Outcome::Done,
            Status::Failed => Outcome::Bad,
            Status::Pending | Status::Running if self.wait => Outcome::Unfinished,
            Status::Pending | Status::Running => Outcome::Done,
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let inputs = merged(arguments.inputs, arguments.object.unwrap_or_default())?;
    let service = Service::new(&arguments.service)?;
    // With a key of its own a start can be sent again when a connection broke.
    let idempotency_key = arguments
        .idempotency_key
        .unwrap_or_else(|| RunId::new().to_string());
    let start = Start {
        flow: arguments.flow,
        inputs,
        idempotency_key,
    };
    let answer = service.start(&start, arguments.waiting.begin()).await?;
    output::json_line(&answer)?;
    Ok(arguments.waiting.outcome(answer))
}

/// All inputs, each given once. Texts that spell a number, a date or a list
/// are taken for it by the service, which knows what it expects.
fn merged(
    inputs: Vec<(String, String)>,
    mut object: Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    for (name, value) in inputs {
        if object.contains_key(&name) {
            return Err(Failure::Usage(format!("input `{name}` is given twice")));
        }
        object.insert(name, Value::String(value));
    }
    Ok(object)
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("an input must be written as name=value".to_owned()),
    }
}

fn object(text: &str) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| anyhow!("inputs must be a JSON object: {error}"))
}

fn idempotency_key(text: &str) -> Result<String, String> {
    let visible = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if (1..=255).contains(&text.len()) && visible && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err("a key must be 1 to 255 visible ASCII characters".to_owned())
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let longest = Duration::from_secs(366 * 24 * 3600);
    if let Some(seconds) = seconds.filter(|seconds| *seconds <= longest) {
        return Ok(seconds);
    }
    let span: Result<Span, _> = text.parse();
    span.map(Span::duration).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_input_is_a_name_and_a_text_that_may_hold_anything() {
        assert_eq!(name_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(name_and_value("a="), Ok(("a".into(), String::new())));
        assert!(name_and_value("a").is_err());
        assert!(name_and_value("=b").is_err());
    }

    #[test]
    fn an_input_that_is_given_twice_is_named() {
        let object = object(r#"{"a": 1}"#).unwrap();
        let all = merged(vec![("b".into(), "2".into())], object.clone()).unwrap();
        assert_eq!(Value::Object(all), json!({"a": 1, "b": "2"}));
        let error = merged(vec![("a".into(), "2".into())], object).unwrap_err();
        assert!(error.to_string().contains("`a`"), "{error}");
        let twice = vec![("b".into(), "2".into()), ("b".into(), "2".into())];
        assert!(merged(twice, Map::new()).is_err());
    }

    #[test]
    fn a_timeout_is_seconds_or_a_duration() {
        assert_eq!(timeout("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(timeout("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "-1", "nan", "inf", "soon", "1e12"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_that_has_not_ended_is_a_failure_only_for_who_waited() {
        let run_id = RunId::new();
        let outcome = |wait, status| {
            let waiting = Waiting {
                wait,
                timeout: None,
            };
            waiting.outcome(Answer { run_id, status })
        };
        assert_eq!(outcome(false, Status::Pending), Outcome::Done);
        assert_eq!(outcome(true, Status::Running), Outcome::Unfinished);
        assert_eq!(outcome(true, Status::Succeeded), Outcome::Done);
        assert_eq!(outcome(false, Status::Failed), Outcome::Bad);
    }
}
