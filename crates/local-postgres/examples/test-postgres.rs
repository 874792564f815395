//! The server that the tests share, from the command line: `start` prints its address, `stop` ends it unless tests use it.

use std::process::ExitCode;

use souk_local_postgres::TestPostgres;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("start") => println!("{}", TestPostgres::shared().await.url()),
        Some("stop") => match TestPostgres::stop().await {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("tests are using it: it stays, and ends by itself half an hour after the last one");
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!("usage: test-postgres start | stop");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
