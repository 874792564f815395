//! Password hashing: Argon2id with the parameters that OWASP's Password Storage Cheat Sheet recommends, off the async
//! threads, and never more at once than there are cores, so that a wave of logins starves nobody else.

use std::{sync::Arc, thread::available_parallelism};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{Error as HashError, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use zeroize::Zeroizing;

use crate::{VaultError, random};

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// No password has this hash; checking against it takes as long as against any other.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(crate) struct Passwords {
    cores: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { cores: Arc::new(Semaphore::new(cores)) }
    }

    /// In the format of the Password Hashing Competition (`$argon2id$…`), parameters and salt included.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, VaultError> {
        let password = Zeroizing::new(password.to_owned());
        self.work(move || {
            let salt: [u8; 16] = random::bytes()?;
            let hash: Result<PasswordHash, HashError> =
                argon2()?.hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(failed)
        })
        .await
    }

    /// Without a hash to check against it is false, after the same time.
    pub(crate) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, VaultError> {
        let password = Zeroizing::new(password.to_owned());
        self.work(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODYS);
            // The parameters are the hash's own.
            match argon2()?.verify_password(password.as_bytes(), hash) {
                Ok(()) => Ok(known),
                Err(HashError::PasswordInvalid) => Ok(false),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// The permit stays with the work, not with whoever waits for it: a caller that goes away frees no core.
    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let permit = self
            .cores
            .clone()
            .acquire_owned()
            .await
            .map_err(|error| VaultError::Password(error.to_string()))?;
        let done = spawn_blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        done.await.map_err(|error| VaultError::Password(error.to_string()))?
    }
}

fn argon2() -> Result<Argon2<'static>, VaultError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| VaultError::Password(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: HashError) -> VaultError {
    VaultError::Password(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse").await.expect("hashed");
        assert_ne!(hash, passwords.hash("correct horse").await.expect("hashed"));
        assert!(passwords.verify("correct horse", Some(hash.clone())).await.expect("checked"));
        assert!(!passwords.verify("battery staple", Some(hash)).await.expect("checked"));
        assert!(!passwords.verify("correct horse", None).await.expect("checked"));
    }

    /// Or an unknown address would answer sooner, or later, than a known one.
    #[tokio::test]
    async fn nobodys_hash_costs_what_a_real_one_costs() {
        let real = Passwords::new().hash("x").await.expect("hashed");
        let parameters = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parameters(NOBODYS), parameters(&real));
        assert_eq!(NOBODYS.len(), real.len());
    }
}
