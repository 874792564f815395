//! The postmaster, PostgreSQL's main process, as seen from outside: what its pid file says, whether it still runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::error::{Error, at};

/// What `postmaster.pid` says (its lines: pid, data directory, start time, port, socket directory, …). Port and socket
/// are written a moment after the pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Postmaster {
    pub(crate) pid: i32,
    pub(crate) socket_dir: Option<PathBuf>,
    pub(crate) port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs in this data directory, as far as one can see.
    Runs,
    /// No such process.
    Gone,
    /// The pid belongs to a process that is certainly not ours, or to the rest of a dead one.
    Reused,
}

impl Postmaster {
    /// `None` when there is no pid file, or none that makes sense.
    pub(crate) fn read(data: &Path) -> Result<Option<Self>, Error> {
        let path = data.join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        // A standalone backend writes its pid negated: nothing to attach to.
        let pid = lines.first()?.parse().ok().filter(|pid| *pid > 0)?;
        let port = lines.get(3).and_then(|line| line.parse().ok());
        let socket_dir = lines.get(4).filter(|line| line.starts_with('/')).map(PathBuf::from);
        Some(Self { pid, socket_dir, port })
    }

    pub(crate) fn socket(&self) -> Option<PathBuf> {
        Some(self.socket_dir.as_ref()?.join(format!(".s.PGSQL.{}", self.port?)))
    }

    /// Pids are given out again, above all in containers: on Linux the working directory of the process, which is the
    /// data directory for as long as a postmaster lives, tells one from the other.
    pub(crate) fn life(&self, data: &Path) -> Life {
        match kill(Pid::from_raw(self.pid), None) {
            Err(Errno::ESRCH) => return Life::Gone,
            // A process of another user's: not the one of this data directory, whose owner we are or act for.
            Err(_) => return Life::Reused,
            Ok(()) => {}
        }
        if !Path::new("/proc/self/cwd").exists() {
            return Life::Runs;
        }
        match fs::read_link(format!("/proc/{}/cwd", self.pid)) {
            Ok(folder) if data.canonicalize().is_ok_and(|data| data == folder) => Life::Runs,
            // A zombie has no working directory.
            Ok(_) => Life::Reused,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Life::Reused,
            Err(_) => Life::Runs,
        }
    }

    /// SIGINT is a fast shutdown (clients are cut off, all is written), SIGQUIT an immediate one (as after a crash).
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = kill(Pid::from_raw(self.pid), signal) {
            tracing::debug!(pid = self.pid, %error, "PostgreSQL could not be signalled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_whole_or_half_written() {
        let whole = "4711\n/data\n1700000000\n5432\n/run/souk\n\n  5432001  65536\nready   \n";
        let read = Postmaster::parse(whole).expect("a postmaster");
        assert_eq!(read.socket(), Some(PathBuf::from("/run/souk/.s.PGSQL.5432")));
        let half = Postmaster::parse("4711\n/data\n1700000000\n").expect("a postmaster");
        assert_eq!((half.pid, half.socket()), (4711, None));
        assert_eq!(Postmaster::parse(""), None);
        assert_eq!(Postmaster::parse("-12\n"), None);
    }

    #[test]
    fn a_pid_that_went_to_somebody_else_is_not_taken_for_the_postmaster() {
        let me = Postmaster { pid: std::process::id() as i32, socket_dir: None, port: None };
        assert_eq!(me.life(&std::env::current_dir().expect("a folder")), Life::Runs);
        if cfg!(target_os = "linux") {
            assert_eq!(me.life(Path::new("/somewhere/else")), Life::Reused);
        }
    }
}
