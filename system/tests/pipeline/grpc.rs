//! The gRPC way in, section 3 of the interface.

use std::collections::HashMap;
use std::time::Duration;

use queuebench_system::pipeline::config::{GrpcConfig, ServerConfig, UpstreamConfig};
use queuebench_system::pipeline::grpc::proto::IngestRequest;
use queuebench_system::pipeline::grpc::proto::ingest_service_client::IngestServiceClient;
use queuebench_system::pipeline::grpc::{self, GrpcServer};
use queuebench_system::pipeline::processor;
use tonic::Code;
use tonic::transport::Channel;

use crate::client::{Http, eventually, free_port, processor_config};

fn config(processor: &str) -> GrpcConfig {
    GrpcConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        http: ServerConfig::loopback(),
        processor: UpstreamConfig::to(processor),
        ..GrpcConfig::default()
    }
}

async fn channel(server: &GrpcServer) -> Channel {
    Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap()
}

fn request(data: &[u8]) -> IngestRequest {
    IngestRequest {
        source: "meter-7".into(),
        data: data.to_vec(),
        metadata: HashMap::from([("site".to_owned(), "north".to_owned())]),
    }
}

#[tokio::test]
async fn unary_and_streaming_calls_reach_the_processor() {
    let processor = processor::start(processor_config()).await.unwrap();
    let server = grpc::start(config(&format!("http://{}", processor.address()))).await.unwrap();
    let mut client = IngestServiceClient::new(channel(&server).await);
    let answer = client.ingest(request(b"\xff\x00 any bytes")).await.unwrap().into_inner();
    assert_eq!(answer.status, "accepted");
    assert_eq!(uuid::Uuid::parse_str(&answer.message_id).unwrap().get_version_num(), 4);

    let many = tokio_stream::iter((0..25).map(|_| request(b"x")));
    let answer = client.ingest_stream(many).await.unwrap().into_inner();
    assert_eq!((answer.message_id.as_str(), answer.status.as_str()), ("batch-25", "completed"));
    let none = client.ingest_stream(tokio_stream::iter(Vec::new())).await.unwrap().into_inner();
    assert_eq!(none.message_id, "batch-0");

    let http = Http::new();
    eventually(
        "processing",
        || http.json(processor.address(), "/stats"),
        |stats| stats["pool"]["ProcessedCount"] == 26,
    )
    .await;
    let calls = r#"grpc_requests_total{method="Ingest",code="Ok"}"#;
    assert_eq!(http.metric(server.http_address(), calls).await, Some(1.0));
    assert_eq!(http.get(server.http_address(), "/ready").await.status, 200);
    assert!(server.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn failures_are_internal_and_name_the_index() {
    let server = grpc::start(config(&format!("http://{}", free_port().await))).await.unwrap();
    let mut client = IngestServiceClient::new(channel(&server).await);
    let status = client.ingest(request(b"x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with("failed to process"), "{}", status.message());
    let status = client.ingest_stream(tokio_stream::iter([request(b"x")])).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with("failed to process message 0: "), "{}", status.message());
}

#[tokio::test]
async fn validation_is_opt_in_and_names_the_field() {
    let processor = processor::start(processor_config()).await.unwrap();
    let url = format!("http://{}", processor.address());
    let strict = grpc::start(GrpcConfig { validate: true, ..config(&url) }).await.unwrap();
    let mut client = IngestServiceClient::new(channel(&strict).await);
    let status = client.ingest(IngestRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("source"), "{}", status.message());
    let mixed = tokio_stream::iter([request(b"x"), request(b""), request(b"never sent")]);
    let status = client.ingest_stream(mixed).await.unwrap_err();
    assert!(status.message().starts_with("failed to process message 1: "), "{}", status.message());
    let http = Http::new();
    let stats = http.json(processor.address(), "/stats").await;
    assert_eq!(stats["queue"]["TotalEnqueued"], 1, "what came before stays, what came after is not sent");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = grpc::start(config(&format!("http://{}", free_port().await))).await.unwrap();
    let channel = channel(&server).await;
    let check = HealthCheckRequest { service: "diplom.v1.IngestService".into() };
    let health = HealthClient::new(channel.clone()).check(check).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"diplom.v1.IngestService".to_owned()), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
}
