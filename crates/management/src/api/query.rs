//! What stands behind the `?` of a request.
//!
//! Owns reading it strictly: a misspelt parameter would otherwise be passed over
//! in silence. Pure.

use std::fmt::Display;

use crate::shown::{nearest, shown};

/// The parameters of a query, decoded, in their order. Not to be shown:
/// environment values may be among them.
pub(super) struct Query(Vec<(String, String)>);

/// Why a query is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// There is no such parameter.
    #[error("there is no query parameter {name}; {instead}")]
    Unknown {
        /// The parameter, fit to be shown.
        name: String,
        /// What there is instead.
        instead: String,
    },
    /// One stands twice.
    #[error("the query parameter {name} stands there twice; give it once")]
    Twice {
        /// The parameter.
        name: &'static str,
    },
    /// A value makes no sense.
    #[error("the query parameter {name} is {found}; it must be {wanted}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value, fit to be shown.
        found: String,
        /// What it must be.
        wanted: String,
    },
}

impl Query {
    /// Reads a query that may have these parameters only.
    pub(super) fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, QueryError> {
        let pairs = pairs(query.unwrap_or_default());
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, known));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter that may stand there once.
    pub(super) fn one(&self, name: &'static str) -> Result<Option<&str>, QueryError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(QueryError::Twice { name }),
        }
    }

    /// The values of a parameter.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, read by `read`.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        wanted: impl Display,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, QueryError> {
        let Some(value) = self.one(name)? else { return Ok(None) };
        let refuse = || QueryError::Value {
            name,
            found: shown(value.as_bytes()),
            wanted: wanted.to_string(),
        };
        read(value).map(Some).ok_or_else(refuse)
    }
}

/// A part of a path, decoded; bytes that are no UTF-8 become U+FFFD.
pub(super) fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// The names and values of a query.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn unknown(name: &str, known: &[&'static str]) -> QueryError {
    let instead = match (nearest(name, known.iter().copied()).first(), known) {
        (Some(near), _) => format!("is {near} meant?"),
        (None, []) => "none is known here".to_owned(),
        (None, known) => format!("known are {}", known.join(", ")),
    };
    QueryError::Unknown { name: shown(name.as_bytes()), instead }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["tail", "follow", "envs"];

    fn check_refused(query: &str, expected: &str) {
        let read = Query::parse(Some(query), KNOWN)
            .and_then(|query| query.read("tail", "a number", |text| text.parse::<u8>().ok()));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(expected), "{query}: {error}");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        check_refused("folow=true", "no query parameter \"folow\"; is follow meant?");
        check_refused("x", "known are tail, follow, envs");
        check_refused("tail=1&tail=1", "tail stands there twice");
        check_refused("tail", "tail is \"\"; it must be a number");
        check_refused("tail=%0a", r#"tail is "\n"; it must be a number"#);
        let error = Query::parse(Some("x"), &[]).err().unwrap().to_string();
        assert!(error.contains("none is known here"), "{error}");
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("envs=A%3D1+2&envs=B%3d&tail=7"), KNOWN).unwrap();
        assert_eq!(query.all("envs").collect::<Vec<_>>(), ["A=1 2", "B="]);
        assert_eq!(query.one("follow"), Ok(None));
        assert_eq!(query.read("tail", "", |text| text.parse::<u8>().ok()), Ok(Some(7)));
        assert!(Query::parse(None, KNOWN).is_ok() && Query::parse(Some(""), &[]).is_ok());
        assert_eq!(decoded("a%20b%ff"), "a b\u{fffd}");
    }
}
