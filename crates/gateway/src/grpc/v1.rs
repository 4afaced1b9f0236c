//! Version 1: text in, text out, as the original's users know it.
//!
//! Owns what its one method means. Must not know how a call is run.

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, Method};
use tinyfaas_grpc::v1::tiny_faa_s_server::TinyFaaS;
use tinyfaas_grpc::v1::{Data, Response};
use tinyfaas_model::{Body, CallOutcome, CallTarget, Route};
use tonic::Status;

use super::call::{Asked, Call, Replied, raised};
use super::error::{CallError, ReplyError};
use super::metadata::{self, ASYNC};

#[tonic::async_trait]
impl TinyFaaS for Call {
    async fn request(
        &self,
        request: tonic::Request<Data>,
    ) -> Result<tonic::Response<Response>, Status> {
        let (metadata, _, data) = request.into_parts();
        let answered = call(self, metadata.into_headers(), data).await;
        answered.map(tonic::Response::new).map_err(|error| self.status(&error))
    }
}

async fn call(call: &Call, mut headers: HeaderMap, data: Data) -> Result<Response, CallError> {
    let route = call.find(&data.function_identifier)?;
    let later = headers.contains_key(&ASYNC);
    metadata::clean(&mut headers);
    metadata::trace(&mut headers);
    let (_, target) = CallTarget::split(&PathAndQuery::from_static("/"));
    let body = Body::from_bytes(data.data);
    let asked = Asked { method: Method::POST, target, headers, body };
    if later {
        call.accept(route, asked)?;
        return Ok(Response::default());
    }
    let (replied, tally) = call.run(route, asked).await?;
    let failed = replied.failed;
    let answered = answer(replied, &tally.route)
        .and_then(|response| call.fits(response))
        .map_err(CallError::from);
    let outcome = match &answered {
        Ok(_) => CallOutcome::of_reply(failed),
        Err(error) => error.outcome(),
    };
    call.end(tally, outcome);
    answered
}

/// The reply as text, where it is one.
fn answer(replied: Replied, route: &Route) -> Result<Response, ReplyError> {
    let Replied { status, failed, body, .. } = replied;
    let error = status.filter(|status| status.as_u16() >= 400);
    if !failed && error.is_none() {
        return match std::str::from_utf8(&body) {
            Ok(_) => Ok(Response { response: body }),
            Err(_) => Err(ReplyError::NotText),
        };
    }
    let Some(status) = error.filter(|_| !failed) else { return Err(raised(&body, route)) };
    let text = match String::from_utf8_lossy(&body) {
        text if text.is_empty() => {
            format!("function {} answered with {status}", route.function.name)
        }
        text => text.into_owned(),
    };
    Err(ReplyError::Status { status, text })
}
