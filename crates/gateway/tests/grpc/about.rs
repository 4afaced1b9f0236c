//! Health and reflection.

use std::time::{Duration, Instant};

use futures_util::stream;
use tinyfaas_grpc::v1;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use crate::support::{Server, echo};

const SERVICES: [&str; 5] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    v1::tiny_faa_s_server::SERVICE_NAME,
    "tinyfaas.v2.TinyFaaS",
];

#[tokio::test]
async fn every_service_is_healthy_and_no_other() {
    let server = Server::with(echo()).await;
    let mut client = HealthClient::with_origin(server.connect().await, server.origin());
    for service in SERVICES.into_iter().chain([""]) {
        let asked = HealthCheckRequest { service: service.into() };
        let told = client.check(asked).await.unwrap();
        assert_eq!(told.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let status = client.check(HealthCheckRequest { service: "f".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn who_watches_is_told_of_the_stop_and_let_go() {
    let server = Server::with(echo()).await;
    let mut client = HealthClient::with_origin(server.connect().await, server.origin());
    let mut told = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut reflection =
        ServerReflectionClient::with_origin(server.connect().await, server.origin());
    let mut asked = reflection
        .server_reflection_info(Request::new(stream::pending()))
        .await
        .unwrap()
        .into_inner();
    let first = told.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let unknown = HealthCheckRequest { service: "f".into() };
    let mut nobody = client.watch(unknown).await.unwrap().into_inner();
    let first = nobody.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let last = told.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(told.message().await.unwrap().is_none());
    assert!(asked.message().await.unwrap().is_none());
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let server = Server::with(echo()).await;
    let mut client = ServerReflectionClient::with_origin(server.connect().await, server.origin());
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asked = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("tinyfaas.v2.TinyFaaS".into())),
        ask(MessageRequest::FileByFilename("google/protobuf/duration.proto".into())),
    ];
    let told = client.server_reflection_info(stream::iter(asked)).await;
    let mut told = told.unwrap().into_inner();
    let first = told.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = first else { panic!("{first:?}") };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort_unstable();
    assert_eq!(names, SERVICES);
    for _ in 0..2 {
        let next = told.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::FileDescriptorResponse(file)) = next else { panic!("{next:?}") };
        assert_eq!(file.file_descriptor_proto.len(), 1);
    }
}

#[tokio::test]
async fn the_older_reflection_answers_too() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let server = Server::with(echo()).await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::with_origin(
        server.connect().await,
        server.origin(),
    );
    let asked = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let told = client.server_reflection_info(stream::iter([asked])).await.unwrap();
    let first = told.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = first else { panic!("{first:?}") };
    assert_eq!(list.service.len(), SERVICES.len());
}
