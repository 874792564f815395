//! PostgreSQL for tests: one server for all test processes of a user, a fresh database for each test.
//!
//! The server lives in `souk-test-postgres-<uid>` under the system's folder for temporary files. Whichever test comes
//! first starts it and leaves it running, since under nextest every test is a process of its own; it ends when no
//! database was asked for during half an hour, or by `cargo run -p souk-local-postgres --features testing --example
//! test-postgres -- stop`. Nothing in it is forced to disk, and each start begins with an empty one.
//!
//! A database goes when its [`TestDatabase`] is dropped; what a killed test left behind, the tests after it clear away.
//! Trouble panics: a test without its database can only fail.

#![expect(clippy::expect_used, reason = "a test without its database can only fail")]

use std::{
    env, fs,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::kill,
    unistd::{Pid, Uid},
};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{LocalPostgres, Options};

/// Ends the server ($1) whose data are in $2 when nobody has touched the file $3 for half an hour. In the background,
/// as a child of nobody's.
const WATCHDOG: &str = r#"
while sleep 60; do
    [ "$(head -n 1 "$2/postmaster.pid" 2>/dev/null)" = "$1" ] || exit 0
    [ -n "$(find "$3" -mmin -30)" ] || { kill -INT "$1"; exit 0; }
done &"#;

/// Databases that dead processes left behind, cleared away by each new process: enough to keep up, too few to wait for.
const CLEARED_AT_ONCE: usize = 8;

/// The server that the tests share.
#[derive(Clone, Debug)]
pub struct TestPostgres {
    dir: PathBuf,
    url: String,
}

impl TestPostgres {
    /// Finds the server, or starts it.
    pub async fn shared() -> Self {
        let dir = Self::dir();
        let running = LocalPostgres::attach(&dir).await.expect("the tests' PostgreSQL can be looked for");
        let url = match running {
            Some(url) => url,
            None => Self::start(&dir).await,
        };
        let server = Self { dir, url };
        server.mark_used();
        server.clear_away().await;
        server
    }

    /// Ends the server, unless a test still uses it: then it returns false.
    pub async fn stop() -> Result<bool, crate::Error> {
        let dir = Self::dir();
        let Some(url) = LocalPostgres::attach(&dir).await? else { return Ok(true) };
        let server = Self { dir: dir.clone(), url };
        if server.databases().await.iter().any(|name| maker_is_alive(name)) {
            return Ok(false);
        }
        LocalPostgres::start(&dir, Options::default()).await?.stop().await?;
        Ok(true)
    }

    /// The address of the server's own database, `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new, empty database.
    pub async fn database(&self) -> TestDatabase {
        self.create("template0").await
    }

    /// A new database with what `fill` puts into it: that runs once for each `contents` (all the SQL of the migrations,
    /// say), then databases are copies.
    pub async fn database_from(&self, contents: &str, fill: impl AsyncFnOnce(PgPool)) -> TestDatabase {
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        let lock = hasher.finish() as i64;
        let template = format!("template_{lock:016x}");
        let mut connection = self.connect().await;
        sqlx::query("select pg_advisory_lock($1)").bind(lock).execute(&mut connection).await.expect("locked");
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&template)
            .fetch_one(&mut connection)
            .await
            .expect("looked up");
        if !exists {
            // Filled under another name: a template that exists is whole.
            let unfinished = self.create("template0").await;
            let pool = unfinished.pool().await;
            fill(pool.clone()).await;
            pool.close().await;
            execute(&mut connection, format!("alter database {} rename to {template}", unfinished.name))
                .await;
        }
        // Ends the session, and with it the lock.
        drop(connection.close().await);
        self.create(&template).await
    }

    fn dir() -> PathBuf {
        env::temp_dir().join(format!("souk-test-postgres-{}", Uid::effective()))
    }

    /// Tests that come at the same time queue at the lock; all but the first adopt what the first has started.
    async fn start(dir: &Path) -> String {
        let options = Options {
            throwaway: true,
            settings: vec![("max_connections".to_owned(), "300".to_owned())],
            lock_timeout: Duration::from_mins(2),
            ..Options::default()
        };
        let postgres = LocalPostgres::start(dir, options).await.expect("a PostgreSQL for the tests");
        let url = postgres.url().to_owned();
        if let Some(server) = postgres.server.as_ref().filter(|server| server.child.is_some()) {
            let used = dir.join("used");
            fs::write(&used, "").expect("a mark");
            let mut watchdog = Command::new("sh");
            watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(server.postmaster.pid.to_string());
            watchdog.arg(&postgres.layout.data).arg(used).process_group(0).current_dir("/");
            watchdog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            watchdog.status().expect("a watchdog");
        }
        postgres.leave_running();
        url
    }

    async fn create(&self, template: &str) -> TestDatabase {
        self.mark_used();
        let name = format!("test_{}_{:016x}", std::process::id(), RandomState::new().build_hasher().finish());
        let mut connection = self.connect().await;
        execute(&mut connection, format!("create database {name} template {template}")).await;
        drop(connection.close().await);
        let url = self.url.replacen("/postgres?", &format!("/{name}?"), 1);
        TestDatabase { server: self.clone(), name, url }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("a connection to the tests' PostgreSQL")
    }

    async fn databases(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let found =
            sqlx::query_scalar("select datname::text from pg_database where datname ~ '^test_[0-9]+_'");
        let names = found.fetch_all(&mut connection).await.expect("the databases");
        drop(connection.close().await);
        names
    }

    /// Another process may be at the same ones: who comes second finds nothing to do.
    async fn clear_away(&self) {
        for name in self.databases().await.iter().filter(|name| !maker_is_alive(name)).take(CLEARED_AT_ONCE) {
            self.drop_database(name).await;
        }
    }

    async fn drop_database(&self, name: &str) {
        if let Ok(mut connection) = PgConnection::connect(&self.url).await {
            let sql = AssertSqlSafe(format!("drop database if exists {name} with (force)"));
            if let Err(error) = sqlx::raw_sql(sql).execute(&mut connection).await {
                tracing::debug!(name, %error, "a test's database stays for now");
            }
        }
    }

    fn mark_used(&self) {
        fs::write(self.dir.join("used"), "").expect("a mark that the server is in use");
    }
}

/// A database of its own for one test.
#[derive(Debug)]
pub struct TestDatabase {
    server: TestPostgres,
    name: String,
    url: String,
}

impl TestDatabase {
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn options(&self) -> PgConnectOptions {
        self.url.parse().expect("an address of our own making")
    }

    pub async fn pool(&self) -> PgPool {
        self.pool_of(8).await
    }

    pub async fn pool_of(&self, connections: u32) -> PgPool {
        let options = PgPoolOptions::new().max_connections(connections);
        options.connect_with(self.options()).await.expect("connections to the test's database")
    }
}

impl Drop for TestDatabase {
    /// Waits until the database is gone: the process may end right after. A runtime cannot be entered from within
    /// another, hence the thread.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(server.drop_database(&name));
        });
        drop(dropping.join());
    }
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("done in the tests' PostgreSQL");
}

/// `test_<pid>_…`
fn maker_is_alive(name: &str) -> bool {
    let pid = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}
