//! The API gateway as a program.

use std::process::ExitCode;

use queuebench_system::pipeline::program::{self, Program};

fn main() -> ExitCode {
    program::gateway(Program {
        name: "api-gateway",
        about: "Front door of the pipeline: passes ingest requests on and refuses what is over the limits",
        environment: "Environment (an empty variable counts as unset):
  API_PORT                    port [8080]
  INGEST_URL                  ingest services, separated by commas [http://localhost:8081]
  PROCESSOR_URL               processors, separated by commas [http://localhost:8082]
  RATE_LIMIT_PER_S            requests a second in all, 0 for no limit [0]
  RATE_LIMIT_CLIENT_PER_S     requests a second per client address, 0 for no limit [0]
  RATE_LIMIT_BURST_S          seconds' worth that may come at once [1]
  API_BEARER_TOKEN            token that requests must carry [none]
  API_TLS_CERT, API_TLS_KEY   PEM files for a second listener with TLS [none]
  API_TLS_PORT                its port [8443]
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
