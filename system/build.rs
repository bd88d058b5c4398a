//! Compiles `proto/` once there is one; nothing yet.

fn main() {}
