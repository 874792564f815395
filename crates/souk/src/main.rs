//! Souk, the binary: it alone knows every part. `cli` says what can be asked, `wiring` puts the parts together, and each
//! command has a module of its own.

mod account;
mod anchors;
mod backup;
mod bench;
mod cli;
mod client;
mod config;
mod data_dir;
mod demo;
mod event_server;
mod events;
mod import;
mod lease;
mod proc;
mod progress;
mod serve;
mod synonyms;
mod telemetry;
mod verify;
mod views;
mod wiring;

/// Commands are many small allocations that end on other threads, at which the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Two providers of cryptography are linked, and TLS has to be told which to use. An error says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::run()
}
