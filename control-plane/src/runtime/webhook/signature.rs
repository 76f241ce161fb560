//! The signature of calls between the control plane and the operator's platform.
//!
//! `X-Sandgate-Signature: v1=<hex>`, where `<hex>` is HMAC-SHA256 with the shared secret over the
//! value of `X-Sandgate-Timestamp`, a full stop, and the body as it was sent. A receiver compares
//! in constant time and refuses old timestamps.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::random::hex;

/// The least characters of a secret: half of what the hash can use.
const MIN_LENGTH: usize = 16;

/// The secret that the control plane shares with the operator's platform. Has no `Debug`.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// The secret is too short.
#[derive(Debug, thiserror::Error)]
#[error(
    "the webhook secret must have at least {MIN_LENGTH} characters; make one with `openssl rand -hex 32`"
)]
pub struct InvalidSecret;

impl SigningKey {
    /// Parses the text of a secret file. White space around the secret is ignored.
    ///
    /// # Errors
    /// [`InvalidSecret`]
    pub fn new(text: &str) -> Result<Self, InvalidSecret> {
        let secret = text.trim();
        if secret.len() < MIN_LENGTH {
            return Err(InvalidSecret);
        }
        Hmac::new_from_slice(secret.as_bytes()).map(Self).map_err(|_| InvalidSecret)
    }

    /// Returns the signature of a call.
    #[must_use]
    pub fn sign(&self, timestamp: u64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1={}", hex(&mac.finalize().into_bytes()))
    }

    /// Whether `signature` is the signature of a call. The comparison takes constant time.
    #[must_use]
    pub fn verifies(&self, timestamp: u64, body: &[u8], signature: &str) -> bool {
        self.sign(timestamp, body).as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha_256_of_timestamp_dot_body() {
        // Computed with `printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
        let key = SigningKey::new("0123456789abcdef\n").unwrap();
        assert_eq!(
            key.sign(1_700_000_000, b"{}"),
            "v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e"
        );
    }

    #[test]
    fn the_signature_depends_on_timestamp_and_body() {
        let key = SigningKey::new("0123456789abcdef").unwrap();
        assert_ne!(key.sign(1, b"{}"), key.sign(2, b"{}"));
        assert_ne!(key.sign(1, b"{}"), key.sign(1, b"{ }"));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(SigningKey::new("  0123456789abcde  ").is_err());
    }
}
