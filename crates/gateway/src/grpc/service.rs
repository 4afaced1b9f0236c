//! The services that are served, and their methods.
//!
//! Owns which path is which method, and handing a request to the code that is
//! generated for it. Must not know what a method does.

use std::sync::Arc;

use ::http::Request;
use bytes::Bytes;
use http_body::Body as HttpBody;
use tinyfaas_grpc::v1::tiny_faa_s_server as v1;
use tower_service::Service as _;

use super::Answer;
use super::call::Call;
use super::error::Refused;
use super::message::Messages;

/// A method that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Version 1's only one.
    V1,
}

/// All services, each with its methods.
const SERVED: [(&str, &[(&str, Method)]); 1] = [(v1::SERVICE_NAME, &[("Request", Method::V1)])];

impl Method {
    /// The method at this path: `/SERVICE/METHOD`.
    ///
    /// # Errors
    /// Says what is served instead.
    pub(super) fn find(path: &str) -> Result<Self, Refused> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        let Some((_, methods)) = SERVED.iter().find(|(name, _)| *name == service) else {
            let served = SERVED.map(|(name, _)| name).join(", ");
            return Err(Refused::NoService { service: service.to_owned(), served });
        };
        let found = methods.iter().find(|(name, _)| *name == method);
        found.map(|(_, method)| *method).ok_or_else(|| {
            let names: Vec<&str> = methods.iter().map(|(name, _)| *name).collect();
            let (service, method) = (service.to_owned(), method.to_owned());
            Refused::NoMethod { service, method, served: names.join(", ") }
        })
    }

    /// Hands a request to who answers it.
    pub(super) async fn serve<B>(self, call: Arc<Call>, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error> + Send + Unpin + 'static,
    {
        let bytes_max = call.config().grpc.message_bytes_max;
        let request = request.map(|body| Messages::new(body, Arc::clone(&call)));
        let answered = match self {
            Self::V1 => {
                let mut service = v1::TinyFaaSServer::from_arc(call);
                // Its own bounds would tell another code; ours come before them.
                service = service.max_decoding_message_size(bytes_max);
                service.call(request).await
            }
        };
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<Method, &str>) {
        match (Method::find(path), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{path}"),
            (Err(refused), Err(expected)) => {
                assert!(refused.to_string().contains(expected), "{path}: {refused}");
            }
            (found, _) => panic!("{path}: {found:?}"),
        }
    }

    #[test]
    fn paths_are_methods_of_services() {
        let v1 = "/openfogstack.tinyfaas.tinyfaas.TinyFaaS";
        check(&format!("{v1}/Request"), Ok(Method::V1));
        check(&format!("{v1}/Other"), Err("it has Request"));
        check(&format!("{v1}/Request/more"), Err("it has Request"));
        check(v1, Err("it has Request"));
        check("/", Err("there are openfogstack.tinyfaas.tinyfaas.TinyFaaS"));
        check("", Err("no service \"\" is served here"));
        check("/f", Err("no service \"f\" is served here"));
    }
}
