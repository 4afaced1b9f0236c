//! Version 2: bytes, headers, statuses, streams, asynchronous calls.
//!
//! Owns what its methods mean. Must not know how a call is run.

mod request;
mod response;
mod result;
mod stream;

use std::sync::Arc;

use tinyfaas_grpc::v2::tiny_faa_s_server::TinyFaaS;
use tinyfaas_grpc::v2::{
    GetResultRequest, GetResultResponse, InvokeAsyncResponse, InvokeRequest, InvokeResponse,
    InvokeStreamRequest,
};
use tinyfaas_model::{CallOutcome, Route};
use tonic::{Request, Response, Status, Streaming};

use self::stream::ReplyStream;
use super::call::{Asked, Call, raised};
use super::error::CallError;

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TinyFaaS for Call {
    type InvokeStreamStream = ReplyStream;

    async fn invoke(&self, request: Request<InvokeRequest>) -> Answered<InvokeResponse> {
        let (metadata, _, head) = request.into_parts();
        let answered = match request::read(self, metadata.into_headers(), head) {
            Ok((route, asked)) => invoke(self, route, asked).await,
            Err(error) => Err(error),
        };
        answered.map(Response::new).map_err(|error| self.status(&error))
    }

    async fn invoke_stream(
        &self,
        request: Request<Streaming<InvokeStreamRequest>>,
    ) -> Answered<ReplyStream> {
        let (metadata, _, parts) = request.into_parts();
        let opened = stream::open(self, metadata.into_headers(), parts).await?;
        Ok(Response::new(opened))
    }

    async fn invoke_async(&self, request: Request<InvokeRequest>) -> Answered<InvokeAsyncResponse> {
        let (metadata, _, head) = request.into_parts();
        let accepted = request::read(self, metadata.into_headers(), head)
            .and_then(|(route, asked)| self.accept(route, asked));
        match accepted {
            Ok(()) => Ok(Response::new(InvokeAsyncResponse { call_id: self.id.to_string() })),
            Err(error) => Err(self.status(&error)),
        }
    }

    async fn get_result(&self, request: Request<GetResultRequest>) -> Answered<GetResultResponse> {
        let answered = result::answer(self, request.into_inner()).await;
        let answered = answered.and_then(|result| self.fits(result).map_err(CallError::from));
        answered.map(Response::new).map_err(|error| self.status(&error))
    }
}

async fn invoke(call: &Call, route: Arc<Route>, asked: Asked) -> Result<InvokeResponse, CallError> {
    let (replied, tally) = call.run(route, asked).await?;
    let failed = replied.failed;
    let answered = if failed {
        Err(raised(&replied.body, &tally.route).into())
    } else {
        let head = response::head(replied.status, replied.headers, call.id);
        let response = InvokeResponse { body: replied.body, ..head };
        call.fits(response).map_err(CallError::from)
    };
    let outcome = match &answered {
        Ok(_) => CallOutcome::of_reply(failed),
        Err(error) => error.outcome(),
    };
    call.end(tally, outcome);
    answered
}
