//! Who leads where several processes could: a lock in PostgreSQL that ends with its connection, so that a killed process
//! gives it up at once. Nothing relies on there being one leader alone, it only saves doing everything twice.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between tries for a lock that another process holds.
const POLL: Duration = Duration::from_millis(200);
/// Between looks whether it is still held.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Does the work for as long as this process leads, again whenever it does, until told to stop. The work ends when its
/// token is cancelled.
pub(crate) async fn lead<W: Future<Output = ()> + Send>(
    database: PgConnectOptions,
    name: &'static str,
    stop: CancellationToken,
    work: impl Fn(CancellationToken) -> W + Send,
) {
    while !stop.is_cancelled() {
        match take(&database, name).await {
            Ok(Some(lock)) => {
                tracing::info!(name, "this process leads");
                let turn = stop.child_token();
                tokio::join!(work(turn.clone()), watch(lock, turn));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(name, %error, "whether another process leads is not known"),
        }
        tokio::select! { () = stop.cancelled() => {}, () = sleep(POLL) => {} }
    }
}

async fn take(database: &PgConnectOptions, name: &str) -> Result<Option<PgConnection>, sqlx::Error> {
    let options = database.clone().application_name("souk lease");
    let mut connection = PgConnection::connect_with(&options).await?;
    let taken = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(format!("souk {name}"))
        .fetch_one(&mut connection)
        .await?;
    if taken {
        return Ok(Some(connection));
    }
    connection.close().await?;
    Ok(None)
}

/// Ends the turn when the lock is lost, and the lock with the turn.
async fn watch(mut lock: PgConnection, turn: CancellationToken) {
    loop {
        tokio::select! {
            () = turn.cancelled() => break,
            () = sleep(HEARTBEAT) => if let Err(error) = lock.ping().await {
                tracing::warn!(%error, "this process leads no longer");
                return turn.cancel();
            }
        }
    }
    let _ = lock.close().await;
}
