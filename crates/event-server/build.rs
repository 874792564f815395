//! Compiles the protocol's definitions, without `protoc`, and finds the test suite that tests/server includes.

use std::{env, error::Error, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["features", "gossip", "persistent", "streams"].map(|name| format!("proto/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let definitions = protox::compile(files, ["proto"])?;
    tonic_build::configure().include_file("protocol.rs").compile_fds(definitions)?;
    if let Some(suite) = suite()? {
        println!("cargo::rustc-env=EVENTSTORE_SUITE={}", suite.display());
    }
    Ok(())
}

/// The tests of the package `eventstore`, where cargo has unpacked it; a build without tests may not have it.
fn suite() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let metadata = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform"])
        .arg(env::var("HOST")?)
        .output()?;
    if !metadata.status.success() {
        return Ok(None);
    }
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages.iter().find(|package| package["name"] == "eventstore");
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    Ok(manifest.map(|manifest| PathBuf::from(manifest).with_file_name("tests")))
}
