//! The processor as a program.

use std::process::ExitCode;

use queuebench_system::pipeline::program::{self, Program};

fn main() -> ExitCode {
    program::processor(Program {
        name: "processor",
        about: "Takes messages into a queue and works them off",
        environment: "Environment (an empty variable counts as unset):
  PROCESSOR_PORT              port [8082]
  PROCESSOR_WORKERS           workers, at least 1 [4]
  PROCESSOR_BATCH             messages that a worker takes at once, at most [64]
  PROCESSOR_PREFETCH          messages delivered and not yet acknowledged, at most [256]
  PROCESSOR_MAX_ATTEMPTS      tries before a message becomes a dead letter [3]
  PROCESSOR_RETRY_DELAY_MS    wait before the second try, doubled for each further one [50]
  QUEUE_TYPE                  memory, nats, kafka or composite [memory]
  QUEUE_SIZE                  messages that fit, memory queue only [1000]
  NATS_URL                    NATS servers [nats://localhost:4222]
  NATS_STREAM                 stream [DIPLOM_STREAM]
  KAFKA_BROKERS               Kafka brokers, separated by commas [localhost:9092]
  KAFKA_TOPIC                 topic [diplom-messages]
  KAFKA_PARTITIONS            partitions that it is created with [4]
  KAFKA_CONSUMER_GROUP        consumer group [processor-group]
  COMPOSITE_PROVIDERS         children of the composite, separated by commas [nats,kafka]
  COMPOSITE_STRATEGY          fail-fast or best-effort [fail-fast]
  PROCESSOR_RESULT_FEED       serve results at /internal/v1/results [false]
  QUEUE_EPHEMERAL             delete the stream or topic that starting created when ending [false]
  BIND_HOST                   address to bind [0.0.0.0]
  MAX_BODY_BYTES              size of one body [1048576]
  MAX_CONNECTIONS             connections at once [4096]
  MAX_IN_FLIGHT               requests in work at once [4096]
  MAX_IN_FLIGHT_BYTES         bytes of their bodies [67108864]
  RUST_LOG, LOG_FORMAT=json   log output on stderr [info]
  OTEL_EXPORTER_OTLP_ENDPOINT where traces go [nowhere]",
        shutdown_s: 30,
    })
}
