//! What can be asked of management, by which method and path.
//!
//! Owns the table. Must not know what an operation does.

use http::Method;

use super::refusal::Refusal;

/// One thing that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Upload,
    UploadUrl,
    Delete,
    List,
    Wipe,
    Logs,
    Index,
    Description,
    Server,
    ListFunctions,
    DeleteFunctions,
    GetFunction,
    PutFunction,
    DeleteFunction,
    AllLogs,
    FunctionLogs,
    ListCalls,
    GetCall,
    CancelCall,
    Healthy,
    Ready,
    Metrics,
}

/// How the variable part of a path is written.
const VARIABLE: &str = "{}";

impl Operation {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Self; 22] = [
        Self::Upload,
        Self::UploadUrl,
        Self::Delete,
        Self::List,
        Self::Wipe,
        Self::Logs,
        Self::Index,
        Self::Description,
        Self::Server,
        Self::ListFunctions,
        Self::DeleteFunctions,
        Self::GetFunction,
        Self::PutFunction,
        Self::DeleteFunction,
        Self::AllLogs,
        Self::FunctionLogs,
        Self::ListCalls,
        Self::GetCall,
        Self::CancelCall,
        Self::Healthy,
        Self::Ready,
        Self::Metrics,
    ];

    /// How it is asked for. A `GET` may be asked for as a `HEAD` as well.
    pub(super) const fn route(self) -> (Method, &'static str) {
        match self {
            Self::Upload => (Method::POST, "/upload"),
            Self::UploadUrl => (Method::POST, "/uploadURL"),
            Self::Delete => (Method::POST, "/delete"),
            Self::List => (Method::GET, "/list"),
            Self::Wipe => (Method::POST, "/wipe"),
            Self::Logs => (Method::GET, "/logs"),
            Self::Index => (Method::GET, "/v1"),
            Self::Description => (Method::GET, "/openapi.json"),
            Self::Server => (Method::GET, "/v1/server"),
            Self::ListFunctions => (Method::GET, "/v1/functions"),
            Self::DeleteFunctions => (Method::DELETE, "/v1/functions"),
            Self::GetFunction => (Method::GET, "/v1/functions/{}"),
            Self::PutFunction => (Method::PUT, "/v1/functions/{}"),
            Self::DeleteFunction => (Method::DELETE, "/v1/functions/{}"),
            Self::AllLogs => (Method::GET, "/v1/logs"),
            Self::FunctionLogs => (Method::GET, "/v1/functions/{}/logs"),
            Self::ListCalls => (Method::GET, "/v1/calls"),
            Self::GetCall => (Method::GET, "/v1/calls/{}"),
            Self::CancelCall => (Method::DELETE, "/v1/calls/{}"),
            Self::Healthy => (Method::GET, "/healthz"),
            Self::Ready => (Method::GET, "/readyz"),
            Self::Metrics => (Method::GET, "/metrics"),
        }
    }
}

/// An operation, and what stands for the variable part of its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    /// Percent-encoded as it came; empty where the path has no variable part.
    pub(super) variable: &'a str,
}

/// Whether errors of this path are told in the JSON API's way.
pub(super) fn is_json_api(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Finds what is asked for.
pub(super) fn find<'a>(path: &'a str, method: &Method) -> Result<Asked<'a>, Refusal> {
    let mut allowed = Vec::new();
    for operation in Operation::ALL {
        let (asked, pattern) = operation.route();
        let Some(variable) = matches(pattern, path) else { continue };
        let is_head = asked == Method::GET && method == Method::HEAD;
        if asked == method || is_head {
            return Ok(Asked { operation, variable });
        }
        let head = (asked == Method::GET).then_some(Method::HEAD);
        allowed.extend(std::iter::once(asked).chain(head));
    }
    if allowed.is_empty() {
        return Err(Refusal::no_such_path(path));
    }
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    Err(Refusal::wrong_method(path, method, allowed.join(", ")))
}

/// What stands for the pattern's variable part, if the path is one of it.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once(VARIABLE) else {
        return (pattern == path).then_some("");
    };
    let variable = path.strip_prefix(before)?.strip_suffix(after)?;
    (!variable.is_empty() && !variable.contains('/')).then_some(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, expected: Option<(Operation, &str)>) {
        let found = find(path, method).ok().map(|asked| (asked.operation, asked.variable));
        assert_eq!(found, expected, "{method} {path}");
    }

    #[test]
    fn paths_are_told_apart() {
        check(&Method::GET, "/v1/functions", Some((Operation::ListFunctions, "")));
        check(&Method::HEAD, "/v1/functions/a%20b", Some((Operation::GetFunction, "a%20b")));
        check(&Method::PUT, "/v1/functions/logs", Some((Operation::PutFunction, "logs")));
        check(&Method::DELETE, "/v1/calls/00", Some((Operation::CancelCall, "00")));
        check(&Method::GET, "/v1/functions/a/logs", Some((Operation::FunctionLogs, "a")));
        for nothing in [
            "",
            "/",
            "/v1/functions//logs",
            "/v1/",
            "/v1/functions/",
            "/v1/functions/a/b",
            "/v1/functions//",
        ] {
            check(&Method::GET, nothing, None);
        }
        check(&Method::HEAD, "/upload", None);
    }

    #[test]
    fn the_json_api_is_told_apart() {
        for (path, expected) in
            [("/v1", true), ("/v1/x", true), ("/v10", false), ("/list", false), ("/", false)]
        {
            assert_eq!(is_json_api(path), expected, "{path}");
        }
    }
}
