//! Sealing and keyed hashes: XChaCha20-Poly1305 (its nonce of 192 bits may be random, however many there are under one
//! key) and HMAC-SHA256. Relies on the RustCrypto implementations.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{VaultError, random};

const NONCE: usize = 24;

pub(crate) type Key = Zeroizing<[u8; 32]>;

/// A key ready for use; wiped when dropped.
pub(crate) struct Cipher(XChaCha20Poly1305);

/// The ciphertext was made under another key or for another purpose, or was altered.
#[derive(Debug)]
pub(crate) struct NotAuthentic;

impl Cipher {
    pub(crate) fn new(key: &Key) -> Self {
        Self(XChaCha20Poly1305::new((&**key).into()))
    }

    /// Nonce and ciphertext. `purpose` is not in it, but has to be the same to open it.
    pub(crate) fn seal(&self, purpose: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE] = random::bytes()?;
        let sealed = self.0.encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: purpose });
        // Fails only for a plaintext beyond 256 GiB.
        let sealed = sealed.map_err(|_| VaultError::TooLong)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(crate) fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotAuthentic> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>().ok_or(NotAuthentic)?;
        let payload = Payload { msg: ciphertext, aad: purpose };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| NotAuthentic)
    }

    pub(crate) fn open_key(&self, purpose: &[u8], sealed: &[u8]) -> Result<Key, NotAuthentic> {
        let opened = Zeroizing::new(self.open(purpose, sealed)?);
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| NotAuthentic)
    }
}

/// HMAC-SHA256 over the parts, one after another: all but the last must have a fixed length or end in a separator.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail; a zero key would be a wrong answer, not a weak one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(byte: u8) -> Cipher {
        Cipher::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_and_purpose_alone() {
        let sealed = cipher(1).seal(b"purpose", b"plaintext").expect("sealed");
        assert_eq!(cipher(1).open(b"purpose", &sealed).expect("opened"), b"plaintext");
        assert!(cipher(2).open(b"purpose", &sealed).is_err());
        assert!(cipher(1).open(b"another", &sealed).is_err());
        let mut altered = sealed.clone();
        *altered.last_mut().expect("a tag") ^= 1;
        assert!(cipher(1).open(b"purpose", &altered).is_err());
        assert!(cipher(1).open(b"purpose", &sealed[..10]).is_err());
    }

    #[test]
    fn the_same_plaintext_never_looks_the_same() {
        let seal = || cipher(1).seal(b"", b"plaintext").expect("sealed");
        assert_ne!(seal(), seal());
    }

    /// Test case 2 of RFC 4231.
    #[test]
    fn hmac_is_the_one_of_the_standard() {
        let mac = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
    }
}
