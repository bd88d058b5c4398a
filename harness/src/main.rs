//! The `queuebench` program.

fn main() {}
