//! What is measured: the null subject, and how any subject is described to a trial's process.

pub mod null;
