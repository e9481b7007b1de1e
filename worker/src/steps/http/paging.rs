//! Which page follows on which, and when there is no further one. Pure.

use std::collections::HashSet;

use millstream_shared::flow::step::{HttpPages, JsonPointer, NextLink, OnMax, PageWay};
use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use crate::steps::StepError;

/// What a page shows of itself.
pub(super) struct Page<'a> {
    /// Where it was found, after all redirects.
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) json: &'a str,
    pub(super) rows: u64,
}

/// How the next page is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// At this address.
    At(Url),
    /// As the first one, with this value in the place that the flow names.
    With(Value),
}

/// How far the pages of an answer have come.
pub(super) struct Paging<'p> {
    pages: &'p HttpPages,
    way: PageWay<'p>,
    count: u32,
    rows: u64,
    /// Addresses and cursors that were asked for.
    seen: HashSet<String>,
}

/// The pages of an answer are not as the flow says.
pub(super) fn wrong(page: u32, message: &str) -> StepError {
    StepError::permanent("http_pages", format!("page {page}: {message}"))
}

impl<'p> Paging<'p> {
    /// Nothing has come yet. `first` is where the first page is.
    pub(super) fn new(pages: &'p HttpPages, way: PageWay<'p>, first: &Url) -> Self {
        Self {
            pages,
            way,
            count: 0,
            rows: 0,
            seen: HashSet::from([address(first)]),
        }
    }

    /// What the first page is asked with.
    pub(super) fn first(&self) -> Option<Next> {
        match self.way {
            PageWay::Link(_) | PageWay::Cursor(_) => None,
            PageWay::Number(counter) => Some(Next::With(counter.first.unwrap_or(1).into())),
            PageWay::Offset(counter) => Some(Next::With(counter.first.unwrap_or(0).into())),
        }
    }

    /// How many pages have come.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many rows of them are taken.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts a page that has so many rows; how many of them are taken.
    pub(super) fn take(&mut self, rows: u64) -> Result<u64, StepError> {
        self.count += 1;
        let room = self.pages.max_rows.map(|most| most - self.rows);
        let taken = match (room, self.pages.on_max) {
            (Some(room), OnMax::Fail) if rows > room => {
                let most = self.pages.max_rows.unwrap_or_default();
                let message = format!("there are more than the {most} rows that `max_rows` allows");
                return Err(wrong(self.count, &message));
            }
            (Some(room), _) => rows.min(room),
            (None, _) => rows,
        };
        self.rows += taken;
        Ok(taken)
    }

    /// How the page behind `page`, which was counted, is asked for; `None` where
    /// it is the last.
    pub(super) fn next(&mut self, page: &Page<'_>) -> Result<Option<Next>, StepError> {
        let says_no_more = match &self.pages.more {
            Some(at) => self.found(at, page)? == Value::Bool(false),
            None => false,
        };
        if self.pages.ends_with(page.rows) || says_no_more {
            return Ok(None);
        }
        let next = match self.way {
            PageWay::Link(link) => self.link(link, page)?.map(Next::At),
            PageWay::Cursor(cursor) => self.cursor(&cursor.at, page)?.map(Next::With),
            PageWay::Number(counter) => {
                let number = counter.first.unwrap_or(1).checked_add(self.count.into());
                number.map(|number| Next::With(number.into()))
            }
            PageWay::Offset(counter) => {
                let offset = counter.first.unwrap_or(0).checked_add(self.rows);
                offset.map(|offset| Next::With(offset.into()))
            }
        };
        match next {
            Some(_) if self.is_full() => Ok(None),
            Some(_) if self.count == self.most() => match self.pages.on_max {
                OnMax::Stop => Ok(None),
                OnMax::Fail => {
                    let message = format!(
                        "it is not the last, and `max_pages` allows no more than {}",
                        self.most()
                    );
                    Err(wrong(self.count, &message))
                }
            },
            next => Ok(next),
        }
    }

    fn most(&self) -> u32 {
        self.pages.max_pages.unwrap_or(HttpPages::PAGES)
    }

    /// Whether there is no room for a further row, and that is no failure.
    fn is_full(&self) -> bool {
        self.pages.on_max == OnMax::Stop && self.pages.max_rows == Some(self.rows)
    }

    fn link(&mut self, link: &NextLink, page: &Page<'_>) -> Result<Option<Url>, StepError> {
        let text = match link {
            NextLink::Header => next_link(page.headers),
            NextLink::At(at) => match self.found(at, page)? {
                Value::Null => None,
                Value::String(text) => Some(text),
                _ => {
                    let message = format!("what stands at `{at}` is no address");
                    return Err(wrong(self.count, &message));
                }
            },
        };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        let url = page.url.join(text.trim());
        let url = url.map_err(|error| {
            let message = format!("what names the next page is not an address: {error}");
            wrong(self.count, &message)
        })?;
        if !self.seen.insert(address(&url)) {
            let message = "its next page is one that was read before, so the pages have no end";
            return Err(wrong(self.count, message));
        }
        Ok(Some(url))
    }

    fn cursor(&mut self, at: &JsonPointer, page: &Page<'_>) -> Result<Option<Value>, StepError> {
        let cursor = match self.found(at, page)? {
            Value::Null | Value::Bool(false) => return Ok(None),
            Value::String(text) if text.is_empty() => return Ok(None),
            cursor @ (Value::String(_) | Value::Number(_)) => cursor,
            _ => {
                let message = format!("what stands at `{at}` is neither a text nor a number");
                return Err(wrong(self.count, &message));
            }
        };
        if !self.seen.insert(cursor.to_string()) {
            let message = "its cursor is one that was used before, so the pages have no end";
            return Err(wrong(self.count, message));
        }
        Ok(Some(cursor))
    }

    /// What stands at a place in a page; `null` where there is nothing.
    fn found(&self, at: &JsonPointer, page: &Page<'_>) -> Result<Value, StepError> {
        let told = |error| wrong(self.count, &format!("the answer is not JSON: {error}"));
        match at.find(page.json).map_err(told)? {
            Some(found) => serde_json::from_str(found.get()).map_err(told),
            None => Ok(Value::Null),
        }
    }
}

/// An address as it tells pages apart.
fn address(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

/// The address that a header `Link` names with `rel="next"` (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(LINK).iter();
    values.find_map(|value| {
        let mut rest = value.to_str().ok()?;
        while let Some((target, behind)) = rest.split_once('<')?.1.split_once('>') {
            let end = unquoted(behind, ',').unwrap_or(behind.len());
            if names_next(&behind[..end]) {
                return Some(target.to_owned());
            }
            rest = &behind[end..];
        }
        None
    })
}

/// Whether there is `rel=next` among the parameters of a link.
fn names_next(parameters: &str) -> bool {
    let mut rest = parameters;
    while let Some(start) = unquoted(rest, ';') {
        rest = &rest[start + 1..];
        let parameter = &rest[..unquoted(rest, ';').unwrap_or(rest.len())];
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            let mut relations = value.trim().trim_matches('"').split_whitespace();
            return relations.any(|relation| relation.eq_ignore_ascii_case("next"));
        }
    }
    false
}

/// Where a mark stands for the first time outside of quotes.
fn unquoted(text: &str, mark: char) -> Option<usize> {
    let mut in_quotes = false;
    text.find(|letter| {
        in_quotes ^= letter == '"';
        letter == mark && !in_quotes
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use serde_json::json;

    use super::*;

    fn pages(value: Value) -> HttpPages {
        serde_json::from_value(value).unwrap()
    }

    /// Goes through pages that are `(json, rows)`, from `http://h/a?x=1`; what
    /// each leads to.
    fn walk(pages: &HttpPages, answers: &[(&str, u64)]) -> Vec<Result<Option<Next>, String>> {
        let url: Url = "http://h/a?x=1".parse().unwrap();
        let mut paging = Paging::new(pages, pages.way().unwrap(), &url);
        let mut next = |(json, rows): &(&str, u64)| {
            paging.take(*rows)?;
            paging.next(&Page {
                url: &url,
                headers: &HeaderMap::new(),
                json,
                rows: *rows,
            })
        };
        let told = |found: Result<_, StepError>| found.map_err(|error| error.message);
        answers.iter().map(|answer| told(next(answer))).collect()
    }

    fn at(url: &str) -> Result<Option<Next>, String> {
        Ok(Some(Next::At(url.parse().unwrap())))
    }

    fn with(value: impl Into<Value>) -> Result<Option<Next>, String> {
        Ok(Some(Next::With(value.into())))
    }

    #[test]
    fn a_link_is_followed_until_there_is_none() {
        let pages = pages(json!({ "link": "/next" }));
        let found = walk(
            &pages,
            &[
                (r#"{"next": "/a?p=2"}"#, 5),
                (r#"{"next": "http://other/b"}"#, 0),
                (r#"{"next": null}"#, 5),
            ],
        );
        assert_eq!(
            found,
            [at("http://h/a?p=2"), at("http://other/b"), Ok(None)]
        );
        for (end, fine) in [
            ("{}", true),
            (r#"{"next": ""}"#, true),
            (r#"{"next": 7}"#, false),
        ] {
            assert_eq!(walk(&pages, &[(end, 5)])[0].is_ok(), fine, "{end}");
        }
    }

    #[test]
    fn links_and_cursors_that_come_again_are_found() {
        for (way, first, again) in [
            (
                json!({ "link": "/n" }),
                r#"{"n": "?p=2"}"#,
                r#"{"n": "?x=1#top"}"#,
            ),
            (
                json!({ "link": "/n" }),
                r#"{"n": "?p=2"}"#,
                r#"{"n": "/a?p=2"}"#,
            ),
            (
                json!({ "cursor": { "at": "/n", "query": "c" } }),
                r#"{"n": 2}"#,
                r#"{"n": 2}"#,
            ),
        ] {
            let found = walk(&pages(way), &[(first, 1), (again, 1)]);
            assert!(found[0].is_ok(), "{found:?}");
            let told = found[1].as_ref().unwrap_err();
            assert!(
                told.starts_with("page 2: ") && told.ends_with("no end"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_cursor_keeps_its_type_and_its_end_has_several_forms() {
        let pages = pages(json!({ "cursor": { "at": "/m/c", "query": "c" }, "more": "/m/more" }));
        let found = walk(
            &pages,
            &[
                (r#"{"m": {"c": "x y"}}"#, 0),
                (r#"{"m": {"c": 7, "more": true}}"#, 1),
                (r#"{"m": {"c": 8, "more": false}}"#, 1),
            ],
        );
        assert_eq!(found, [with("x y"), with(7), Ok(None)]);
        for end in [
            "{}",
            r#"{"m": {"c": null}}"#,
            r#"{"m": {"c": ""}}"#,
            r#"{"m": {"c": false}}"#,
        ] {
            assert_eq!(walk(&pages, &[(end, 1)]), [Ok(None)], "{end}");
        }
        let told = walk(&pages, &[(r#"{"m": {"c": []}}"#, 1)])
            .remove(0)
            .unwrap_err();
        assert_eq!(
            told,
            "page 1: what stands at `/m/c` is neither a text nor a number"
        );
    }

    #[test]
    fn counted_pages_go_on_by_pages_or_by_rows() {
        let number = pages(json!({ "number": { "query": "p" }, "size": 3 }));
        assert_eq!(
            walk(&number, &[("[]", 3), ("[]", 3), ("[]", 2)]),
            [with(2), with(3), Ok(None)]
        );
        let offset = pages(json!({ "offset": { "query": "o", "first": 10 } }));
        assert_eq!(
            walk(&offset, &[("[]", 3), ("[]", 2), ("[]", 0)]),
            [with(13), with(15), Ok(None)]
        );
    }

    #[test]
    fn what_is_too_much_fails_or_stops() {
        let full = [("[]", 2), ("[]", 2)];
        let way = json!({ "number": { "query": "p" }, "max_pages": 2 });
        let mut most = pages(way);
        let told = walk(&most, &full).remove(1).unwrap_err();
        assert_eq!(
            told,
            "page 2: it is not the last, and `max_pages` allows no more than 2"
        );
        most.on_max = OnMax::Stop;
        assert_eq!(walk(&most, &full), [with(2), Ok(None)]);

        let way = json!({ "number": { "query": "p" }, "max_rows": 3 });
        let mut most = pages(way);
        let told = walk(&most, &full).remove(1).unwrap_err();
        assert_eq!(
            told,
            "page 2: there are more than the 3 rows that `max_rows` allows"
        );
        most.on_max = OnMax::Stop;
        assert_eq!(walk(&most, &full), [with(2), Ok(None)]);
        let url = "http://h/".parse().unwrap();
        let mut paging = Paging::new(&most, most.way().unwrap(), &url);
        assert_eq!((paging.take(2).unwrap(), paging.take(2).unwrap()), (2, 1));
        assert_eq!(paging.rows(), 3);
    }

    #[test]
    fn a_next_link_is_found_among_others() {
        let of = |values: &[&'static str]| {
            let value = |text: &&'static str| (LINK, HeaderValue::from_static(text));
            next_link(&values.iter().map(value).collect())
        };
        let next = Some("/p?a=1,2;x".to_owned());
        for values in [
            &[r#"</p?a=1,2;x>; rel="next""#][..],
            &[r#"</l>; rel="last"; title="a, <b>; rel=next", </p?a=1,2;x>; rel=NEXT"#],
            &[
                r#"</l>; rel="prev""#,
                r#"</p?a=1,2;x>; title="x;y"; rel="last next""#,
            ],
        ] {
            assert_eq!(of(values), next, "{values:?}");
        }
        for values in [
            &[][..],
            &["x"],
            &[r#"</l>; rel="nextish""#],
            &["<", "</l"],
            &["</l>"],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}
