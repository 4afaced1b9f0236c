//! What makes the document.
//!
//! Owns what is said of each operation: parameters, bodies, answers. Every
//! operation of the table is here, for the match below is a full one. The statuses
//! of refusals come in groups, one for each kind of error; `tests.rs` holds each
//! group against what `refusal.rs` makes of that error.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::api::routes::Operation;
use crate::api::v1::{self, deploy, shapes};
use crate::logs::Line;

/// The types that are answered with.
#[derive(OpenApi)]
#[openapi(components(schemas(
    crate::api::refusal::Problem,
    deploy::Event,
    shapes::Index,
    shapes::Server,
    shapes::Functions,
    shapes::Function,
    shapes::Calls,
    shapes::Call,
    shapes::Fitness,
    Line,
)))]
struct Components;

/// Who may not ask, or asks for another host.
pub(super) const GUARD: &[u16] = &[400, 403];
/// A query that is not understood.
pub(super) const QUERY: &[u16] = &[400, 422];
/// A query where none is understood.
pub(super) const NO_QUERY: &[u16] = &[400];
/// A body that does not come, or does not fit.
pub(super) const BODY: &[u16] = &[400, 408, 413, 500, 503, 507];
/// Fields that make no sense.
pub(super) const FIELDS: &[u16] = &[400, 422];
/// A deploy that comes to nothing.
pub(super) const UPLOAD: &[u16] = &[400, 413, 422, 500, 502, 503, 504, 507];
/// A delete that finds nothing.
pub(super) const DELETE: &[u16] = &[404, 500];
/// A log that is not there, or has too many followers.
pub(super) const LOG: &[u16] = &[404, 503];
/// No place for one more upload.
pub(super) const SLOT: &[u16] = &[503];
/// A body of a kind that is not known.
pub(super) const MEDIA: &[u16] = &[415];
/// A call that is not known.
pub(super) const CALL: &[u16] = &[404];
/// A call that has ended.
pub(super) const ENDED: &[u16] = &[409];

/// What is said of an operation.
pub(super) struct Described {
    id: &'static str,
    summary: &'static str,
    /// Names and schemas; the path's own comes first.
    parameters: Vec<Value>,
    body: Option<Value>,
    /// Statuses, what they mean, what is answered.
    answers: Vec<(u16, &'static str, Value)>,
    pub(super) refusals: Vec<&'static [u16]>,
}

impl Described {
    fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: vec![GUARD],
        }
    }

    fn query(mut self, known: &[&str], schema: impl Fn(&str) -> (Value, &'static str)) -> Self {
        self.refusals.push(if known.is_empty() { NO_QUERY } else { QUERY });
        for name in known {
            let (schema, description) = schema(name);
            self.parameters.push(json!({
                "name": name, "in": "query", "description": description, "schema": schema,
            }));
        }
        self
    }

    fn body(mut self, content: Value, refusals: &[&'static [u16]]) -> Self {
        self.body = Some(json!({ "required": true, "content": content }));
        self.refusals.extend(refusals);
        self
    }

    fn answers(mut self, status: u16, meaning: &'static str, content: Value) -> Self {
        self.answers.push((status, meaning, content));
        self
    }

    fn refuses(mut self, refusals: &[&'static [u16]]) -> Self {
        self.refusals.extend(refusals);
        self
    }
}

/// The whole document.
pub(super) fn document() -> Value {
    let components = Components::openapi().to_json().expect("it is made of text");
    let components: Value = serde_json::from_str(&components).expect("it is JSON");
    let mut paths = Map::new();
    for operation in Operation::ALL {
        let (method, pattern) = operation.route();
        let path = path_of(operation);
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[method.as_str().to_ascii_lowercase()] = described(operation, pattern);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tinyFaaS management",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Deploys functions and shows how they do. A GET may be asked for as a \
                HEAD too. Members of answers that you do not know are to be ignored: later \
                versions add some.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": components["components"]["schemas"] },
    })
}

/// The path with its variable part's name.
pub(super) fn path_of(operation: Operation) -> String {
    let (_, pattern) = operation.route();
    let name = if pattern.starts_with("/v1/calls") { "{id}" } else { "{name}" };
    pattern.replace("{}", name)
}

fn described(operation: Operation, pattern: &str) -> Value {
    let Described { id, summary, parameters, body, answers, refusals } = describe(operation);
    let variable = pattern.contains("{}").then(|| {
        if pattern.starts_with("/v1/calls") {
            json!({ "name": "id", "in": "path", "required": true, "description": "a call's id",
                "schema": { "type": "string", "pattern": "^[0-9a-fA-F]{32}$" } })
        } else {
            json!({ "name": "name", "in": "path", "required": true,
                "description": "a function's name", "schema": name_schema() })
        }
    });
    let mut responses = Map::new();
    for (status, meaning, content) in answers {
        let mut answer = json!({ "description": meaning });
        if !content.is_null() {
            answer["content"] = content;
        }
        responses.insert(status.to_string(), answer);
    }
    let mut statuses: Vec<u16> = refusals.concat();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let meaning = http::StatusCode::from_u16(status).expect("a status").canonical_reason();
        let refusal = refusal_content(pattern);
        match responses.get_mut(&status.to_string()) {
            // It has another meaning too.
            Some(answer) => {
                let content = answer["content"].as_object_mut().expect("it has one");
                content.extend(refusal.as_object().expect("it is one").clone());
            }
            None => {
                let answer = json!({ "description": meaning, "content": refusal });
                responses.insert(status.to_string(), answer);
            }
        }
    }
    let mut described = json!({ "operationId": id, "summary": summary, "responses": responses });
    let parameters: Vec<Value> = variable.into_iter().chain(parameters).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = body {
        described["requestBody"] = body;
    }
    described
}

fn refusal_content(pattern: &str) -> Value {
    let mut content = json!({ "application/problem+json": { "schema": reference("Problem") } });
    if !crate::api::routes::is_json_api(pattern) {
        content["text/plain"] = json!({ "schema": { "type": "string" } });
    }
    content
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn json_of(name: &str) -> Value {
    json!({ "application/json": { "schema": reference(name) } })
}

fn text() -> Value {
    json!({ "text/plain": { "schema": { "type": "string" } } })
}

fn lines_of(name: &str) -> Value {
    let description = format!("a {name} a line");
    json!({ "schema": { "type": "string", "description": description } })
}

fn name_schema() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$" })
}

/// A body of the original's calls: JSON, whatever its content type says.
fn old_body(required: &[&str], more: Value) -> Value {
    let mut properties = json!({ "name": name_schema() });
    let all = properties.as_object_mut().expect("it is one");
    all.extend(more.as_object().expect("it is one").clone());
    json!({ "application/json": { "schema": {
        "type": "object", "required": required, "properties": properties,
    } } })
}

fn settings() -> Value {
    json!({
        "env": { "type": "string", "enum": tinyfaas_model::Runtime::ALL.map(|r| r.name()),
            "description": "the environment, unless tinyfaas.toml says it" },
        "threads": { "type": "integer", "minimum": 1, "maximum": 256,
            "description": "handlers that are kept for it; at most what the server allows" },
        "envs": { "type": "array", "items": { "type": "string", "pattern": "^[A-Za-z_]+=[ -~]*$" },
            "description": "environment variables, KEY=VALUE" },
    })
}

fn with(mut schema: Value, more: Value) -> Value {
    let all = schema.as_object_mut().expect("it is one");
    all.extend(more.as_object().expect("it is one").clone());
    schema
}

fn location() -> Value {
    json!({
        "url": { "type": "string", "format": "uri", "description": "where the archive lies" },
        "subfolder_path": { "type": "string", "description": "the function's folder in it" },
    })
}

fn put_query(name: &str) -> (Value, &'static str) {
    let mut settings = settings();
    match name {
        "subfolder_path" => (json!({ "type": "string" }), "the function's folder in the archive"),
        "envs" => (
            settings["envs"].take(),
            "environment variables; others may log a query, so send secrets in a form",
        ),
        "env" => (settings["env"].take(), "the environment"),
        _ => (settings[name].take(), "handlers that are kept for it"),
    }
}

fn put_body() -> Value {
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    let form = with(
        with(settings(), location()),
        json!({
            "archive": { "type": "string", "format": "binary", "description": "a zip or a tar.gz" },
            "settings": { "type": "string", "contentMediaType": "application/json",
                "description": "env, threads and envs as JSON" },
        }),
    );
    let json_body = with(settings(), location());
    json!({
        "application/zip": binary,
        "application/gzip": binary,
        "application/octet-stream": binary,
        "multipart/form-data": { "schema": { "type": "object", "properties": form } },
        "application/json": { "schema": {
            "type": "object", "required": ["url"], "properties": json_body,
        } },
    })
}

fn put_answer() -> Value {
    with(
        json_of("Function"),
        json!({
            "application/x-ndjson": lines_of("Event"),
            "text/event-stream": lines_of("Event"),
        }),
    )
}

/// A time, or how long ago; years, months and times that every reader takes.
const SINCE: &str = "^[0-9]{1,3}(ms|s|m|min|h)?$|\
    ^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$";

fn logs_query(name: &str) -> (Value, &'static str) {
    match name {
        "follow" => (json!({ "type": "boolean" }), "whether to go on with what comes"),
        "since" => (
            json!({ "type": "string", "pattern": SINCE, "examples": ["10m"] }),
            "only lines since then: a time (RFC 3339), or how long ago",
        ),
        _ => (
            json!({ "type": "integer", "minimum": 0, "maximum": usize::MAX }),
            "only so many lines, the last",
        ),
    }
}

fn logs_answer() -> Value {
    with(text(), json!({ "application/x-ndjson": lines_of("Line") }))
}

fn calls_query(name: &str) -> (Value, &'static str) {
    match name {
        "function" => (name_schema(), "only calls of this function"),
        "state" => (
            json!({ "type": "string", "enum": tinyfaas_model::CallState::ALL.map(|s| s.name()) }),
            "only calls in this state",
        ),
        "limit" => {
            let maximum = tinyfaas_model::calls::PAGE_CALLS_MAX;
            (json!({ "type": "integer", "minimum": 1, "maximum": maximum }), "calls on the page")
        }
        _ => (
            json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
            "`next` of the page before",
        ),
    }
}

fn none(name: &str) -> (Value, &'static str) {
    unreachable!("{name} is no parameter")
}

/// What is said of each.
pub(super) fn describe(operation: Operation) -> Described {
    use Operation as O;
    match operation {
        O::Upload | O::UploadUrl | O::Delete | O::List | O::Wipe | O::Logs => {
            describe_old(operation)
        }
        O::Index | O::Description | O::Server | O::Healthy | O::Ready | O::Metrics => {
            describe_server(operation)
        }
        O::ListFunctions
        | O::DeleteFunctions
        | O::GetFunction
        | O::PutFunction
        | O::DeleteFunction
        | O::FunctionLogs
        | O::AllLogs => describe_functions(operation),
        O::ListCalls | O::GetCall | O::CancelCall => describe_calls(operation),
    }
}

/// The server as a whole.
fn describe_server(operation: Operation) -> Described {
    use Operation as O;
    let d = Described::new;
    match operation {
        O::Index => d("index", "Where things are").query(&[], none).answers(
            200,
            "the index",
            json_of("Index"),
        ),
        O::Description => d("description", "This document").query(&[], none).answers(
            200,
            "this",
            json!({ "application/json": { "schema": { "type": "object" } } }),
        ),
        O::Server => d("server", "The server as a whole").query(&[], none).answers(
            200,
            "the server",
            json_of("Server"),
        ),
        O::Healthy => d("healthy", "Whether the process lives").answers(200, "it does", fitness()),
        O::Metrics => d("metrics", "What is counted and measured, for Prometheus")
            .answers(200, "the metrics; OpenMetrics where Accept asks for it", metrics())
            .refuses(&[&[500]]),
        _ => d("ready", "Whether functions can be deployed and called")
            .answers(200, "they can", fitness())
            .answers(503, "they cannot: the reasons", fitness()),
    }
}

/// Functions and what they print.
fn describe_functions(operation: Operation) -> Described {
    use Operation as O;
    let d = Described::new;
    match operation {
        O::ListFunctions => d("listFunctions", "All functions").query(&[], none).answers(
            200,
            "all functions",
            json_of("Functions"),
        ),
        O::DeleteFunctions => d("deleteFunctions", "Delete all functions")
            .query(&[], none)
            .answers(204, "they are gone", Value::Null)
            .refuses(&[&[500]]),
        O::GetFunction => d("getFunction", "A function")
            .query(&[], none)
            .answers(200, "the function", json_of("Function"))
            .refuses(&[&[404]]),
        O::PutFunction => d("putFunction", "Deploy a function, or replace it without a gap")
            .query(deploy::PUT_QUERY, put_query)
            .body(put_body(), &[MEDIA, SLOT, BODY, FIELDS, UPLOAD])
            .answers(
                200,
                "it was replaced; or a stream of events, where Accept asks for one",
                put_answer(),
            )
            .answers(201, "it is new", json_of("Function")),
        O::DeleteFunction => d("deleteFunction", "Delete a function")
            .query(&[], none)
            .answers(204, "it is gone", Value::Null)
            .refuses(&[DELETE]),
        O::AllLogs => d("logs", "What all functions print")
            .query(v1::logs::LOGS_QUERY, logs_query)
            .answers(200, "the log; JSON lines where Accept asks for them", logs_answer())
            .refuses(&[&[503]]),
        _ => d("functionLogs", "What a function prints")
            .query(v1::logs::LOGS_QUERY, logs_query)
            .answers(200, "the log; JSON lines where Accept asks for them", logs_answer())
            .refuses(&[LOG]),
    }
}

/// Asynchronous calls.
fn describe_calls(operation: Operation) -> Described {
    use Operation as O;
    let d = Described::new;
    match operation {
        O::ListCalls => d("listCalls", "The asynchronous calls that are known, the newest first")
            .query(v1::calls::LIST_QUERY, calls_query)
            .answers(200, "a page of calls", json_of("Calls")),
        O::GetCall => d("getCall", "An asynchronous call")
            .query(&[], none)
            .answers(200, "the call", json_of("Call"))
            .refuses(&[CALL]),
        _ => d("cancelCall", "Cancel an asynchronous call")
            .query(&[], none)
            .answers(200, "the call, cancelled", json_of("Call"))
            .refuses(&[CALL, ENDED]),
    }
}

fn metrics() -> Value {
    with(text(), json!({ "application/openmetrics-text": { "schema": { "type": "string" } } }))
}

fn fitness() -> Value {
    with(text(), json_of("Fitness"))
}

/// The original's calls.
fn describe_old(operation: Operation) -> Described {
    use Operation as O;
    let d = Described::new;
    let zip = json!({ "zip": { "type": "string", "contentEncoding": "base64",
        "description": "a zip of the function's folder" } });
    match operation {
        O::Upload => d("upload", "Deploy a function (the original's call)")
            .body(old_body(&["name", "zip"], with(settings(), zip)), &[SLOT, BODY, FIELDS, UPLOAD])
            .answers(200, "where it is called, a line for each protocol", text()),
        O::UploadUrl => d("uploadURL", "Deploy a function from a URL (the original's call)")
            .body(
                old_body(&["name", "url"], with(settings(), location())),
                &[SLOT, BODY, FIELDS, UPLOAD],
            )
            .answers(200, "where it is called, a line for each protocol", text()),
        O::Delete => d("delete", "Delete a function (the original's call)")
            .body(old_body(&["name"], json!({})), &[BODY, FIELDS, DELETE])
            .answers(200, "it is gone", text()),
        O::List => d("list", "The names of all functions (the original's call)").answers(
            200,
            "a name a line",
            text(),
        ),
        O::Wipe => d("wipe", "Delete all functions (the original's call)")
            .answers(200, "they are gone", text())
            .refuses(&[&[500]]),
        _ => {
            let mut logs = d("oldLogs", "What functions print (the original's call)");
            logs.parameters.push(json!({ "name": "name", "in": "query",
                "description": "only of this function", "schema": { "type": "string" } }));
            logs.answers(200, "the log", text()).refuses(&[&[404]])
        }
    }
}
