//! The part of an answer that a step hands on, and tables of such parts.

use millstream_shared::flow::step::{Format, HttpExtract, JsonPointer, OnBadRow, ReadStep};
use serde_json::value::RawValue;

use super::value::ContentType;
use crate::{
    steps::{StepContext, StepError},
    tables::{self, Spooled, Table},
};

/// How large an answer of JSON may be of which a part is taken: it is in memory
/// for that.
pub(super) const JSON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An answer is not as the flow says. `shown` is what errors call the answer.
fn wrong(shown: &str, message: &str) -> StepError {
    StepError::permanent("http_extract", format!("{shown}: {message}"))
}

/// An answer as a text.
pub(super) fn text<'b>(body: &'b [u8], shown: &str) -> Result<&'b str, StepError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    std::str::from_utf8(body).map_err(|_| wrong(shown, "is not UTF-8"))
}

/// What stands at a place in an answer.
pub(super) fn part<'j>(
    at: &JsonPointer,
    json: &'j str,
    shown: &str,
) -> Result<&'j RawValue, StepError> {
    let found = at.find(json);
    let found = found.map_err(|error| wrong(shown, &format!("is not JSON: {error}")))?;
    found.ok_or_else(|| wrong(shown, &format!("has nothing at `{at}`")))
}

/// The items of a list that stands at a place in an answer; none for `null`.
pub(super) fn items<'j>(
    at: &JsonPointer,
    json: &'j str,
    shown: &str,
) -> Result<Vec<&'j RawValue>, StepError> {
    let part = part(at, json, shown)?;
    let items: Option<Vec<&RawValue>> = serde_json::from_str(part.get()).map_err(|_| {
        let place = match at.is_whole() {
            true => "is".to_owned(),
            false => format!("has at `{at}`"),
        };
        wrong(shown, &format!("{place} no list"))
    })?;
    Ok(items.unwrap_or_default())
}

/// How the rows of a table stand in an answer.
pub(super) fn format(extract: &HttpExtract, content_type: &ContentType) -> Format {
    match (extract.format, &*content_type.kind) {
        (Some(format), _) => format,
        (None, _) if !extract.at.is_whole() => Format::Json,
        (None, "text/csv" | "application/csv") => Format::Csv,
        (
            None,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines",
        ) => Format::Ndjson,
        (None, _) => Format::Json,
    }
}

/// The table of answers that lie in files.
pub(super) async fn table(
    answers: Vec<Spooled>,
    format: Format,
    extract: &HttpExtract,
    context: &StepContext,
) -> Result<Table, StepError> {
    let step = ReadStep {
        path: String::new(),
        connection: None,
        format: Some(format),
        columns: extract.columns.clone(),
        csv: extract.csv.clone(),
        excel: None,
        on_bad_row: OnBadRow::Fail,
        reject_limit: None,
        rejects: None,
    };
    let services = context.services.clone();
    let reading = context.services.tables.on_files(move |work| {
        tables::read_spooled(&answers, (format, &step), &services.files, work)
    });
    Ok(reading.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> JsonPointer {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn a_list_is_taken_from_its_place() {
        let found = items(&pointer("/d"), r#"{"d": [1.0, {"a": 2}]}"#, "x").unwrap();
        let found: Vec<&str> = found.into_iter().map(RawValue::get).collect();
        assert_eq!(found, ["1.0", "{\"a\": 2}"]);
        assert!(
            items(&pointer("/d"), r#"{"d": null}"#, "x")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn an_answer_that_is_not_as_said_is_named_with_the_place() {
        for (at, json, expected) in [
            ("/d", "{}", "page 2: has nothing at `/d`"),
            ("/d", r#"{"d": {}}"#, "page 2: has at `/d` no list"),
            ("", "7", "page 2: is no list"),
            (
                "",
                "<html>",
                "page 2: is not JSON: expected value at line 1 column 1",
            ),
        ] {
            let error = items(&pointer(at), json, "page 2").unwrap_err();
            assert_eq!((error.code, &*error.message), ("http_extract", expected));
        }
        assert_eq!(
            text(b"\xff", "the answer").unwrap_err().message,
            "the answer: is not UTF-8"
        );
    }
}
