//! The master key: 32 bytes that are never in the database, from the configuration or from a file of its own. It wraps
//! every other key, and the keyed hashes are made under keys derived from it. **Without it the vault cannot be opened:
//! whoever backs up the database has to back it up too, in another place.**

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::{
    crypto::{Cipher, Key, hmac},
    random,
};

/// Wiped when dropped; shows nothing of itself.
#[derive(Clone)]
pub struct MasterKey(Key);

#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error(
        "a master key is 32 random bytes as 64 hexadecimal digits or as base64 (try: `openssl rand -hex 32`)"
    )]
    Malformed,
    #[error("the master key in {}: {source}", path.display())]
    MalformedFile { path: PathBuf, source: Box<Self> },
    #[error("the master key in {} can be read by others: `chmod 600 {}`", path.display(), path.display())]
    Exposed { path: PathBuf },
    #[error("the master key in {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Randomness(#[from] random::NoRandomness),
}

impl MasterKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the key of a file with mode 0600, and makes the file first if there is none. Of several processes that
    /// make it at once one wins, and all get its key.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let unfinished = path.with_extension(hex(&random::bytes::<8>()?));
        let text = Zeroizing::new(hex(&*Zeroizing::new(random::bytes::<32>()?)));
        Self::store(path, &unfinished, &text)
            .map_err(|source| MasterKeyError::Io { path: path.to_owned(), source })?;
        tracing::warn!(path = %path.display(), "made a master key: back this file up, without it personal data is lost");
        Self::load(path)?.ok_or_else(|| MasterKeyError::Io {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    pub(crate) fn derive(&self, purpose: &str) -> Key {
        Zeroizing::new(hmac(&*self.0, &[b"souk vault 1\0", purpose.as_bytes()]))
    }

    /// What every other key is wrapped in.
    pub(crate) fn wrapping(&self) -> Cipher {
        Cipher::new(&self.derive("wrap"))
    }

    /// `None` if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, MasterKeyError> {
        let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if fs::metadata(path).map_err(failed)?.permissions().mode().trailing_zeros() < 6 {
            return Err(MasterKeyError::Exposed { path: path.to_owned() });
        }
        let malformed =
            |source| MasterKeyError::MalformedFile { path: path.to_owned(), source: Box::new(source) };
        text.parse().map(Some).map_err(malformed)
    }

    /// Whole or not at all, on disk before it is used, and never over another's: written under another name, then
    /// linked, which fails where the name is taken.
    fn store(path: &Path, unfinished: &Path, text: &str) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(unfinished)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        let linked = fs::hard_link(unfinished, path);
        fs::remove_file(unfinished)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::File::open(folder)?.sync_all(),
        }
    }
}

impl FromStr for MasterKey {
    type Err = MasterKeyError;

    fn from_str(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes = if text.len() == 64 {
            unhex(text)
        } else {
            let engines = [STANDARD, URL_SAFE].map(|alphabet| GeneralPurpose::new(&alphabet, lenient));
            engines.iter().find_map(|engine| engine.decode(text).ok())
        };
        let bytes = Zeroizing::new(bytes.ok_or(MasterKeyError::Malformed)?);
        bytes.as_slice().try_into().map(Self::new).map_err(|_| MasterKeyError::Malformed)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    Some(digits.as_chunks().0.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_and_base64_are_read_and_nothing_else() {
        let key = MasterKey::new([0xfb; 32]);
        let hexadecimal = "fb".repeat(32);
        for text in [
            hexadecimal.as_str(),
            &hexadecimal.to_uppercase(),
            "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=",
            "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s",
            " -_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\n",
        ] {
            assert_eq!(text.parse::<MasterKey>().expect(text).0, key.0);
        }
        for text in ["", "secret", &hexadecimal[..62], &format!("{}zz", &hexadecimal[..62])] {
            assert!(text.parse::<MasterKey>().is_err(), "{text}");
        }
        assert_eq!(format!("{key:?}"), "MasterKey");
    }

    #[test]
    fn the_file_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| MasterKey::load_or_create(&path))).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined").expect("a key")).collect()
        });
        assert!(keys.iter().all(|key| key.0 == keys[0].0));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let error = MasterKey::load_or_create(&path).expect_err("exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
