//! The run-record types, statistics over records, and everything that is drawn from a record.
//!
//! - [`record`]: what a run leaves behind (`result.json`), versioned.
//!
//! Nothing here opens a socket, starts a process or knows another member of the workspace: a run made last
//! month still draws.

pub mod record;
