//! Where PostgreSQL's programs are: an explicit folder, else what is on the PATH, else where the packages of the
//! systems we know put them. Of several versions the newest is taken, or the one that made the data.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Error, MIN_MAJOR};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// `data_major` is the version that made the data directory, if there is one already.
    pub(crate) fn find(explicit: Option<&Path>, data: &Path, data_major: Option<u32>) -> Result<Self, Error> {
        let mut found: Vec<Self> = match explicit {
            Some(dir) => vec![Self::probe(dir).ok_or_else(|| Error::NoBinaries { dir: dir.to_owned() })?],
            None => candidates().iter().filter_map(|dir| Self::probe(dir)).collect(),
        };
        // A stable sort: among equals the PATH comes first.
        found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        let Some(wanted) = data_major else {
            return found.into_iter().next().ok_or(Error::NotInstalled);
        };
        if found.is_empty() {
            return Err(Error::NotInstalled);
        }
        let versions = found.iter().map(|binaries| binaries.major.to_string()).collect::<Vec<_>>().join(", ");
        found.into_iter().find(|binaries| binaries.major == wanted).ok_or(Error::OtherVersion {
            dir: data.to_owned(),
            data: wanted,
            found: versions,
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn major(&self) -> u32 {
        self.major
    }

    fn probe(dir: &Path) -> Option<Self> {
        if !dir.join("initdb").is_file() || !dir.join("postgres").is_file() {
            return None;
        }
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let major = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        (major >= MIN_MAJOR).then(|| Self { dir: dir.to_owned(), major })
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-1)` or `… 18beta1` → the major version.
fn parse_version(text: &str) -> Option<u32> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (parent, prefix, below) in [
        ("/usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),                  // PostgreSQL's own RPMs
        ("/usr/libexec", "postgresql", ""),         // Alpine
        ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew on ARM
        ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
        ("/usr/local/pgsql", "bin", ""), // built from source
    ] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                dirs.push(entry.path().join(below));
            }
        }
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_systems_print_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("postgres (PostgreSQL) 17.6 (Homebrew)"), Some(17));
        assert_eq!(parse_version("no such thing"), None);
    }

    #[test]
    fn the_version_that_made_the_data_is_insisted_on() {
        let found = Binaries::find(None, Path::new("/data"), None).expect("PostgreSQL is installed");
        assert!(Binaries::find(None, Path::new("/data"), Some(found.major)).is_ok());
        let error = Binaries::find(None, Path::new("/data"), Some(7)).expect_err("nobody has version 7");
        assert!(error.to_string().contains("was made by PostgreSQL 7"), "{error}");
    }

    #[test]
    fn an_explicit_folder_without_the_programs_is_refused_by_name() {
        let error =
            Binaries::find(Some(Path::new("/nowhere")), Path::new("/data"), None).expect_err("refused");
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
