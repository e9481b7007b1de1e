//! What a request whose answer comes in pages must satisfy.

use crate::flow::{
    finding::{Finding, Path},
    step::{Format, HttpPages, HttpStep, JsonPointer, PageEnd},
};

/// Checks how the pages of `http` are asked for, which stands at `path`.
pub(super) fn check(http: &HttpStep, pages: &HttpPages, path: &Path, findings: &mut Vec<Finding>) {
    check_way(pages, path, findings);
    for (name, query, json) in parameters(pages) {
        check_parameter(http, (query, json), &path.member(name), findings);
    }
    check_ends(pages, path, findings);
    for (name, number, most) in [
        ("size", pages.size.map(u64::from), u64::from(u32::MAX)),
        (
            "max_pages",
            pages.max_pages.map(u64::from),
            u64::from(HttpPages::PAGES_MAX),
        ),
        ("max_rows", pages.max_rows, u64::MAX),
    ] {
        if number.is_some_and(|number| !(1..=most).contains(&number)) {
            let message = match name {
                "max_pages" => format!("must be from 1 to {most}"),
                _ => "must be at least 1".to_owned(),
            };
            findings.push(Finding::new(path.member(name), message));
        }
    }
    let format = http.extract.as_ref().and_then(|extract| extract.format);
    if format.is_some_and(|format| format != Format::Json) {
        let message = "pages are read from JSON, and `extract` names another format";
        findings.push(Finding::new(path.clone(), message));
    }
}

fn check_way(pages: &HttpPages, path: &Path, findings: &mut Vec<Finding>) {
    let ways = [
        pages.link.is_some(),
        pages.cursor.is_some(),
        pages.number.is_some(),
        pages.offset.is_some(),
    ];
    if ways.into_iter().filter(|is_given| *is_given).count() != 1 {
        let message = "has exactly one of `link`, `cursor`, `number` and `offset`";
        findings.push(Finding::new(path.clone(), message));
    }
}

/// Where the ways to ask for a page put what they ask by.
fn parameters(pages: &HttpPages) -> Vec<(&'static str, Option<&String>, Option<&JsonPointer>)> {
    let mut found = Vec::new();
    if let Some(cursor) = &pages.cursor {
        found.push(("cursor", cursor.query.as_ref(), cursor.json.as_ref()));
    }
    for (name, counter) in [("number", &pages.number), ("offset", &pages.offset)] {
        if let Some(counter) = counter {
            found.push((name, counter.query.as_ref(), counter.json.as_ref()));
        }
    }
    found
}

fn check_parameter(
    http: &HttpStep,
    (query, json): (Option<&String>, Option<&JsonPointer>),
    path: &Path,
    findings: &mut Vec<Finding>,
) {
    match (query, json) {
        (Some(query), None) if query.is_empty() => {
            let message = "must name a query parameter";
            findings.push(Finding::new(path.member("query"), message));
        }
        (None, Some(_)) if http.json.is_none() => {
            let message = "names a place in the body `json`, which the request does not have";
            findings.push(Finding::new(path.member("json"), message));
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => {
            let message = "has exactly one of `query` and `json`";
            findings.push(Finding::new(path.clone(), message));
        }
    }
}

fn check_ends(pages: &HttpPages, path: &Path, findings: &mut Vec<Finding>) {
    let counts = pages.number.is_some() || pages.offset.is_some();
    let path = path.member("end_on");
    for (index, end) in pages.end_on.iter().enumerate() {
        let message = match end {
            PageEnd::NoNext if counts => {
                "nothing names a next page where pages are counted: use `empty_page`, `short_page` \
                 or `more`"
            }
            PageEnd::ShortPage if pages.size.is_none() => "`short_page` needs `size`",
            _ => continue,
        };
        findings.push(Finding::new(path.item(index), message));
    }
}

#[cfg(test)]
mod tests {
    use crate::flow::{Flow, Problem};

    fn problems(pages: &str, rest: &str) -> Vec<String> {
        let text = format!(
            "id: f\nsteps:\n  - {{ id: a, http: {{ url: 'https://h', {rest} pages: {{ {pages} }} }} }}\n"
        );
        let problems = Flow::parse(&text).err().map(|invalid| invalid.problems);
        let show = |problem: Problem| format!("{}: {}", problem.path, problem.message);
        problems.into_iter().flatten().map(show).collect()
    }

    #[test]
    fn every_way_to_the_next_page_is_accepted() {
        for (pages, rest) in [
            ("link: header", ""),
            ("link: /paging/next, max_pages: 5, on_max: stop", ""),
            ("cursor: { at: /c, query: after }, more: /has_more", ""),
            ("cursor: { at: /c, json: /after }", "json: {},"),
            ("number: { query: page, first: 0 }, size: 50", ""),
            (
                "offset: { json: /skip }, end_on: [short_page], size: 5",
                "json: {},",
            ),
        ] {
            assert!(problems(pages, rest).is_empty(), "{pages}");
        }
    }

    #[test]
    fn what_cannot_be_paged_is_refused_with_its_place() {
        for (pages, rest, path, message) in [
            ("", "", "", "has exactly one of `link`"),
            ("max_pages: 1", "", "", "has exactly one of `link`"),
            (
                "link: header, number: { query: p }",
                "",
                "",
                "has exactly one of `link`",
            ),
            ("link: next", "", ".link", "must be `header` or a place in"),
            ("number: {}", "", ".number", "has exactly one of `query`"),
            (
                "number: { query: p, json: /p }",
                "json: {},",
                ".number",
                "has exactly one of `query`",
            ),
            (
                "offset: { query: '' }",
                "",
                ".offset.query",
                "must name a query parameter",
            ),
            (
                "cursor: { at: /c, json: /c }",
                "form: {},",
                ".cursor.json",
                "names a place in the body `json`",
            ),
            (
                "number: { query: p }, end_on: [no_next]",
                "",
                ".end_on[0]",
                "nothing names a next page",
            ),
            (
                "link: header, end_on: [short_page]",
                "",
                ".end_on[0]",
                "`short_page` needs `size`",
            ),
            ("link: header, size: 0", "", ".size", "must be at least 1"),
            (
                "link: header, max_pages: 100001",
                "",
                ".max_pages",
                "must be from 1 to 100000",
            ),
            (
                "link: header",
                "extract: { to: table, format: csv },",
                "",
                "pages are read from JSON",
            ),
        ] {
            let found = problems(pages, rest);
            let expected = format!("steps[0].http.pages{path}: {message}");
            assert!(
                found.len() == 1 && found[0].starts_with(&expected),
                "{pages}: {found:?} but expected {expected}"
            );
        }
    }
}
