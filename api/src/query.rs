//! What callers ask for in the query and in headers: read without regard to
//! the case of names, and refused where it makes no sense.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};

use crate::error::ApiError;

/// No wait and no delay is longer than this.
const SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

/// The parameters in a request's query, their names in lower case. Ones that
/// nobody asks for are passed over, since callers of the old API send some.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let parameters = form_urlencoded::parse(query.as_bytes());
        let lower = parameters.map(|(name, value)| (name.to_lowercase(), value.into_owned()));
        Self(lower.collect())
    }

    /// The value of a parameter, which may be given again only with the same
    /// value: nobody could say which one counts.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(given, _)| given == name);
        let Some((_, value)) = values.next() else {
            return Ok(None);
        };
        if values.any(|(_, other)| other != value) {
            return Err(invalid(name, "is given twice"));
        }
        Ok(Some(value))
    }

    /// Whether a parameter is `true`; it may be absent or `false` too.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        let Some(value) = self.one(name)? else {
            return Ok(false);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(name, "must be `true` or `false`")),
        }
    }

    /// A parameter that is a number of seconds, with a fraction or without.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let expected = "must be a number of seconds from 0 to 31622400 (366 days)";
        self.one(name)?
            .map(|value| seconds(value).ok_or_else(|| invalid(name, expected)))
            .transpose()
    }
}

/// Whether a caller waits for the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Await {
    /// It waits.
    pub(crate) asked: bool,
    /// At most so long; without a limit where not given.
    pub(crate) limit: Option<Duration>,
}

impl Await {
    /// Reads `await` and `timeout`. Where `timeout` is not given, the
    /// preference `wait` (RFC 7240) stands for it.
    pub(crate) fn read(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        if query
            .one("on_disconnect")?
            .is_some_and(|what| what != "continue")
        {
            let why = "`on_disconnect` is not supported: a run always goes on without its caller";
            return Err(ApiError::NotSupported(why.into()));
        }
        let timeout = query.seconds("timeout")?;
        Ok(Self {
            asked: query.flag("await")?,
            limit: timeout.or_else(|| preferred_wait(headers)),
        })
    }
}

/// An error that names a parameter of the query.
pub(crate) fn invalid(name: &str, message: &str) -> ApiError {
    ApiError::InvalidParameter(format!("query parameter `{name}` {message}"))
}

fn seconds(text: &str) -> Option<Duration> {
    // `parse` takes `inf` and `nan` as well: neither is within the limits.
    let number = text.trim().parse::<f64>().ok()?;
    (0.0..=SECONDS_MAX)
        .contains(&number)
        .then(|| Duration::from_secs_f64(number))
}

/// The preference `wait`, unless it makes no sense: the standard has such
/// preferences passed over.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all("prefer").iter();
    let preferences = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split([',', ';']));
    preferences
        .filter_map(|preference| preference.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, value)| seconds(value.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, prefer: &str) -> Result<Await, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", prefer.parse().unwrap());
        Await::read(&Query::parse(query), &headers)
    }

    #[test]
    fn names_are_matched_in_any_case_and_unknown_ones_passed_over() {
        let told = read("AWAIT=True&TimeOut=1.5&culture=nb-NO", "").unwrap();
        assert!(told.asked);
        assert_eq!(told.limit, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn nobody_waits_unless_asked_to() {
        for query in ["", "await=false", "timeout=5"] {
            assert!(!read(query, "").unwrap().asked, "{query}");
        }
    }

    #[test]
    fn a_wait_that_makes_no_sense_is_refused_by_name() {
        for query in ["await=yes", "await=", "await=true&Await=false"] {
            let error = read(query, "").unwrap_err().to_string();
            assert!(error.contains("`await`"), "{error}");
        }
        for limit in ["-1", "soon", "inf", "NaN", "", "1e9"] {
            let error = read(&format!("timeout={limit}"), "").unwrap_err();
            assert!(error.to_string().contains("`timeout`"), "{error}");
        }
        assert!(read("on_disconnect=cancel", "").is_err());
    }

    #[test]
    fn a_preference_bounds_the_wait_where_the_query_does_not() {
        let limit = |query, prefer| read(query, prefer).unwrap().limit;
        let ten = Some(Duration::from_secs(10));
        assert_eq!(limit("", "respond-async, wait=10"), ten);
        assert_eq!(limit("", "Wait = \"10\""), ten);
        assert_eq!(limit("timeout=0", "wait=10"), Some(Duration::ZERO));
        assert_eq!(limit("", "wait=soon"), None);
    }

    #[test]
    fn a_parameter_may_be_given_again_only_with_the_same_value() {
        let query = Query::parse("a=1&A=1&b=1&b=2");
        assert_eq!(query.one("a").unwrap(), Some("1"));
        assert!(query.one("b").is_err());
        assert_eq!(query.one("c").unwrap(), None);
    }
}
