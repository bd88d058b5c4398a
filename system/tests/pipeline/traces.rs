//! Traces leave the programs over OTLP: a receiver that speaks the collector's own gRPC service gets one span
//! from each service, in one trace, each the child of the one before.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;

use crate::client::Http;
use crate::programs::{Running, command};

/// Takes what exporters send.
struct Receiver(mpsc::UnboundedSender<(String, Span)>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let service = format!("{:?}", name.value.unwrap());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.send((service.clone(), span)).unwrap();
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Span)>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Receiver(sender)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_exports_its_span_of_a_request_at_the_latest_when_it_ends() {
    let (collector, mut spans) = receiver().await;
    let start = |name: &str, environment: &[(&str, &str)]| {
        let mut command = command(name);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
        command.envs(environment.iter().copied());
        tokio::task::block_in_place(|| Running::start(command))
    };
    let mut processor = start("processor", &[("PROCESSOR_PORT", "0")]);
    let to_processor = processor.url();
    let mut ingest = start("ingest", &[("INGEST_PORT", "0"), ("PROCESSOR_URL", &to_processor)]);
    let to_ingest = ingest.url();
    let mut gateway = start(
        "api-gateway",
        &[("API_PORT", "0"), ("INGEST_URL", &to_ingest), ("PROCESSOR_URL", &to_processor)],
    );
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = http::Request::post(format!("{}/api/v1/ingest", gateway.url()))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .body(http_body_util::Full::new(bytes::Bytes::from_static(b"{}")))
        .unwrap();
    assert_eq!(Http::new().send(request).await.status, 200);
    for service in [&mut gateway, &mut ingest, &mut processor] {
        service.signal("-TERM");
        assert_eq!(service.ended().await.code(), Some(0));
    }
    let mut of_request = BTreeMap::new();
    while let Ok((service, span)) = spans.try_recv() {
        let id: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        if id == trace {
            of_request.insert(service, span);
        }
    }
    let of = |name: &str| {
        let found = of_request.iter().find(|(service, _)| service.contains(name));
        found.unwrap_or_else(|| panic!("no span of {name} in {:?}", of_request.keys())).1
    };
    assert_eq!(of("api-gateway").parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(of("ingest").parent_span_id, of("api-gateway").span_id);
    assert_eq!(of("processor").parent_span_id, of("ingest").span_id);
}
