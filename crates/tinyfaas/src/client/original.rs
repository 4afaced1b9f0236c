//! The six calls of the original tinyFaaS, for a server that has no `/v1`.
//!
//! Owns what can be asked there, and the clear word where something cannot.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Server, refusal};
use crate::failure::Failure;

/// The longest list of names that is taken, in bytes.
const LIST_BYTES_MAX: usize = 1 << 20;

/// What is said where something needs `/v1`.
pub(crate) fn not_offered(server: &Server, what: &str) -> Failure {
    Failure::failed(format!("the server at {} is an older tinyFaaS: {what}", server.address()))
}

/// The names of all functions.
///
/// # Errors
/// As for every request.
pub(crate) async fn list(server: &Server) -> Result<Vec<String>, Failure> {
    let response = checked(server, server.brief(Method::GET, "/list")).await?;
    let body = server.body(response, LIST_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&body);
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The logs of a function, or of all; the answer is still to be read.
///
/// # Errors
/// As for every request.
pub(crate) async fn logs(server: &Server, name: Option<&str>) -> Result<Response, Failure> {
    let request = server.request(Method::GET, "/logs");
    // The original takes the name as it stands in the query.
    let request = match name {
        Some(name) => {
            let mut url = server.address().join("/logs");
            url.query_pairs_mut().append_pair("name", name);
            let path = format!("/logs?{}", url.query().unwrap_or_default());
            server.request(Method::GET, &path)
        }
        None => request,
    };
    checked(server, request).await
}

/// Removes a function.
///
/// # Errors
/// As for every request.
pub(crate) async fn delete(server: &Server, name: &str) -> Result<(), Failure> {
    let request = server.brief(Method::POST, "/delete").body(json!({"name": name}).to_string());
    checked(server, request.header(CONTENT_TYPE, "application/json")).await.map(drop)
}

/// Removes all functions.
///
/// # Errors
/// As for every request.
pub(crate) async fn wipe(server: &Server) -> Result<(), Failure> {
    checked(server, server.brief(Method::POST, "/wipe")).await.map(drop)
}

/// Deploys a zip, or what the server downloads; its words, which may be none.
///
/// # Errors
/// As for every request.
pub(crate) async fn upload(
    server: &Server,
    fields: &Value,
    archive: Option<File>,
) -> Result<String, Failure> {
    let path = if archive.is_some() { "/upload" } else { "/uploadURL" };
    let request = server.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
    let request = match archive {
        None => request.body(fields.to_string()),
        Some(archive) => {
            let body = tokio::task::spawn_blocking({
                let fields = fields.clone();
                move || upload_body(&fields, archive)
            });
            let body = body.await.map_err(io::Error::other).flatten();
            let (body, bytes) = body.map_err(|error| {
                Failure::failed(format!(
                    "cannot write the archive to the temporary folder: {error}"
                ))
            })?;
            request.body(super::multipart::of_file(body, bytes))
        }
    };
    let response = checked(server, request).await?;
    let body = server.body(response, LIST_BYTES_MAX).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// JSON with the archive as base64 in it, in a temporary file.
fn upload_body(fields: &Value, mut archive: File) -> io::Result<(File, u64)> {
    archive.rewind()?;
    let mut body = BufWriter::new(tempfile::tempfile()?);
    let fields = fields.to_string();
    let open = fields.strip_suffix('}').unwrap_or(&fields);
    write!(body, "{open},\"zip\":\"")?;
    let mut encoder = EncoderWriter::new(&mut body, &STANDARD);
    io::copy(&mut archive, &mut encoder)?;
    encoder.finish()?;
    drop(encoder);
    body.write_all(b"\"}")?;
    let mut body = body.into_inner().map_err(io::IntoInnerError::into_error)?;
    let bytes = body.stream_position()?;
    body.rewind()?;
    Ok((body, bytes))
}

async fn checked(server: &Server, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
    let response = server.send(request).await?;
    if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn check(archive: &[u8]) {
        let mut file = tempfile::tempfile().expect("room for a file");
        file.write_all(archive).expect("writable");
        let (mut body, bytes) =
            upload_body(&json!({"name": "x", "threads": 1}), file).expect("writable");
        let mut text = String::new();
        body.read_to_string(&mut text).expect("text");
        assert_eq!(text.len() as u64, bytes);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let zip = base64::Engine::decode(&STANDARD, value["zip"].as_str().expect("a zip"));
        assert_eq!((zip.expect("base64").as_slice(), &value["name"]), (archive, &json!("x")));
    }

    #[test]
    fn an_upload_is_json_with_base64() {
        check(b"");
        check(b"PK\x03");
        check(&vec![3; 100_001]);
    }
}
