//! A server as a child of this process.
//!
//! Children are in a process group of their own, so that Ctrl-C in a terminal reaches this process only and
//! the server is stopped in order. Where `setpriv` of util-linux is there, the kernel kills the server when
//! this process dies, however it dies; and a record on disk lets the next start sweep the rest.

mod build;
mod process;
mod program;
mod server;

pub(crate) use process::Process;
pub(crate) use program::{Invocation, Program};
pub(crate) use server::{Membership, NativeServer};
