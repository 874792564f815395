//! What can go wrong between here and a PostgreSQL that answers; each message says what to do about it.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "PostgreSQL is not installed here, or not where it was looked for (PATH, /usr/lib/postgresql, /usr/pgsql-*, \
         Homebrew). Install it (Debian, Ubuntu: `apt-get install postgresql`; Fedora, RHEL: `dnf install \
         postgresql-server`; Alpine: `apk add postgresql`; macOS: `brew install postgresql@17`), name the folder of \
         its programs in SOUK_POSTGRES_BIN_DIR, or give the address of a running server"
    )]
    NotInstalled,
    #[error("{} holds no usable `postgres` and `initdb` (version {MIN_MAJOR} or newer)", dir.display())]
    NoBinaries { dir: PathBuf },
    #[error(
        "{} was made by PostgreSQL {data}, but only {found} is installed here: install PostgreSQL {data}, or carry the \
         data over with pg_upgrade", dir.display()
    )]
    OtherVersion { dir: PathBuf, data: u32, found: String },
    #[error("another process runs a PostgreSQL in {}: stop it first, or attach to it", dir.display())]
    InUse { dir: PathBuf },
    #[error(
        "PostgreSQL refuses to run as root and so runs as `{user}`, who cannot enter {}: let others pass with \
         `chmod o+x {}`, choose a data directory elsewhere (such as /var/lib/souk), or start as an ordinary user",
        path.display(), path.display()
    )]
    NotTraversable { path: PathBuf, user: String },
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `{0}` here to run it as: create one, or name another"
    )]
    NoSuchUser(String),
    #[error(
        "{} belongs to the user {owner}, and this process runs as {here}: PostgreSQL has to run as the owner of its data",
        dir.display()
    )]
    OtherOwner { dir: PathBuf, owner: String, here: String },
    #[error("{} has to be a folder of its own, mode 0700, that nobody else can enter", dir.display())]
    UnsafeSocketDir { dir: PathBuf },
    #[error("initdb failed: {output}")]
    InitDb { output: String },
    #[error("PostgreSQL ended while it was starting. The end of its log, {}:\n{tail}", log.display())]
    Died { log: PathBuf, tail: String },
    #[error("PostgreSQL did not answer within {waited:?}. The end of its log, {}:\n{tail}", log.display())]
    NotReady { waited: Duration, log: PathBuf, tail: String },
    #[error("PostgreSQL (process {pid}) did not end within {waited:?}")]
    NotStopped { pid: i32, waited: Duration },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

/// What Souk's SQL is tested against begins here; older servers are passed over.
pub(crate) const MIN_MAJOR: u32 = 13;

/// `.map_err(at("open", path))`: an I/O error that names what it happened to.
pub(crate) fn at(doing: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("cannot {doing} {}", path.display());
    move |source| Error::Io { what, source }
}
