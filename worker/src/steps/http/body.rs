//! What a request sends: texts, files and tables, streamed with a length that
//! is known before.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use indexmap::IndexMap;
use millstream_shared::flow::step::{Format, HttpPart, HttpStep, TextFormat};
use reqwest::{RequestBuilder, header::CONTENT_LENGTH};
use serde_json::Value;
use tokio::{fs::File, io::AsyncReadExt};
use url::form_urlencoded;

use super::{request::unsound, spool::Spool};
use crate::{
    steps::{StepContext, StepError},
    tables,
};

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a request sends. It can be sent again.
#[derive(Clone, Debug)]
pub(super) struct Body {
    parts: Vec<Part>,
    pub(super) content_type: String,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Bytes),
    File(Sent),
}

/// A file as it is sent.
#[derive(Clone, Debug)]
struct Sent {
    path: PathBuf,
    /// What errors call it.
    shown: String,
    bytes: u64,
}

impl Body {
    /// A text of a kind.
    pub(super) fn text(text: String, content_type: &str) -> Self {
        Self {
            parts: vec![Part::Text(text.into())],
            content_type: content_type.to_owned(),
        }
    }

    /// A value as JSON.
    pub(super) fn json(value: &Value) -> Self {
        Self::text(value.to_string(), "application/json")
    }

    /// The body of a step whose templates are filled in, where that is no more
    /// than a text.
    pub(super) fn plain(step: &HttpStep) -> Option<Self> {
        if let Some(json) = &step.json {
            return Some(Self::json(json));
        }
        if let Some(form) = &step.form {
            let text = form_text(form);
            return Some(Self::text(text, "application/x-www-form-urlencoded"));
        }
        let text = step.body.clone()?;
        Some(Self::text(text, "text/plain; charset=utf-8"))
    }

    /// The body of a step whose templates are filled in. A table is written
    /// into the `spool` before.
    pub(super) async fn of(
        step: &HttpStep,
        context: &StepContext,
        spool: &Spool<'_>,
    ) -> Result<Option<Self>, StepError> {
        if let Some(path) = &step.file {
            let file = Sent::of(path, context).await?;
            return Ok(Some(Self {
                parts: vec![Part::File(file)],
                content_type: content_type(path).to_owned(),
            }));
        }
        if let Some(fields) = &step.multipart {
            return Self::multipart(fields, context).await.map(Some);
        }
        let Some(sent) = &step.table else {
            return Ok(Self::plain(step));
        };
        let table = context.table(&sent.from)?.clone();
        let path = spool.path("body").await?;
        let (format, target) = (sent.format, path.clone());
        let services = &context.services;
        let writing = services
            .tables
            .on_files(move |work| tables::write_text(&table, format, &target, work));
        let bytes = writing.await?;
        let shown = format!("the table of `{}`", sent.from);
        Ok(Some(Self {
            parts: vec![Part::File(Sent { path, shown, bytes })],
            content_type: table_type(format).to_owned(),
        }))
    }

    async fn multipart(
        fields: &IndexMap<String, HttpPart>,
        context: &StepContext,
    ) -> Result<Self, StepError> {
        let boundary = boundary();
        let mut parts = Vec::new();
        for (name, field) in fields {
            let mut head = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"",
                quoted(name)
            );
            let default_type = match &field.file {
                Some(path) => {
                    let own_name = path.rsplit('/').next().unwrap_or_default();
                    let file_name = field.filename.as_deref().unwrap_or(own_name);
                    head += &format!("; filename=\"{}\"", quoted(file_name));
                    Some(content_type(path))
                }
                None => match &field.value {
                    None | Some(Value::String(_)) => None,
                    Some(_) => Some("application/json"),
                },
            };
            if let Some(kind) = field.content_type.as_deref().or(default_type) {
                if kind.contains(char::is_control) {
                    let message = format!("the `content_type` of the field `{name}` is not a line");
                    return Err(unsound(message));
                }
                head += &format!("\r\nContent-Type: {kind}");
            }
            parts.push(Part::Text(format!("{head}\r\n\r\n").into()));
            parts.push(match (&field.file, &field.value) {
                (Some(path), _) => Part::File(Sent::of(path, context).await?),
                (None, Some(Value::String(text))) => Part::Text(text.clone().into()),
                (None, value) => Part::Text(
                    value
                        .iter()
                        .map(Value::to_string)
                        .collect::<String>()
                        .into(),
                ),
            });
            parts.push(Part::Text("\r\n".into()));
        }
        parts.push(Part::Text(format!("--{boundary}--\r\n").into()));
        Ok(Self {
            parts,
            content_type: format!("multipart/form-data; boundary={boundary}"),
        })
    }

    /// The request with this body, and with its length.
    pub(super) fn put_into(&self, request: RequestBuilder) -> RequestBuilder {
        if let [Part::Text(text)] = &*self.parts {
            return request.body(text.clone());
        }
        let stream = stream::iter(self.parts.clone()).flat_map(Part::bytes);
        request
            .header(CONTENT_LENGTH, self.length())
            .body(reqwest::Body::wrap_stream(stream))
    }

    fn length(&self) -> u64 {
        let length = |part: &Part| match part {
            Part::Text(text) => text.len() as u64,
            Part::File(file) => file.bytes,
        };
        self.parts.iter().map(length).sum()
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Part::File(file) => format!("<{}>", file.shown),
        };
        self.parts.iter().map(text).collect()
    }
}

impl Part {
    fn bytes(self) -> stream::BoxStream<'static, io::Result<Bytes>> {
        match self {
            Self::Text(text) => stream::iter([Ok(text)]).boxed(),
            Self::File(file) => stream::once(file.stream()).try_flatten().boxed(),
        }
    }
}

impl Sent {
    async fn of(path: &str, context: &StepContext) -> Result<Self, StepError> {
        let (services, given) = (context.services.clone(), path.to_owned());
        let finding = context
            .services
            .tables
            .on_files(move |_| services.files.one(&given));
        let (found, bytes) = finding.await?;
        Ok(Self {
            path: found,
            shown: format!("`{path}`"),
            bytes,
        })
    }

    /// As many bytes as it had, or an error.
    async fn stream(self) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
        let file = File::open(&self.path).await?;
        let (shown, bytes) = (self.shown, self.bytes);
        Ok(stream::try_unfold(
            (file, bytes),
            move |(mut file, left)| {
                let shortened = format!("{shown} became shorter while it was sent");
                async move {
                    if left == 0 {
                        return Ok(None);
                    }
                    let wanted = left.min(CHUNK_BYTES as u64) as usize;
                    let mut chunk = vec![0; wanted];
                    let count = file.read(&mut chunk).await?;
                    if count == 0 {
                        return Err(io::Error::other(shortened));
                    }
                    chunk.truncate(count);
                    Ok(Some((Bytes::from(chunk), (file, left - count as u64))))
                }
            },
        ))
    }
}

/// A line that no file holds.
fn boundary() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("millstream-{:016x}{:016x}", random(), random())
}

/// The name of a field or a file as browsers write it.
fn quoted(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn table_type(format: TextFormat) -> &'static str {
    match format {
        TextFormat::Json => "application/json",
        TextFormat::Ndjson => "application/x-ndjson",
        TextFormat::Csv => "text/csv; charset=utf-8",
    }
}

/// What a file is, as far as its ending says it.
fn content_type(path: &str) -> &'static str {
    let is_packed = millstream_shared::flow::step::Compression::of_path(path).is_some();
    match Format::of_path(path) {
        Some(Format::Csv) if !is_packed => "text/csv",
        Some(Format::Json) if !is_packed => "application/json",
        Some(Format::Ndjson) if !is_packed => "application/x-ndjson",
        Some(Format::Parquet) => "application/vnd.apache.parquet",
        Some(Format::Arrow) => "application/vnd.apache.arrow.file",
        Some(Format::Excel) if path.to_ascii_lowercase().ends_with(".xlsx") => {
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        }
        _ => "application/octet-stream",
    }
}

pub(super) fn form_text(form: &IndexMap<String, Value>) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form {
        for text in texts(value) {
            pairs.append_pair(name, &text);
        }
    }
    pairs.finish()
}

/// A value as the texts that a form or a query holds: none for `null`, one
/// for each entry of a list, JSON for an object.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(entries) => entries.iter().flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_what_its_ending_says() {
        for (path, expected) in [
            ("out/a.csv", "text/csv"),
            ("a.csv.gz", "application/octet-stream"),
            ("a.jsonl", "application/x-ndjson"),
            ("a.parquet", "application/vnd.apache.parquet"),
            ("a.ods", "application/octet-stream"),
            ("a", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_cannot_end_its_quotes_or_its_line() {
        assert_eq!(quoted("a\"b\r\nc"), "a%22b%0D%0Ac");
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_not_sent_as_if_it_were_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "12345").unwrap();
        let sent = |bytes| Sent {
            path: path.clone(),
            shown: "`x`".to_owned(),
            bytes,
        };
        let read = async |bytes| {
            let stream = sent(bytes).stream().await.unwrap();
            let chunks: io::Result<Vec<Bytes>> = stream.try_collect().await;
            chunks.map(|chunks| chunks.concat())
        };
        assert_eq!(read(3).await.unwrap(), b"123");
        let error = read(6).await.unwrap_err().to_string();
        assert_eq!(error, "`x` became shorter while it was sent");
    }
}
