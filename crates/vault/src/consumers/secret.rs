//! The secrets that webhooks are signed with. Each belongs to one consumer, is shown when it is made, and rests here
//! wrapped by the vault's key and bound to its consumer.

use base64::{Engine, engine::general_purpose::STANDARD};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Vault, VaultError,
    crypto::{Key, hmac},
    random,
};

/// As Standard Webhooks 1.0.0 writes secrets (section "Signature scheme"), so that its libraries take them as they are.
const PREFIX: &str = "whsec_";

/// 256 random bits; wiped when dropped, and shows nothing of itself in logs.
pub struct WebhookSecret(Key);

impl WebhookSecret {
    pub(super) fn generate() -> Result<Self, VaultError> {
        Ok(Self(Zeroizing::new(random::bytes()?)))
    }

    /// For the owner: `whsec_` and base64.
    pub fn as_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(*self.0)))
    }

    /// HMAC-SHA256 over the parts, one after another.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        hmac(&*self.0, parts)
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl Vault {
    pub(super) fn wrap(&self, consumer: Uuid, secret: &WebhookSecret) -> Result<Vec<u8>, VaultError> {
        self.0.wrapping.seal(&purpose(consumer), &*secret.0)
    }

    pub(super) fn unwrap_secret(&self, consumer: Uuid, wrapped: &[u8]) -> Result<WebhookSecret, VaultError> {
        let opened = self.0.wrapping.open_key(&purpose(consumer), wrapped);
        opened.map(WebhookSecret).map_err(|_| VaultError::UnreadableSecret(consumer))
    }

    /// The current one of a consumer's row; `None` without a webhook.
    pub(super) fn secret_of(&self, row: &PgRow) -> Result<Option<WebhookSecret>, VaultError> {
        let wrapped: Option<Vec<u8>> = row.try_get("wrapped_secret")?;
        wrapped.map(|wrapped| self.unwrap_secret(row.try_get("id")?, &wrapped)).transpose()
    }
}

/// Bound to the consumer: put in another one's place it does not open.
fn purpose(consumer: Uuid) -> Vec<u8> {
    [b"webhook ".as_slice(), consumer.as_bytes()].concat()
}
