//! What a request over HTTP must satisfy by itself.

use super::{pages, timeout_of};
use crate::flow::{
    expression::is_template,
    finding::{At, Finding, Path},
    step::{ExtractTo, Format, HttpExtract, HttpMethod, HttpPart, HttpStep},
};

/// The statuses that say that a request was refused.
const REFUSALS: std::ops::RangeInclusive<u32> = 400..=599;

/// Checks a request, which stands at `path`.
pub(super) fn check(http: &HttpStep, path: &Path, findings: &mut Vec<Finding>) {
    check_address(http, path, findings);
    for (name, value) in &http.headers {
        let path = path.member("headers").member(name);
        if !is_header_name(name) {
            findings.push(Finding {
                path,
                at: At::Name,
                message: format!("`{}` cannot be a header", name.escape_debug()),
            });
        } else if value.contains(|character| character != '\t' && char::is_control(character)) {
            findings.push(Finding::new(path, "a header is one line"));
        }
    }
    check_bodies(http, path, findings);
    for (index, status) in http.accept.iter().enumerate() {
        if !REFUSALS.contains(status) {
            let message = format!("must be a status from 400 to 599, not {status}");
            findings.push(Finding::new(path.member("accept").item(index), message));
        }
    }
    timeout_of("request_timeout", http.request_timeout, path, findings);
    check_answer(http, path, findings);
}

fn check_address(http: &HttpStep, path: &Path, findings: &mut Vec<Finding>) {
    let is_relative = http.connection.is_some() && !has_scheme(&http.url);
    if !is_relative && let Some(message) = bad_url(&http.url) {
        let hint = match http.connection {
            None if message == NO_SCHEME => ", or follow on the address of a `connection`",
            _ => "",
        };
        findings.push(Finding::new(path.member("url"), format!("{message}{hint}")));
    }
    if http.connection.is_some() && http.auth.is_some() {
        let message = "the connection says who sends the request: leave out one of the two";
        findings.push(Finding::new(path.member("auth"), message));
    }
}

fn check_bodies(http: &HttpStep, path: &Path, findings: &mut Vec<Finding>) {
    let given = http.bodies();
    if given.len() > 1 {
        let given = given.join("` and `");
        let message = format!(
            "at most one of `json`, `form`, `body`, `file`, `table` and `multipart` stands, not \
             `{given}`"
        );
        findings.push(Finding::new(path.clone(), message));
    }
    let is_nothing = |text: &Option<String>| text.as_ref().is_some_and(|t| t.trim().is_empty());
    if is_nothing(&http.file) {
        findings.push(Finding::new(path.member("file"), "must name a file"));
    }
    let path = path.member("multipart");
    let parts = http.multipart.as_ref();
    if parts.is_some_and(|parts| parts.is_empty()) {
        findings.push(Finding::new(path.clone(), "must have at least one field"));
    }
    for (name, part) in parts.into_iter().flatten() {
        check_part(part, &path.member(name), findings);
    }
}

fn check_part(part: &HttpPart, path: &Path, findings: &mut Vec<Finding>) {
    if part.value.is_some() == part.file.is_some() {
        let message = "has exactly one of `value` and `file`";
        findings.push(Finding::new(path.clone(), message));
    }
    if part.filename.is_some() && part.file.is_none() {
        let message = "has a meaning only beside `file`";
        findings.push(Finding::new(path.member("filename"), message));
    }
}

/// Checks what becomes of the answer.
fn check_answer(http: &HttpStep, path: &Path, findings: &mut Vec<Finding>) {
    if let Some(extract) = &http.extract {
        check_extract(extract, &path.member("extract"), findings);
    }
    if let Some(paging) = &http.pages {
        pages::check(http, paging, &path.member("pages"), findings);
    }
    if let Some(save) = &http.save {
        let path = path.member("save");
        if save.trim().is_empty() {
            findings.push(Finding::new(path.clone(), "must name a file"));
        }
        for (name, is_given) in [
            ("extract", http.extract.is_some()),
            ("pages", http.pages.is_some()),
        ] {
            if is_given {
                let message = format!(
                    "cannot stand beside `{name}`: the answer is saved as it is; make a table of \
                     it and `write` that"
                );
                findings.push(Finding::new(path.clone(), message));
            }
        }
    }
    if http.method == HttpMethod::Head {
        for (name, is_given) in [
            ("extract", http.extract.is_some()),
            ("pages", http.pages.is_some()),
            ("save", http.save.is_some()),
        ] {
            if is_given {
                let message = "has no meaning with `HEAD`, whose answer has no body";
                findings.push(Finding::new(path.member(name), message));
            }
        }
    }
}

fn check_extract(extract: &HttpExtract, path: &Path, findings: &mut Vec<Finding>) {
    let is_table = extract.to == ExtractTo::Table;
    for (name, is_given) in [
        ("format", extract.format.is_some()),
        ("columns", extract.columns.is_some()),
        ("csv", extract.csv.is_some()),
    ] {
        if is_given && !is_table {
            let message = "has a meaning only with `to: table`";
            findings.push(Finding::new(path.member(name), message));
        }
    }
    let format = extract.format;
    if !extract.at.is_whole() && format.is_some_and(|format| format != Format::Json) {
        let message = "names a place in JSON, and this is another format";
        findings.push(Finding::new(path.member("at"), message));
    }
    if extract.csv.is_some() && format.is_some_and(|format| format != Format::Csv) {
        let message = "has a meaning for CSV only, and this is another format";
        findings.push(Finding::new(path.member("csv"), message));
    }
    if let Some(columns) = &extract.columns {
        let path = path.member("columns");
        if columns.is_empty() {
            findings.push(Finding::new(path, "must have at least one column"));
        } else if format.is_some_and(Format::is_typed) {
            let message = "files of Parquet and Arrow say themselves which columns they have";
            findings.push(Finding::new(path, message));
        }
    }
}

const NO_SCHEME: &str = "must start with `http://` or `https://`";

/// Whether a text names a scheme, and so is an address by itself.
fn has_scheme(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        !scheme.is_empty() && scheme.bytes().all(plain)
    })
}

/// What is wrong with an address, as far as it can be told before its templates
/// are replaced.
fn bad_url(url: &str) -> Option<&'static str> {
    let literal = url.split("{{").next().unwrap_or_default();
    let literal = literal.split("{%").next().unwrap_or_default();
    let is_whole = !is_template(url) && literal.len() == url.len();
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = literal.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        // `{{ inputs.url }}` and `http{{ s }}://…` show only when they run.
        let start = literal.to_ascii_lowercase();
        let is_open = !is_whole && "https://".starts_with(&start) | "http://".starts_with(&start);
        return (!is_open).then_some(NO_SCHEME);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() && (is_whole || authority.len() < rest.len()) {
        return Some("names no host");
    }
    let has_user = authority.contains('@');
    has_user.then_some("must have no user name or password; use `auth`")
}

fn is_header_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use crate::flow::{Flow, Problem};

    /// What is wrong with a step `a` with this `http`, behind a step `raw`
    /// that makes a table.
    fn problems(http: &str) -> Vec<String> {
        let text = format!(
            "id: f\nsteps:\n  - {{ id: raw, read: {{ path: x.csv }} }}\n  - {{ id: a, http: {{ {http} }} }}\n"
        );
        let problems = Flow::parse(&text).err().map(|invalid| invalid.problems);
        let show = |problem: Problem| format!("{}: {}", problem.path, problem.message);
        problems.into_iter().flatten().map(show).collect()
    }

    fn assert_problem(http: &str, path: &str, message: &str) {
        let found = problems(http);
        let expected = format!("steps[1].http{path}: {message}");
        assert!(
            found.len() == 1 && found[0].starts_with(&expected),
            "{http}: {found:?} but expected {expected}"
        );
    }

    #[test]
    fn what_a_request_can_say_is_accepted() {
        for fine in [
            "connection: crm, url: /orders",
            "connection: crm, url: 'orders/{{ inputs }}'",
            "connection: crm, url: 'https://h/api/orders'",
            "url: 'https://h', table: { from: raw }",
            "url: 'https://h', table: { from: raw, format: csv }, accept: [404, 409]",
            "url: 'https://h', file: 'out/{{ run.id }}.csv', request_timeout: 5m",
            "url: 'https://h', multipart: { day: { value: 1 }, f: { file: x.csv, filename: y } }",
            "url: 'https://h', save: 'in/x.zip'",
            "url: 'https://h', extract: { at: /data/0 }",
            "url: 'https://h', extract: { to: table, format: csv, csv: { delimiter: ';' } }",
            "url: 'https://h', extract: { at: /rows, to: table, columns: { a: integer } }",
        ] {
            assert!(problems(fine).is_empty(), "{fine}: {:?}", problems(fine));
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_place() {
        let url = "url: 'https://h'";
        for (http, path, message) in [
            (
                "url: /orders",
                ".url",
                "must start with `http://` or `https://`, or follow on the address of a",
            ),
            ("connection: crm, url: 'ftp://h'", ".url", "must start with"),
            (
                "connection: crm, url: /x, auth: { bearer: { token: t } }",
                ".auth",
                "the connection says who",
            ),
            ("table: { from: raw }, file: x", "", "at most one of"),
            ("file: ' '", ".file", "must name a file"),
            ("multipart: {}", ".multipart", "must have at least"),
            ("multipart: { a: {} }", ".multipart.a", "has exactly one of"),
            (
                "multipart: { a: { value: 1, filename: x } }",
                ".multipart.a.filename",
                "has a meaning only beside `file`",
            ),
            ("table: { from: nope }", ".table.from", "there is no step"),
            (
                "table: { from: raw, format: excel }",
                ".table.format",
                "must be `json`, `ndjson` or `csv`",
            ),
            ("accept: [302]", ".accept[0]", "must be a status from 400"),
            ("request_timeout: 0s", ".request_timeout", "must be at"),
            ("save: ''", ".save", "must name a file"),
            ("save: x, extract: {}", ".save", "cannot stand beside"),
            ("method: HEAD, save: x", ".save", "has no meaning with"),
            (
                "extract: { at: data }",
                ".extract.at",
                "must be a place in JSON such as `/data/items`, not `data`",
            ),
            (
                "extract: { columns: { a: date } }",
                ".extract.columns",
                "has a meaning only with `to: table`",
            ),
            (
                "extract: { to: table, at: /x, format: csv }",
                ".extract.at",
                "names a place in JSON",
            ),
            (
                "extract: { to: table, format: json, csv: {} }",
                ".extract.csv",
                "has a meaning for CSV only",
            ),
            (
                "extract: { to: table, format: parquet, columns: { a: date } }",
                ".extract.columns",
                "files of Parquet",
            ),
        ] {
            let http = match http.contains("url:") {
                true => http.to_owned(),
                false => format!("{url}, {http}"),
            };
            assert_problem(&http, path, message);
        }
    }
}
