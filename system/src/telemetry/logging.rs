//! Log output of a program and, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, its traces.
//!
//! `RUST_LOG` filters (default `info`), `LOG_FORMAT=json` writes one JSON object per line; everything goes to
//! stderr. Libraries never call this; a program does, once.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Why no log output could be installed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The exporter's settings are impossible.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Another subscriber is there.
    #[error("log output was installed before")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter alive; [`shutdown`](Self::shutdown) sends what is left.
#[derive(Debug)]
#[must_use = "dropping it stops the export of traces"]
pub struct LoggingGuard {
    provider: Option<SdkTracerProvider>,
}

impl LoggingGuard {
    /// Sends the spans that are still buffered; at most the exporter's own timeout (5 s).
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "traces were not all exported");
        }
    }
}

/// Installs log output and, if configured, the export of traces, for the service called `name`. Call it
/// inside a tokio runtime.
///
/// # Errors
/// When the exporter cannot be built or a subscriber is already installed.
pub fn install(name: &'static str) -> Result<LoggingGuard, LoggingError> {
    let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let output = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let output = if std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        output.json().with_filter(filter()).boxed()
    } else {
        output.with_filter(filter()).boxed()
    };
    let provider = match std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => Some(provider(name)?),
        _ => None,
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(name))
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.target() == TRACE_TARGET))
    });
    tracing_subscriber::registry().with(traces).with(output).try_init()?;
    Ok(LoggingGuard { provider })
}

/// Spans of this target are exported as traces, and nothing else is: logging stays logging.
pub const TRACE_TARGET: &str = "queuebench::trace";

fn provider(name: &'static str) -> Result<SdkTracerProvider, LoggingError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
