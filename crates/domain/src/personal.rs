//! Personal data as the log holds it: ciphertext under a key of the person it is about.

use serde::{Deserialize, Serialize};

use crate::AccountId;

/// Sealed outside the domain; forgetting the subject's key makes it unreadable for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub subject: AccountId,
    /// Base64 (unpadded, URL-safe) of nonce and ciphertext.
    pub sealed: String,
}
