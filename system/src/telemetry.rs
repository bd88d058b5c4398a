//! What a service tells about itself: metrics in Prometheus text, figures of the process, W3C trace context,
//! log output and optional OTLP traces.
//!
//! Nothing here is global except what a program installs by [`logging::install`]: a [`metrics::Registry`] is a
//! value, so several services in one process (tests, the embedded pipeline) keep their series apart.

pub mod logging;
pub mod metrics;
pub mod process;
pub mod trace_context;
