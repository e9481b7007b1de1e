//! What flows say of answers that come in pages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pointer::JsonPointer;

/// How an answer goes on in further ones. Exactly one of `link`, `cursor`,
/// `number` and `offset` says how the next page is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpPages {
    /// By its address: where that stands in the answer, such as
    /// `/paging/next`, or `header` for the header `Link` with `rel="next"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<NextLink>,
    /// By a value that the answer before it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<PageCursor>,
    /// By its number, which goes up by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<PageCounter>,
    /// By how many rows came before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<PageCounter>,
    /// How many rows a full page has. It is not sent: that is for `query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// What shows that a page is the last. Unless said, `no_next` for `link`
    /// and `cursor`; for `number` and `offset` `empty_page`, and `short_page`
    /// where `size` is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub end_on: Vec<PageEnd>,
    /// Where an answer says whether there are more pages: the page where it
    /// says `false` is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<JsonPointer>,
    /// How many pages may be asked for; 1000 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pages: Option<u32>,
    /// How many rows all pages together may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// What happens where there are more pages or rows than that.
    pub on_max: OnMax,
}

impl HttpPages {
    /// How many pages may be asked for unless the flow says it.
    pub const PAGES: u32 = 1000;

    /// The most pages that a flow may ask for.
    pub const PAGES_MAX: u32 = 100_000;

    /// How the next page is asked for; `None` where nothing says it.
    pub fn way(&self) -> Option<PageWay<'_>> {
        let link = self.link.as_ref().map(PageWay::Link);
        link.or(self.cursor.as_ref().map(PageWay::Cursor))
            .or(self.number.as_ref().map(PageWay::Number))
            .or(self.offset.as_ref().map(PageWay::Offset))
    }

    /// Whether a page with so many rows is the last because of that.
    pub fn ends_with(&self, rows: u64) -> bool {
        let counts = self.number.is_some() || self.offset.is_some();
        let by_default = self.end_on.is_empty() && counts;
        let is_named = |end| by_default || self.end_on.contains(&end);
        let is_short = self.size.is_some_and(|size| rows < u64::from(size));
        (rows == 0 && is_named(PageEnd::EmptyPage)) || (is_short && is_named(PageEnd::ShortPage))
    }
}

/// How the next page is asked for.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is a member of `HttpPages`")]
pub enum PageWay<'p> {
    Link(&'p NextLink),
    Cursor(&'p PageCursor),
    Number(&'p PageCounter),
    Offset(&'p PageCounter),
}

/// Where the address of the next page stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum NextLink {
    /// In the header `Link`, with `rel="next"`.
    Header,
    /// In the answer, which is JSON.
    At(JsonPointer),
}

impl TryFrom<String> for NextLink {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "header" {
            return Ok(Self::Header);
        }
        let told = format!("must be `header` or a place in JSON such as `/next`, not `{text}`");
        match JsonPointer::try_from(text) {
            Ok(at) if !at.is_whole() => Ok(Self::At(at)),
            _ => Err(told),
        }
    }
}

impl From<NextLink> for String {
    fn from(link: NextLink) -> Self {
        match link {
            NextLink::Header => "header".to_owned(),
            NextLink::At(at) => at.into(),
        }
    }
}

/// A value of a page that the next page is asked for by. Either `query` or
/// `json` says where it is put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageCursor {
    /// Where it stands in the answer.
    pub at: JsonPointer,
    /// The query parameter that it is put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The place in the body `json` that it is put at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonPointer>,
}

/// A number that pages are asked for by. Either `query` or `json` says where
/// it is put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageCounter {
    /// The query parameter that it is put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The place in the body `json` that it is put at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonPointer>,
    /// What the first page has; 1 for `number` and 0 for `offset` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

/// What shows that a page is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageEnd {
    /// It names no next one.
    NoNext,
    /// It has no rows.
    EmptyPage,
    /// It has fewer rows than `size`.
    ShortPage,
}

/// What happens where there is more than an author allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMax {
    /// The step fails.
    #[default]
    Fail,
    /// The step goes on with what it has.
    Stop,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ends(pages: serde_json::Value, rows: u64) -> bool {
        let pages: HttpPages = serde_json::from_value(pages).unwrap();
        pages.ends_with(rows)
    }

    #[test]
    fn a_page_is_the_last_by_the_rules_of_its_kind() {
        let number = json!({ "number": { "query": "page" } });
        assert!(ends(number.clone(), 0) && !ends(number, 1));
        let sized = json!({ "offset": { "query": "skip" }, "size": 3 });
        assert!(ends(sized.clone(), 2) && !ends(sized, 3));
        let empty = json!({ "number": { "query": "page" }, "size": 3, "end_on": ["empty_page"] });
        assert!(ends(empty.clone(), 0) && !ends(empty, 2));
        let cursor = json!({ "cursor": { "at": "/c", "query": "c" }, "size": 3 });
        assert!(!ends(cursor, 0));
        let link = json!({ "link": "/next", "end_on": ["no_next", "empty_page"] });
        assert!(ends(link.clone(), 0) && !ends(link, 1));
    }

    #[test]
    fn a_link_stands_in_the_header_or_at_a_place() {
        for text in ["header", "/paging/next"] {
            let link = NextLink::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(link), text);
        }
        for wrong in ["", "next", "Link"] {
            assert!(NextLink::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
