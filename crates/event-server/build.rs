//! Compiles the protocol's definitions, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["features", "gossip", "persistent", "streams"].map(|name| format!("proto/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let definitions = protox::compile(files, ["proto"])?;
    tonic_build::configure().include_file("protocol.rs").compile_fds(definitions)?;
    Ok(())
}
