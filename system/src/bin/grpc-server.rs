//! The gRPC server as a program.

use std::process::ExitCode;

use queuebench_system::pipeline::program::{self, Program};

fn main() -> ExitCode {
    program::grpc_server(Program {
        name: "grpc-server",
        about: "The gRPC way into the pipeline: diplom.v1.IngestService, reflection and health",
        environment: "Environment (an empty variable counts as unset):
  GRPC_ADDR                   address and port [127.0.0.1:50052]
  GRPC_HTTP_PORT              port of /metrics, /health and /ready [50053]
  PROCESSOR_URL               processors, separated by commas [http://localhost:8082]
  VALIDATE_MESSAGES           refuse records without source or data [false]
  BIND_HOST                   address to bind for HTTP [0.0.0.0]
  RUST_LOG, LOG_FORMAT=json   log output on stderr [info]
  OTEL_EXPORTER_OTLP_ENDPOINT where traces go [nowhere]",
        shutdown_s: 5,
    })
}
