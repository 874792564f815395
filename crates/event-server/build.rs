//! Compiles the protocol's definitions, without `protoc`.

fn main() {}
