//! A private PostgreSQL: found on this machine, set up in a folder, run for as long as its owner wants it.
//!
//! It listens on a Unix socket alone. Whoever can reach the socket is let in (`trust`), and only the user who runs the
//! server, and root, can: the folder of the socket is theirs, mode 0700. A password would be read from a file beside it
//! by the same people, so there is none.
//!
//! The server is a process of its own group, so that Ctrl-C reaches the program but not the database under it. When the
//! program is killed the server stays, and the next [`LocalPostgres::start`] on the folder adopts it. One process at
//! a time is responsible for a folder (a lock says which); any number may [`LocalPostgres::attach`].
//!
//! Relies on Unix, and on `initdb` and `postgres` being installed.

mod binaries;
mod error;
mod layout;
mod owner;
mod postmaster;
mod probe;
mod settings;
#[cfg(feature = "testing")]
mod testing;

use std::{
    fmt::Write,
    fs::{self, File, TryLockError},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

pub use crate::error::Error;
pub use crate::settings::Options;
#[cfg(feature = "testing")]
pub use crate::testing::{TestDatabase, TestPostgres};

use crate::{
    binaries::Binaries,
    error::at,
    layout::{Layout, PORT},
    owner::Owner,
    postmaster::{Life, Postmaster},
};

const USER: &str = "souk";
const DATABASE: &str = "postgres";
const POLL: Duration = Duration::from_millis(20);
/// How often a server that is kept is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// A fast shutdown writes a checkpoint: up to `shared_buffers` and what the disk makes of it.
const FAST_SHUTDOWN: Duration = Duration::from_mins(1);
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);

/// A running server that this process is responsible for. Dropped without [`stop`](Self::stop) it is told to end, too,
/// but nobody waits for it.
#[derive(Debug)]
pub struct LocalPostgres {
    layout: Layout,
    options: Options,
    url: String,
    server: Option<Server>,
    _lock: File,
}

#[derive(Debug)]
struct Server {
    postmaster: Postmaster,
    /// `None` for a server that was found running.
    child: Option<Child>,
}

impl LocalPostgres {
    /// Starts the server of the folder `dir` (made, and the database set up in it, if need be), or takes over the one
    /// that a killed process left running there, and waits until it answers.
    pub async fn start(dir: &Path, options: Options) -> Result<Self, Error> {
        let layout = Layout::create(dir)?;
        let lock = lock(&layout, options.lock_timeout).await?;
        let deadline = Instant::now() + options.start_timeout;

        if let Some((postmaster, socket_dir)) = find_running(&layout, options.start_timeout).await? {
            tracing::info!(pid = postmaster.pid, dir = %layout.dir.display(), "took over a PostgreSQL that was running");
            let server = Server { postmaster, child: None };
            return Ok(Self { url: url(&socket_dir), layout, options, server: Some(server), _lock: lock });
        }

        if options.throwaway && layout.data.exists() {
            fs::remove_dir_all(&layout.data).map_err(at("remove", &layout.data))?;
        }
        let mut postgres = Self { url: String::new(), layout, options, server: None, _lock: lock };
        postgres.launch(deadline).await?;
        Ok(postgres)
    }

    /// Runs until `stop`, then stops the server. One that ends by itself before that (its disk was full, somebody killed
    /// it) is started again, now and then until that goes well.
    pub async fn keep(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return self.stop().await,
                () = sleep(LOOK_AFTER) => {}
            }
            // What cannot be looked at is left alone: it may well be running.
            if let Some(server) = &mut self.server
                && !server.has_ended(&self.layout.data).unwrap_or(false)
            {
                continue;
            }
            tracing::error!(dir = %self.layout.dir.display(), "PostgreSQL has ended and is started again");
            self.server = None;
            tokio::select! {
                () = &mut stop => return self.stop().await,
                launched = self.launch(Instant::now() + self.options.start_timeout) => {
                    if let Err(error) = launched {
                        tracing::error!(%error, "PostgreSQL could not be started and will be tried again");
                    }
                }
            }
        }
    }

    /// Starts a server where none runs, and waits until it answers.
    async fn launch(&mut self, deadline: Instant) -> Result<(), Error> {
        let Self { layout, options, .. } = self;
        let owner = Owner::choose(&layout.data, options.user.as_deref())?;
        owner.check_way_to(&layout.dir)?;
        let binaries = Binaries::find(options.bin_dir.as_deref(), &layout.data, layout.data_major())?;
        if layout.data_major().is_none() {
            initialise(layout, &owner, &binaries, options).await?;
        }
        remove_stale_pid_file(&layout.data)?;
        layout.rotate_log()?;
        let socket_dir = layout.socket_dir(&owner)?;
        self.url = url(&socket_dir);
        loop {
            let log_from = self.layout.log_length();
            let server = spawn(&self.layout, &owner, &binaries, &self.options, &socket_dir)?;
            let pid = server.postmaster.pid;
            self.server = Some(server);
            match self.wait_until_ready(&socket_dir, deadline, log_from).await {
                // Children of a postmaster that was killed take a moment to notice.
                Err(Error::Died { tail, .. })
                    if tail.contains("pre-existing shared memory block") && Instant::now() < deadline =>
                {
                    sleep(POLL * 5).await;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let version = binaries.major();
                    tracing::info!(pid, version, dir = %self.layout.dir.display(), "PostgreSQL is up");
                    return Ok(());
                }
            }
        }
    }

    /// The address of the server that runs in `dir`, whoever is responsible for it; `None` if none does. A server that
    /// is just starting is waited for.
    pub async fn attach(dir: &Path) -> Result<Option<String>, Error> {
        let Some(layout) = Layout::existing(dir)? else { return Ok(None) };
        let found = find_running(&layout, Options::default().start_timeout).await?;
        Ok(found.map(|(_, socket_dir)| url(&socket_dir)))
    }

    /// For sqlx and for every client built on libpq (`psql "$url"`).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts off all clients, writes everything, ends the server and waits for that.
    pub async fn stop(mut self) -> Result<(), Error> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        for (signal, patience) in [(Signal::SIGINT, FAST_SHUTDOWN), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN)] {
            server.postmaster.signal(signal);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if server.has_ended(&self.layout.data)? {
                    self.layout.remove_short_dir(server.postmaster.socket_dir.as_deref());
                    return Ok(());
                }
                sleep(POLL).await;
            }
        }
        Err(Error::NotStopped { pid: server.postmaster.pid, waited: FAST_SHUTDOWN + IMMEDIATE_SHUTDOWN })
    }

    /// Gives up responsibility and lets the server run on, as a crash of this process would.
    pub fn leave_running(mut self) {
        self.server = None;
    }

    async fn wait_until_ready(
        &mut self,
        socket_dir: &Path,
        deadline: Instant,
        log_from: u64,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let log = &self.layout.log;
        let socket = layout::socket(socket_dir);
        loop {
            if let Some(server) = &mut self.server
                && server.has_ended(&self.layout.data)?
            {
                self.server = None;
                return Err(Error::Died { log: log.clone(), tail: self.layout.log_tail(log_from) });
            }
            if probe::accepts_connections(&socket, USER, DATABASE).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let tail = self.layout.log_tail(log_from);
                return Err(Error::NotReady { waited: began.elapsed(), log: log.clone(), tail });
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.postmaster.signal(Signal::SIGINT);
            if let Some(mut child) = server.child {
                // Somebody has to collect its exit status, or a zombie stays behind.
                std::thread::spawn(move || child.wait());
            }
        }
    }
}

impl Server {
    fn has_ended(&mut self, data: &Path) -> Result<bool, Error> {
        if let Some(child) = &mut self.child {
            return child
                .try_wait()
                .map(|status| status.is_some())
                .map_err(at("wait for the server of", data));
        }
        // The pid file goes last. The process itself may stay as a zombie where nobody collects orphans.
        let file_names_it = Postmaster::read(data)?.is_some_and(|named| named.pid == self.postmaster.pid);
        Ok(!file_names_it || self.postmaster.life(data) != Life::Runs)
    }
}

/// One process at a time; the system lets go of the lock when that process ends, however it ends.
async fn lock(layout: &Layout, patience: Duration) -> Result<File, Error> {
    let file = owner::private_file(&layout.dir, "lock", false)?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { dir: layout.dir.clone() }),
            Err(TryLockError::Error(error)) => return Err(at("lock", &layout.dir)(error)),
        }
    }
}

/// The server whose postmaster runs in the folder, once it answers, and the folder of its socket. One that shuts down
/// is waited for and then not there.
async fn find_running(layout: &Layout, patience: Duration) -> Result<Option<(Postmaster, PathBuf)>, Error> {
    let began = Instant::now();
    loop {
        let Some(postmaster) = Postmaster::read(&layout.data)? else { return Ok(None) };
        if postmaster.life(&layout.data) != Life::Runs {
            return Ok(None);
        }
        if let (Some(socket), Some(dir)) = (postmaster.socket(), postmaster.socket_dir.clone())
            && probe::accepts_connections(&socket, USER, DATABASE).await
        {
            return Ok(Some((postmaster, dir)));
        }
        if began.elapsed() > patience {
            let (log, tail) = (layout.log.clone(), layout.log_tail(0));
            return Err(Error::NotReady { waited: began.elapsed(), log, tail });
        }
        sleep(POLL).await;
    }
}

/// PostgreSQL takes a pid file for its own when the pid lives on as any process of its user's, and refuses to start.
/// One whose process has gone altogether it clears away itself.
fn remove_stale_pid_file(data: &Path) -> Result<(), Error> {
    if Postmaster::read(data)?.is_some_and(|named| named.life(data) == Life::Reused) {
        let path = data.join("postmaster.pid");
        fs::remove_file(&path).map_err(at("remove", &path))?;
    }
    Ok(())
}

/// Sets up the data in `data.new` and renames it, so that `data` is whole or not there.
async fn initialise(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    options: &Options,
) -> Result<(), Error> {
    let unfinished = layout.dir.join("data.new");
    let mut output = String::new();
    // `C.UTF-8` sorts by code point and knows letters beyond ASCII; not every system has it.
    for locale in ["C.UTF-8", "C"] {
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))?;
        }
        owner.private_dir(&unfinished)?;
        let mut command = command(binaries, "initdb", owner, &unfinished);
        command.arg("--pgdata").arg(&unfinished);
        command.args(["--username", USER, "--auth-local", "trust", "--auth-host", "reject"]);
        command.args(["--encoding", "UTF8", "--locale", locale]);
        if options.throwaway {
            command.arg("--no-sync");
        }
        let mut command = tokio::process::Command::from(command);
        let done = command.kill_on_drop(true).output().await.map_err(at("run initdb for", &unfinished))?;
        if done.status.success() {
            return fs::rename(&unfinished, &layout.data).map_err(at("rename", &unfinished));
        }
        output = [done.stdout, done.stderr]
            .map(|text| String::from_utf8_lossy(&text).trim().to_owned())
            .join("\n");
        if !output.contains("locale") {
            break;
        }
    }
    Err(Error::InitDb { output })
}

fn spawn(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    options: &Options,
    socket_dir: &Path,
) -> Result<Server, Error> {
    let log = owner::private_file(&layout.dir, "postgres.log", true)?;
    let errors = log.try_clone().map_err(at("open", &layout.log))?;
    let mut command = command(binaries, "postgres", owner, &layout.data);
    command.arg("-D").arg(&layout.data).arg("-k").arg(socket_dir).args(["-p", &PORT.to_string()]);
    for (name, value) in options.server_settings() {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let child = command.stdout(log).stderr(errors).spawn().map_err(at("start PostgreSQL in", &layout.dir))?;
    let postmaster =
        Postmaster { pid: child.id() as i32, socket_dir: Some(socket_dir.to_owned()), port: Some(PORT) };
    Ok(Server { postmaster, child: Some(child) })
}

/// A program of PostgreSQL's, run as `owner` in the folder `dir`, out of reach of the terminal's signals and of
/// whatever the environment says about other servers.
fn command(binaries: &Binaries, program: &str, owner: &Owner, dir: &Path) -> Command {
    let mut command = Command::new(binaries.program(program));
    command
        .current_dir(dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env("LC_ALL", "C");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    if owner.delegated {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// `localhost` is only there because an address without a host is none; the parameter overrides it.
fn url(socket_dir: &Path) -> String {
    let mut host = String::new();
    for byte in socket_dir.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                host.push(char::from(*byte));
            }
            other => {
                let _ = write!(host, "%{other:02X}");
            }
        }
    }
    format!("postgres://{USER}@localhost:{PORT}/{DATABASE}?host={host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_signs_in_it_survives_the_address() {
        let options: sqlx::postgres::PgConnectOptions =
            url(Path::new("/a dir/50%&#+ü")).parse().expect("an address");
        assert_eq!(options.get_socket().map(PathBuf::as_path), Some(Path::new("/a dir/50%&#+ü")));
        assert_eq!((options.get_username(), options.get_database()), ("souk", Some("postgres")));
    }
}
