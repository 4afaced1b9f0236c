//! The services that are served, and their methods.
//!
//! Owns which path is which method, and handing a request to the code that is
//! generated for it. Must not know what a method does.

use std::sync::Arc;

use ::http::Request;
use bytes::Bytes;
use http_body::Body as HttpBody;
use tinyfaas_grpc::v1::tiny_faa_s_server as v1;
use tinyfaas_grpc::v2::tiny_faa_s_server as v2;
use tonic::body::Body;
use tonic_health::pb::health_server as health;
use tonic_reflection::pb::v1::server_reflection_server as reflection;
use tonic_reflection::pb::v1alpha::server_reflection_server as reflection_alpha;
use tower_service::Service as _;

use super::Answer;
use super::call::Call;
use super::error::Refused;
use super::message::{Messages, Takes};

/// A method that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Version 1's only one.
    V1,
    /// Those of version 2 that take one message.
    V2,
    /// Version 2's call whose input comes in pieces.
    V2Stream,
    /// Those of health.
    Health,
    /// That of reflection.
    ReflectionV1,
    /// The same by its older name.
    ReflectionV1Alpha,
}

/// A service's name, and its methods.
type Service = (&'static str, &'static [(&'static str, Method)]);

/// All services, those of every call first.
pub(super) const SERVED: [Service; 5] = [
    (v1::SERVICE_NAME, &[("Request", Method::V1)]),
    (
        v2::SERVICE_NAME,
        &[
            ("Invoke", Method::V2),
            ("InvokeStream", Method::V2Stream),
            ("InvokeAsync", Method::V2),
            ("GetResult", Method::V2),
        ],
    ),
    (health::SERVICE_NAME, &[("Check", Method::Health), ("Watch", Method::Health)]),
    (reflection::SERVICE_NAME, &[("ServerReflectionInfo", Method::ReflectionV1)]),
    (reflection_alpha::SERVICE_NAME, &[("ServerReflectionInfo", Method::ReflectionV1Alpha)]),
];

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

    /// How many messages it takes.
    fn takes(self) -> Takes {
        match self {
            Self::V1 | Self::V2 | Self::Health => Takes::One,
            Self::V2Stream => Takes::Many,
            Self::ReflectionV1 | Self::ReflectionV1Alpha => Takes::Questions,
        }
    }

    /// Whether it is a call that has an id.
    pub(super) fn is_call(self) -> bool {
        match self {
            Self::V1 | Self::V2 | Self::V2Stream => true,
            Self::Health | Self::ReflectionV1 | Self::ReflectionV1Alpha => false,
        }
    }

    /// Hands a request to who answers it.
    pub(super) async fn serve<B>(self, call: Arc<Call>, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error> + Send + Unpin + 'static,
    {
        // Their own bounds would tell another code; those of messages come before them.
        let bytes_max = call.config().grpc.message_bytes_max;
        let request = request.map(|body| Messages::new(body, Arc::clone(&call), self.takes()));
        let about = &call.grpc.about;
        let answered = match self {
            Self::V1 => {
                let service = v1::TinyFaaSServer::from_arc(call);
                service.max_decoding_message_size(bytes_max).call(request).await
            }
            Self::V2 | Self::V2Stream => {
                let service = v2::TinyFaaSServer::from_arc(call);
                service.max_decoding_message_size(bytes_max).call(request).await
            }
            Self::Health => about.health.clone().call(request).await,
            Self::ReflectionV1 => Ok((about.reflection_v1)(request.map(Body::new)).await),
            Self::ReflectionV1Alpha => Ok((about.reflection_v1alpha)(request.map(Body::new)).await),
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
        check("/tinyfaas.v2.TinyFaaS/GetResult", Ok(Method::V2));
        check("/tinyfaas.v2.TinyFaaS/Get", Err("Invoke, InvokeStream, InvokeAsync, GetResult"));
        check("/grpc.health.v1.Health/Check", Ok(Method::Health));
        let reflection = "ServerReflection/ServerReflectionInfo";
        check(&format!("/grpc.reflection.v1.{reflection}"), Ok(Method::ReflectionV1));
        check(&format!("/grpc.reflection.v1alpha.{reflection}"), Ok(Method::ReflectionV1Alpha));
        check("/", Err("there are openfogstack.tinyfaas.tinyfaas.TinyFaaS"));
        check("", Err("no service \"\" is served here"));
        check("/f", Err("no service \"f\" is served here"));
    }
}
