//! The ingest service as a program.

use std::process::ExitCode;

use queuebench_system::pipeline::program::{self, Program};

fn main() -> ExitCode {
    program::ingest(Program {
        name: "ingest",
        about: "Reads what clients send, gives each record an id, and hands it to the processor",
        environment: "Environment (an empty variable counts as unset):
  INGEST_PORT                 port [8081]
  PROCESSOR_URL               processors, separated by commas [http://localhost:8082]
  VALIDATE_MESSAGES           refuse records without source or data [false]
  BIND_HOST                   address to bind [0.0.0.0]
  MAX_BODY_BYTES              size of one body [1048576]
  MAX_CONNECTIONS             connections at once [4096]
  MAX_CONNECTIONS_PER_CLIENT  connections at once per client address, 0 for no limit [0]
  MAX_IN_FLIGHT               requests in work at once [4096]
  MAX_IN_FLIGHT_BYTES         bytes of their bodies [67108864]
  RUST_LOG, LOG_FORMAT=json   log output on stderr [info]
  OTEL_EXPORTER_OTLP_ENDPOINT where traces go [nowhere]",
        shutdown_s: 5,
    })
}
