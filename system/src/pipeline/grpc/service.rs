//! The two calls of `IngestService`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::metrics::CallMetrics;
use super::proto::ingest_service_server::IngestService;
use super::proto::{IngestRequest, IngestResponse};
use super::wire;
use crate::pipeline::context::RequestContext;
use crate::pipeline::upstream::Upstream;
use crate::pipeline::validation;
use crate::pipeline::wire::DataMessage;

#[derive(Debug)]
pub(super) struct Calls {
    pub(super) processor: Arc<Upstream>,
    pub(super) metrics: CallMetrics,
    pub(super) validate: bool,
}

impl Calls {
    /// Hands one message to the processor and returns its id.
    async fn hand_over(&self, request: IngestRequest, context: &RequestContext) -> Result<String, Status> {
        if self.validate {
            validation::check(&request.source, &request.data)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
        }
        let id = Uuid::new_v4().to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = wire(&DataMessage {
            id: id.clone(),
            timestamp: i64::try_from(now).unwrap_or(i64::MAX),
            source: request.source,
            payload: request.data,
            metadata: request.metadata.into_iter().collect::<BTreeMap<_, _>>(),
        });
        match self.processor.post("/enqueue", context, body).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED.as_u16() => Ok(id),
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body);
                Err(Status::internal(format!(
                    "failed to process message: processor answered {}: {}",
                    answer.status,
                    said.trim_end()
                )))
            }
            Err(error) => Err(Status::internal(format!("failed to process message: {error}"))),
        }
    }

    async fn hand_over_all(
        &self,
        mut requests: Streaming<IngestRequest>,
        context: &RequestContext,
    ) -> Result<u64, Status> {
        let mut sent = 0;
        // One after another, so that nothing after a failed message is enqueued.
        while let Some(request) = requests.message().await? {
            self.hand_over(request, context).await.map_err(|status| {
                let reason = status.message().trim_start_matches("failed to process message: ");
                Status::new(status.code(), format!("failed to process message {sent}: {reason}"))
            })?;
            sent += 1;
        }
        Ok(sent)
    }
}

#[tonic::async_trait]
impl IngestService for Calls {
    async fn ingest(&self, request: Request<IngestRequest>) -> Result<Response<IngestResponse>, Status> {
        let started = Instant::now();
        let mut context = RequestContext::of_headers(request.metadata().as_ref());
        let span = context.begin("grpc-server", "IngestService/Ingest");
        let handed = self.hand_over(request.into_inner(), &context).await;
        drop(span);
        let code = handed.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.metrics.record("Ingest", code, started.elapsed());
        handed.map(|message_id| Response::new(IngestResponse { message_id, status: "accepted".to_owned() }))
    }

    async fn ingest_stream(
        &self,
        request: Request<Streaming<IngestRequest>>,
    ) -> Result<Response<IngestResponse>, Status> {
        let started = Instant::now();
        let mut context = RequestContext::of_headers(request.metadata().as_ref());
        let span = context.begin("grpc-server", "IngestService/IngestStream");
        let handed = self.hand_over_all(request.into_inner(), &context).await;
        drop(span);
        let code = handed.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.metrics.record("IngestStream", code, started.elapsed());
        handed.map(|sent| {
            Response::new(IngestResponse {
                message_id: format!("batch-{sent}"),
                status: "completed".to_owned(),
            })
        })
    }
}
