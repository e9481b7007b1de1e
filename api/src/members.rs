//! The members of a JSON object that a caller sent: taken out one by one, with
//! everything that is wrong with them collected, so that one answer names all.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, MemberProblem};

/// Reads a body that must be JSON. What is wrong is told without a part of it.
pub(crate) fn json(body: &[u8]) -> Result<Value, ApiError> {
    // Some callers put a byte order mark in front.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    serde_json::from_slice(body).map_err(|error| ApiError::InvalidJson(error.to_string()))
}

/// An object from which members are taken. What nobody has taken in the end is
/// unknown, and refused.
#[derive(Debug)]
pub(crate) struct Members {
    path: String,
    left: Map<String, Value>,
    problems: Vec<MemberProblem>,
}

impl Members {
    /// Reads a body that must be a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members = Self::nested(String::new(), json(body)?);
        if members.problems.is_empty() {
            Ok(members)
        } else {
            Err(ApiError::InvalidBody(members.problems))
        }
    }

    /// Reads an object that stands at `path` within another one.
    pub(crate) fn nested(path: String, value: Value) -> Self {
        let mut members = Self {
            path,
            left: Map::new(),
            problems: Vec::new(),
        };
        match value {
            // A member that is `null` says nothing, as if it were not there.
            Value::Object(map) => {
                let said = map.into_iter().filter(|(_, value)| !value.is_null());
                members.left = said.collect();
            }
            _ => {
                let whole = match members.path.as_str() {
                    "" => "body".to_owned(),
                    path => path.to_owned(),
                };
                let message = "must be a JSON object";
                members.problems.push(MemberProblem::new(whole, message));
            }
        }
        members
    }

    /// Whether a member is there that nobody has taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Takes a member, if it is there and what it must be; `expected` says
    /// what that is, as in `a list`.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.left.shift_remove(name)?;
        let read = serde_json::from_value(value);
        if read.is_err() {
            self.problem(name, &format!("must be {expected}"));
        }
        read.ok()
    }

    /// Takes a member that must be there.
    pub(crate) fn require<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if !self.has(name) {
            self.problem(name, &format!("is missing; it must be {expected}"));
        }
        self.take(name, expected)
    }

    /// The path of a member from the top of the body.
    pub(crate) fn path_of(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// Notes that something is wrong with a member.
    pub(crate) fn problem(&mut self, name: &str, message: &str) {
        let path = self.path_of(name);
        self.problems.push(MemberProblem::new(path, message));
    }

    /// Notes what was wrong with a nested object.
    pub(crate) fn problems_of(&mut self, nested: Self) {
        self.problems.extend(nested.into_problems());
    }

    /// All that is wrong, what was not taken included; empty where all is well.
    pub(crate) fn into_problems(mut self) -> Vec<MemberProblem> {
        let unknown: Vec<_> = self.left.keys().cloned().collect();
        for name in unknown {
            self.problem(&name, "is not known here");
        }
        self.problems
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(members: Members) -> Vec<String> {
        let problems = members.into_problems().into_iter();
        problems.map(|problem| problem.name).collect()
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let body = json!({"a": 1, "b": "x", "c": null, "stray": 1, "other": 2});
        let mut members = Members::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(members.take::<u32>("a", "a number"), Some(1));
        assert_eq!(members.take::<u32>("b", "a number"), None);
        assert_eq!(members.take::<u32>("c", "a number"), None);
        assert_eq!(members.require::<u32>("d", "a number"), None);
        let mut nested = Members::nested("list[0]".into(), json!({"x": 1}));
        nested.problem("y", "is odd");
        members.problems_of(nested);
        let expected = ["b", "d", "list[0].y", "list[0].x", "stray", "other"];
        assert_eq!(names(members), expected);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for body in ["[]", "1", "null", "\"text\""] {
            let error = Members::parse(body.as_bytes()).unwrap_err();
            assert!(matches!(error, ApiError::InvalidBody(_)), "{body}");
        }
        for body in ["", "{", "{} {}", "\u{0}"] {
            let error = Members::parse(body.as_bytes()).unwrap_err();
            assert!(matches!(error, ApiError::InvalidJson(_)), "{body}");
        }
        assert!(Members::parse("\u{feff}{}".as_bytes()).is_ok());
    }
}
