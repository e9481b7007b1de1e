//! An answer that comes in pages: one request after the other, and their lists
//! as one.

use millstream_shared::flow::step::{
    ExtractTo, Format, HttpExtract, HttpPages, HttpStep, JsonPointer, PageWay,
};
use serde_json::{Value, value::RawValue};

use super::{
    body::Body,
    extract::{self, JSON_BYTES_MAX},
    paging::{Next, Page, Paging, wrong},
    request::Request,
    sending::Sender,
    single::{self, BODY_BYTES_MAX},
    spool::{self, Spool},
    value,
};
use crate::{
    steps::{StepContext, StepError, StepOutput},
    tables::Spooled,
};

/// Reads page after page; a list of all that stands in them, or a table of it.
pub(super) async fn read(
    (step, pages): (&HttpStep, &HttpPages),
    first: Request,
    sender: &Sender<'_>,
    spool: &Spool<'_>,
    context: &StepContext,
) -> Result<StepOutput, StepError> {
    let Some(way) = pages.way() else {
        return Err(wrong(
            1,
            "the flow does not say how the next one is asked for",
        ));
    };
    let extract = step.extract.clone().unwrap_or_default();
    let mut paging = Paging::new(pages, way, &first.url);
    let mut gathered = Gathered::new(extract.to, sender, spool);
    let mut next = paging.first();
    let mut head = Value::Null;
    let mut bytes = 0;
    loop {
        let number = paging.count() + 1;
        let request = request(step, way, &first, number, next)?;
        let mut incoming = sender.send(request).await?;
        if incoming.is_refusal() {
            // Some services refuse the page behind the last.
            if number > 1 {
                break;
            }
            return single::whole(incoming).await;
        }
        incoming.check_readable()?;
        let body = incoming.in_memory(JSON_BYTES_MAX).await?;
        bytes += incoming.bytes;
        head = value::of_head(incoming.status(), incoming.headers());
        let shown = format!("page {number}");
        let json = extract::text(&body, &shown)?;
        let items = extract::items(&extract.at, json, &shown)?;
        let rows = items.len() as u64;
        let taken = paging.take(rows)?;
        gathered.add(&items[..taken as usize], shown).await?;
        next = paging.next(&Page {
            url: &incoming.request.url,
            headers: incoming.headers(),
            json,
            rows,
        })?;
        if next.is_none() {
            break;
        }
    }
    head["pages"] = paging.count().into();
    let output = StepOutput {
        value: head,
        rows: Some(paging.rows()),
        bytes: Some(bytes),
        ..StepOutput::default()
    };
    gathered.handed_on(output, &extract, context).await
}

/// The request for a page, which is made of that for the first one.
fn request(
    step: &HttpStep,
    way: PageWay<'_>,
    first: &Request,
    number: u32,
    next: Option<Next>,
) -> Result<Request, StepError> {
    let mut request = match next {
        Some(Next::At(url)) => return first.for_page(number, url),
        Some(Next::With(_)) if number > 1 => first.numbered(number)?,
        _ => first.clone(),
    };
    if let Some(Next::With(value)) = next {
        let (query, json) = place(way);
        if let Some(query) = query {
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            request.set_query(query, &text);
        } else if let Some(at) = json {
            let mut document = step.json.clone().unwrap_or_default();
            let put = at.put(&mut document, value);
            put.map_err(|told| {
                wrong(number, &format!("`{at}` cannot be set in the body: {told}"))
            })?;
            request.set_body(Body::json(&document))?;
        }
    }
    Ok(request)
}

/// Where what a page is asked by is put.
fn place(way: PageWay<'_>) -> (Option<&String>, Option<&JsonPointer>) {
    match way {
        PageWay::Link(_) => (None, None),
        PageWay::Cursor(cursor) => (cursor.query.as_ref(), cursor.json.as_ref()),
        PageWay::Number(counter) | PageWay::Offset(counter) => {
            (counter.query.as_ref(), counter.json.as_ref())
        }
    }
}

/// What has come of all pages.
struct Gathered<'s> {
    sender: &'s Sender<'s>,
    spool: &'s Spool<'s>,
    bytes: u64,
    rows: Rows,
}

enum Rows {
    /// In memory.
    Items(Vec<Value>),
    /// On disk, page by page.
    Spooled(Vec<Spooled>),
}

impl<'s> Gathered<'s> {
    fn new(to: ExtractTo, sender: &'s Sender<'s>, spool: &'s Spool<'s>) -> Self {
        Self {
            sender,
            spool,
            bytes: 0,
            rows: match to {
                ExtractTo::Value => Rows::Items(Vec::new()),
                ExtractTo::Table => Rows::Spooled(Vec::new()),
            },
        }
    }

    /// Takes in the items of a page.
    async fn add(&mut self, items: &[&RawValue], shown: String) -> Result<(), StepError> {
        let texts: Vec<&str> = items.iter().map(|item| item.get()).collect();
        let json = format!("[{}]", texts.join("\n,"));
        self.bytes += json.len() as u64;
        let size = self.sender.client.answer_size;
        match &mut self.rows {
            Rows::Items(_) if self.bytes > BODY_BYTES_MAX as u64 => Err(too_large(&format!(
                "{BODY_BYTES_MAX} bytes, which is the most for a value: make a table of them with \
                 `extract: {{ to: table }}`"
            ))),
            Rows::Items(gathered) => {
                let items: Vec<Value> = serde_json::from_str(&json).map_err(|error| {
                    StepError::permanent("http_extract", format!("{shown}: {error}"))
                })?;
                gathered.extend(items);
                Ok(())
            }
            Rows::Spooled(_) if self.bytes > size.bytes() => {
                let limit = format!("the {size} that --http-answer-size allows");
                Err(too_large(&limit))
            }
            Rows::Spooled(spooled) => {
                let path = self.spool.path(&shown).await?;
                let bytes = json.len() as u64;
                tokio::fs::write(&path, json).await.map_err(spool::failed)?;
                spooled.push(Spooled { path, shown, bytes });
                Ok(())
            }
        }
    }

    async fn handed_on(
        self,
        mut output: StepOutput,
        extract: &HttpExtract,
        context: &StepContext,
    ) -> Result<StepOutput, StepError> {
        match self.rows {
            Rows::Items(items) => output.value["body"] = items.into(),
            Rows::Spooled(spooled) => {
                let table = extract::table(spooled, Format::Json, extract, context).await?;
                output.rows = Some(table.rows());
                output.table = Some(table);
            }
        }
        Ok(output)
    }
}

fn too_large(limit: &str) -> StepError {
    let message = format!("the pages together have more than {limit}");
    StepError::permanent("http_too_large", message)
}
