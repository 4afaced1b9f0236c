use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tinyfaas_model::{BuildError, CallState, DeployError, Runtime};

use crate::api::body::BodyReadError;
use crate::api::guard::GuardError;
use crate::api::query::QueryError;
use crate::api::refusal::Refusal;
use crate::api::routes::{self, Operation};
use crate::archive::UnpackError;
use crate::download::DownloadError;
use crate::form_body::FormError;
use crate::logs::LogError;
use crate::manager::{DeleteError, UploadError};
use crate::request::RequestError;
use crate::settings::SettingsError;
use crate::spool::SpoolError;
use crate::upload_body::BodyFormError;

use super::DOCUMENT;
use super::description::{self, describe, document, path_of};

#[test]
fn the_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/openapi.json");
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, made).unwrap();
    } else {
        assert!(
            made == DOCUMENT,
            "openapi.json is stale: UPDATE=1 cargo test -p tinyfaas-management"
        );
    }
}

/// Every route with its method, and no other; every reference leads somewhere.
#[test]
fn routes_and_document_agree() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((path.clone(), method.to_ascii_uppercase()));
        }
    }
    let routes: BTreeSet<_> = Operation::ALL
        .into_iter()
        .map(|operation| (path_of(operation), operation.route().0.to_string()))
        .collect();
    assert_eq!(described, routes);
    let names: BTreeSet<_> = Operation::ALL.into_iter().map(|o| format!("{o:?}")).collect();
    assert_eq!(names.len(), Operation::ALL.len(), "an operation stands in the table twice");
    for reference in DOCUMENT.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "there is no schema {name}");
    }
}

/// A group of statuses is what becomes of these errors, all of it and no more.
#[track_caller]
fn check<E: Into<Refusal>>(group: &[u16], errors: Vec<E>) {
    let refusals: Vec<Refusal> = errors.into_iter().map(Into::into).collect();
    let found: BTreeSet<u16> = refusals.iter().map(|refusal| refusal.status().as_u16()).collect();
    assert_eq!(found, group.iter().copied().collect());
}

fn io_errors() -> [io::Error; 3] {
    // A full disk, no more files, no rights.
    [28, 24, 13].map(io::Error::from_raw_os_error)
}

fn spool_errors() -> Vec<SpoolError> {
    let io = io_errors().map(|source| SpoolError::Io { what: String::new(), source });
    io.into_iter().chain([SpoolError::TooLarge { limit_bytes: 1 }]).collect()
}

#[test]
fn groups_of_statuses_are_those_of_the_errors() {
    let text = String::new;
    check(
        description::GUARD,
        vec![
            GuardError::NoHost,
            GuardError::ForeignHost { host: text() },
            GuardError::ForeignOrigin { origin: text() },
        ],
    );
    check(
        description::QUERY,
        vec![
            QueryError::Unknown { name: text(), instead: text() },
            QueryError::Twice { name: "x" },
            QueryError::Value { name: "x", found: text(), wanted: text() },
        ],
    );
    check(
        description::NO_QUERY,
        vec![
            QueryError::Unknown { name: text(), instead: text() },
            QueryError::Twice { name: "x" },
        ],
    );
    let mut body = vec![
        BodyReadError::TooLarge { limit_bytes: 1 },
        BodyReadError::Silent { after: Duration::ZERO },
        BodyReadError::Slow { bytes_per_second: 1 },
        BodyReadError::CutOff,
        BodyReadError::Broken(text()),
        BodyReadError::Form(BodyFormError::ZipTwice),
        BodyReadError::Form(BodyFormError::NotBase64(text())),
        BodyReadError::Form(BodyFormError::RestTooLarge { limit_bytes: 1 }),
        BodyReadError::Form(BodyFormError::CutOff),
        BodyReadError::Parts(FormError::NoBoundary),
        BodyReadError::Stopping,
    ];
    body.extend(spool_errors().into_iter().map(BodyReadError::Spool));
    check(description::BODY, body);
    check(
        description::FIELDS,
        vec![
            RequestError::Empty,
            RequestError::NotJson(text()),
            RequestError::CutOff,
            RequestError::TooDeep,
            RequestError::NoObject,
            RequestError::Missing { key: "x", what: "x" },
            RequestError::WrongKind { key: "x", found: "x", wanted: "x" },
            RequestError::ArchiveAndUrl,
            RequestError::UnknownRuntime { name: text() },
            RequestError::Threads { found: text(), max: 1 },
            RequestError::Env { key: text(), why: "x" },
        ],
    );
    check(description::UPLOAD, upload_errors());
    check(
        description::DELETE,
        vec![DeleteError::Unknown { name: text() }, DeleteError::Fault(text())],
    );
    check(
        description::LOG,
        vec![LogError::Unknown, LogError::TooManyFollowers { followers_max: 1 }],
    );
    check(description::SLOT, vec![Refusal::too_many_uploads(1)]);
    check(description::MEDIA, vec![Refusal::unknown_content_type("x")]);
    check(description::CALL, vec![Refusal::unknown_call("x")]);
    check(description::ENDED, vec![Refusal::call_has_ended(CallState::Lost)]);
}

fn upload_errors() -> Vec<UploadError> {
    let text = String::new;
    let host = || "a".to_owned();
    let mut errors: Vec<UploadError> = vec![
        DownloadError::BadUrl(text()).into(),
        DownloadError::Failed { host: host(), why: text() }.into(),
        DownloadError::Status { host: host(), status: reqwest::StatusCode::NOT_FOUND }.into(),
        DownloadError::TimedOut { host: host(), after: Duration::ZERO }.into(),
        DownloadError::NoArchive { host: host(), why: text() }.into(),
        UnpackError::NoArchive(text()).into(),
        UnpackError::TooLarge(text()).into(),
        UnpackError::Refused { name: text(), why: text() }.into(),
        UnpackError::NoSubfolder { wanted: text(), top: Vec::new() }.into(),
        UnpackError::Empty.into(),
        UnpackError::Cancelled.into(),
        SettingsError::Mistakes(Vec::new()).into(),
        SettingsError::TooLarge.into(),
        SettingsError::NotUtf8.into(),
        SettingsError::Folder.into(),
        SettingsError::NoRuntime.into(),
        SettingsError::CgiElsewhere { line: 1, runtime: Runtime::Nodejs }.into(),
        BuildError::RuntimeMissing { runtime: Runtime::Nodejs, problem: text() }.into(),
        BuildError::InvalidFunction(text()).into(),
        BuildError::InstallFailed { command: text(), how: text(), output: text() }.into(),
        DeployError::StartFailed { how: text(), output: text() }.into(),
        DeployError::StartTimedOut { after: Duration::ZERO, output: text() }.into(),
        DeployError::Stopping.into(),
        UploadError::Stopping,
        UploadError::Fault(text()),
    ];
    errors.extend(spool_errors().into_iter().map(|error| DownloadError::Spool(error).into()));
    for source in io_errors() {
        errors.push(UnpackError::Io { what: text(), source }.into());
    }
    for source in io_errors() {
        errors.push(SettingsError::Io(source).into());
    }
    for source in io_errors() {
        errors.push(BuildError::Io { what: text(), source }.into());
    }
    for source in io_errors() {
        errors.push(DeployError::Io { what: text(), source }.into());
    }
    errors
}

/// That an answer, which a test has seen, is described.
#[track_caller]
pub(in crate::api) fn check_described(request: &str, status: u16, head: &str) {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let Ok(method) = method.parse::<Method>() else { return };
    let Ok(asked) = routes::find(path, &method) else { return };
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let (described, _) = asked.operation.route();
    let of_method = described.as_str().to_ascii_lowercase();
    let answers = &document["paths"][path_of(asked.operation)][of_method]["responses"];
    let answer = &answers[status.to_string()];
    assert!(answer.is_object(), "{method} {path} answers {status}, which is not described");
    let media = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let media = media.map(|media| media.split(';').next().unwrap_or_default().trim());
    match media {
        Some(media) => assert!(
            answer["content"][media].is_object(),
            "{method} {path} answers {status} as {media}, which is not described"
        ),
        None => assert!(answer["content"].is_null(), "{method} {path} {status} has no content"),
    }
}

#[test]
fn every_operation_can_be_refused() {
    for operation in Operation::ALL {
        assert!(describe(operation).refusals.contains(&description::GUARD), "{operation:?}");
    }
}
