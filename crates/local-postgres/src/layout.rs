//! What lies where in the folder that a private PostgreSQL is given:
//!
//! ```text
//! postgres/              the caller's folder: belongs to whoever made it
//!   lock                 held (flock) by the process that is responsible for the server
//!   postgres.log         what the server prints; one older one beside it
//!   data/                PostgreSQL's own
//!   run/                 its socket: mode 0700, so only its owner (and root) can connect
//! ```

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use crate::{
    error::{Error, at},
    owner::Owner,
};

pub(crate) const PORT: u16 = 5432;
/// A socket's path has room for 107 bytes on Linux and 103 on macOS.
const LONGEST_SOCKET: usize = 100;
const LARGEST_LOG: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
}

impl Layout {
    /// `None` when the folder does not exist.
    pub(crate) fn existing(dir: &Path) -> Result<Option<Self>, Error> {
        match dir.canonicalize() {
            Ok(dir) => Ok(Some(Self::of(dir))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("look at", dir)(error)),
        }
    }

    pub(crate) fn create(dir: &Path) -> Result<Self, Error> {
        if let Some(layout) = Self::existing(dir)? {
            return Ok(layout);
        }
        fs::create_dir_all(dir).map_err(at("create", dir))?;
        // Root's server runs as somebody else, who has to pass through.
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", dir))?;
        dir.canonicalize().map(Self::of).map_err(at("look at", dir))
    }

    fn of(dir: PathBuf) -> Self {
        Self { data: dir.join("data"), log: dir.join("postgres.log"), dir }
    }

    /// The major version that made the data, or `None` before there is any.
    pub(crate) fn data_major(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// An empty folder for the socket: `run/`, or a short one where that is too long for a socket's path. What a dead
    /// server left in it is cleared away, since its lock file names a pid that may be somebody else's by now.
    pub(crate) fn socket_dir(&self, owner: &Owner) -> Result<PathBuf, Error> {
        let inside = self.dir.join("run");
        let socket_dir =
            if socket(&inside).as_os_str().len() <= LONGEST_SOCKET { inside } else { self.short_dir(owner) };
        owner.private_dir(&socket_dir)?;
        if !owner.owns_privately(&socket_dir) {
            return Err(Error::UnsafeSocketDir { dir: socket_dir });
        }
        for leftover in [socket(&socket_dir), socket_dir.join(format!(".s.PGSQL.{PORT}.lock"))] {
            match fs::remove_file(&leftover) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at("remove", &leftover)(error));
                }
                _ => {}
            }
        }
        Ok(socket_dir)
    }

    fn short_dir(&self, owner: &Owner) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (&self.dir, owner.uid).hash(&mut hasher);
        PathBuf::from(format!("/tmp/souk-pg-{:016x}", hasher.finish()))
    }

    /// After the server has ended; what is inside the caller's folder stays.
    pub(crate) fn remove_short_dir(&self, socket_dir: Option<&Path>) {
        if let Some(dir) = socket_dir.filter(|dir| !dir.starts_with(&self.dir))
            && let Err(error) = fs::remove_dir(dir)
        {
            tracing::debug!(dir = %dir.display(), %error, "the folder of the socket stays");
        }
    }

    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |meta| meta.len())
    }

    pub(crate) fn rotate_log(&self) -> Result<(), Error> {
        if self.log_length() > LARGEST_LOG {
            fs::rename(&self.log, self.dir.join("postgres.log.1")).map_err(at("rotate", &self.log))?;
        }
        Ok(())
    }

    /// The end of what was logged after byte `from`, for an error message.
    pub(crate) fn log_tail(&self, from: u64) -> String {
        let read = || {
            let mut file = fs::File::open(&self.log)?;
            file.seek(SeekFrom::Start(from.max(self.log_length().saturating_sub(4096))))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail).map(|_| tail)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_owned()
    }
}

pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}
