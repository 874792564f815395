//! What is measured: a server that runs already, or one of our own, as a child process on a new data directory.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    config::Config,
    data_dir::{DataDir, Occupant},
    proc,
};

const PASSWORD: &str = "measured, not guessed";
const START: Duration = Duration::from_mins(1);

pub(super) struct Target {
    pub(super) url: String,
    /// None of a server that is elsewhere.
    pub(super) data: Option<DataDir>,
    pub(super) pid: Option<u32>,
    own: Option<(Child, TempDir)>,
}

/// Processor time used so far, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) souk: f64,
    pub(super) postgres: f64,
    pub(super) bench: f64,
}

impl Target {
    /// A server of our own: nothing in it, and nothing left of it.
    pub(super) async fn start() -> anyhow::Result<Self> {
        Self::start_in(Self::folder()?).await
    }

    /// A folder for a server of our own, whose data goes into `data` there.
    pub(super) fn folder() -> anyhow::Result<TempDir> {
        // Where a target folder is there is room, and no memory pretends to be a disk; root's PostgreSQL has to get in.
        let folder = tempfile::Builder::new().prefix("souk-bench-").tempdir_in(place())?;
        // Said outright: this program's umask leaves nothing to others.
        std::fs::set_permissions(folder.path(), open_to_pass())?;
        Ok(folder)
    }

    /// A server of our own on what there is.
    pub(super) async fn start_in(folder: TempDir) -> anyhow::Result<Self> {
        let data = DataDir::new(&folder.path().join("data"));
        let errors = File::create(folder.path().join("server.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .context("the server cannot be started")?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap_or_default();
                bail!("the server ended with {status}:\n{log}");
            }
            if let Some(Occupant { pid, listen: Some(listen), .. }) = data.occupant() {
                let url = format!("http://{listen}");
                return Ok(Self { url, data: Some(data), pid: Some(pid), own: Some((child, folder)) });
            }
            if began.elapsed() > START {
                bail!("the server did not get ready within {START:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A server that runs; if it is the one of the data directory, its processes are looked at.
    pub(super) fn running(url: &str, config: &Config) -> Self {
        let data = DataDir::new(&config.data_dir);
        let occupant = data.occupant().filter(|occupant| {
            occupant
                .listen
                .is_some_and(|listen| url.trim_end_matches('/').ends_with(&format!(":{}", listen.port())))
        });
        Self {
            url: url.to_owned(),
            data: occupant.is_some().then_some(data),
            pid: occupant.map(|occupant| occupant.pid),
            own: None,
        }
    }

    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// An analyst's account, made beside the server.
    pub(super) async fn analyst(&self) -> anyhow::Result<(String, String)> {
        let Some(data) = &self.data else {
            bail!(
                "--analyst-email and --analyst-password are needed for a server that is not on this --data-dir"
            );
        };
        let email = format!(
            "analyst-{}@bench.example",
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, stamp().as_bytes())
        );
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .args(["account", "create", "--role", "analyst", "--email", &email, "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            use tokio::io::AsyncWriteExt;
            input.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        }
        let done = child.wait_with_output().await?;
        if !done.status.success() {
            bail!("no analyst's account: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok((email, PASSWORD.to_owned()))
    }

    pub(super) fn cpu(&self) -> Cpu {
        let seconds = |pid| proc::Usage::of(pid).map_or(0.0, |usage| usage.cpu_seconds);
        let postmaster = self.data.as_ref().and_then(|data| proc::postmaster(&data.postgres().join("data")));
        Cpu {
            souk: self.pid.map_or(0.0, seconds),
            postgres: postmaster.map_or(0.0, proc::family_cpu_seconds),
            bench: seconds(std::process::id()),
        }
    }

    pub(super) fn peak_memory(&self) -> Option<u64> {
        proc::Usage::of(self.pid?).map(|usage| usage.peak_resident_bytes)
    }

    /// Ends a server of our own, and waits for that.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.end().await.map(drop)
    }

    /// The same, and its folder is left to start in again.
    pub(super) async fn stop_and_keep(mut self) -> anyhow::Result<TempDir> {
        self.end().await?.context("this server is none of our own")
    }

    async fn end(&mut self) -> anyhow::Result<Option<TempDir>> {
        let Some((mut child, folder)) = self.own.take() else { return Ok(None) };
        nix::sys::signal::kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
        let status = tokio::task::spawn_blocking(move || child.wait()).await??;
        if !status.success() {
            let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap_or_default();
            bail!("the server ended with {status}:\n{log}");
        }
        Ok(Some(folder))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            // Only after a failure: `stop` takes it out.
            let _ = nix::sys::signal::kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

pub(super) fn place() -> PathBuf {
    let kept = Path::new("/var/tmp");
    if kept.is_dir() { kept.to_owned() } else { std::env::temp_dir() }
}

fn open_to_pass() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o711)
}

/// Different for each run.
fn stamp() -> String {
    format!("{} {}", std::process::id(), crate::wiring::now())
}
