//! The data directory: what lies where in it, and who works in it. One process at a time starts things there (`souk
//! serve`, or an import while no server runs); others attach to what it started.
//!
//! ```text
//! events.sqlite       the event log: the truth
//! postgres/           the private PostgreSQL; its schema `vault` is the other thing to keep
//! master.key          the key over the vault's keys, unless it is configured
//! bank.sqlite         the sandbox of payments and shipping
//! search/             the search index          ┐
//! snapshots.sqlite    states of long streams    ├ may be deleted: they are built again
//! checkouts.json      checkouts in flight       │
//! bookkeeper.json     what is not booked yet    │
//! returns.json        returns not completed yet ┘
//! lock                who works here
//! events.sqlite.unfinished   what a restore is at, or was at when it was interrupted
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::backup::RESTORE;

#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

/// Who works in the data directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Occupant {
    pub(crate) pid: u32,
    /// `souk serve`, `souk import catalog`, …
    pub(crate) command: String,
    /// What it does all the time.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    /// Set once it answers.
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    #[serde(default)]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// Held for as long as this process is the one that starts things. The system lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

pub(crate) enum Entry {
    /// Nobody else is here.
    Alone(Lock),
    Beside(Occupant),
}

impl DataDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("events.sqlite")
    }

    pub(crate) fn bank(&self) -> PathBuf {
        self.0.join("bank.sqlite")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots.sqlite")
    }

    pub(crate) fn checkouts(&self) -> PathBuf {
        self.0.join("checkouts.json")
    }

    pub(crate) fn search(&self) -> PathBuf {
        self.0.join("search")
    }

    pub(crate) fn recommendations(&self) -> PathBuf {
        self.0.join("recommendations")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    /// The log while it is being restored: as long as this is here, the directory is not whole.
    pub(crate) fn unfinished_log(&self) -> PathBuf {
        self.0.join("events.sqlite.unfinished")
    }

    /// Makes sure that nothing is here that a restore would write over, and clears away what one that was interrupted left.
    /// Says whether there was such a one.
    pub(crate) fn clear_for_restore(&self) -> anyhow::Result<bool> {
        let interrupted = self.unfinished_log().exists();
        let ours = [self.unfinished_log(), self.bank(), self.postgres()];
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let expected = path == self.master_key() || path == self.lock();
            if !(expected || interrupted && ours.contains(&path)) {
                bail!(
                    "{} is in the way: a restore needs an empty --data-dir (but for master.key)",
                    path.display()
                );
            }
        }
        for file in [self.bank(), self.unfinished_log()] {
            if let Err(error) = fs::remove_file(&file)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| file.display().to_string());
            }
        }
        Ok(interrupted)
    }

    /// Gives the restored log its name.
    pub(crate) fn finish_restore(&self) -> anyhow::Result<()> {
        fs::rename(self.unfinished_log(), self.log())?;
        Ok(File::open(&self.0)?.sync_all()?)
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the folder if need be. Root's PostgreSQL runs as somebody else, who has to pass through, but cannot look.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.0).with_context(|| format!("--data-dir {}", self.0.display()))?;
        let mode = if nix::unistd::Uid::effective().is_root() { 0o711 } else { 0o700 };
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Enters to work here, alone or beside whoever is here already.
    pub(crate) fn enter(&self, occupant: &Occupant) -> anyhow::Result<Entry> {
        self.create()?;
        if occupant.command != RESTORE && self.unfinished_log().exists() {
            bail!(
                "a restore is at work in {}, or was interrupted: run `souk restore` again",
                self.0.display()
            );
        }
        let path = self.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => {
                let mut lock = Lock { file };
                lock.write(occupant)?;
                Ok(Entry::Alone(lock))
            }
            Err(TryLockError::WouldBlock) => {
                // Whoever holds the lock may be just about to say who it is.
                for _ in 0..50 {
                    if let Some(other) = read(&mut file) {
                        return Ok(Entry::Beside(other));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                bail!("{} is in use by another process that does not say who it is", self.0.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Enters alone, or says who is in the way.
    pub(crate) fn enter_alone(&self, occupant: &Occupant) -> anyhow::Result<Lock> {
        match self.enter(occupant)? {
            Entry::Alone(lock) => Ok(lock),
            Entry::Beside(other) => bail!(
                "the data directory {} is in use by `{}` (process {}): stop it first, or name another --data-dir",
                self.0.display(),
                other.command,
                other.pid
            ),
        }
    }

    /// Who works here now, if anybody does.
    pub(crate) fn occupant(&self) -> Option<Occupant> {
        let mut file = File::open(self.lock()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read(&mut file),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// The key that the vault's keys are wrapped in; made at the first start, readable for its owner alone.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }
}

impl Occupant {
    pub(crate) fn new(command: &str) -> Self {
        Self {
            pid: std::process::id(),
            command: command.to_owned(),
            roles: Vec::new(),
            listen: None,
            metrics_listen: None,
        }
    }

    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

impl Lock {
    /// Says who is here, for those who come beside.
    pub(crate) fn write(&mut self, occupant: &Occupant) -> anyhow::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        serde_json::to_writer(&self.file, occupant)?;
        Ok(())
    }
}

fn read(file: &mut File) -> Option<Occupant> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_is_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(&folder.path().join("data"));
        assert!(data.occupant().is_none());
        let lock = data.enter_alone(&Occupant::new("souk serve")).expect("nobody is there");
        let Entry::Beside(other) = data.enter(&Occupant::new("souk import catalog")).expect("entered") else {
            panic!("two are alone")
        };
        assert_eq!((other.command.as_str(), other.pid), ("souk serve", std::process::id()));
        let error = data.enter_alone(&Occupant::new("souk serve")).expect_err("in use").to_string();
        assert!(error.contains("souk serve") && error.contains("--data-dir"), "{error}");
        drop(lock);
        assert!(data.occupant().is_none());
        data.enter_alone(&Occupant::new("souk serve")).expect("free again");
    }
}
