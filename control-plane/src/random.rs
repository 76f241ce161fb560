//! Random ids and secrets, from the operating system.

use sandgate_policy::ids::{SANDBOX_ID_LENGTH, SandboxId};
use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// The largest multiple of 36 that fits into a byte. Bytes from here on are discarded, because `% 36` would
/// otherwise favour the first characters.
const UNBIASED: u8 = 252;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// `length` characters of `[a-z0-9]`.
///
/// # Errors
/// [`NoRandomness`] if the operating system gives no random bytes.
pub fn id(length: usize) -> Result<String, NoRandomness> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 32];
    while text.len() < length {
        getrandom::fill(&mut bytes)?;
        let letters = bytes.iter().filter(|byte| **byte < UNBIASED);
        let letters = letters.filter_map(|byte| ALPHABET.get(usize::from(*byte % 36)));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

/// A new sandbox id.
///
/// # Errors
/// [`NoRandomness`] if the operating system gives no random bytes.
pub fn sandbox_id() -> Result<SandboxId, NoRandomness> {
    loop {
        // The alphabet of ids is that of sandbox ids, so the first attempt succeeds.
        if let Ok(id) = SandboxId::try_from(id(SANDBOX_ID_LENGTH)?) {
            return Ok(id);
        }
    }
}

/// `count` random bytes.
///
/// # Errors
/// [`NoRandomness`] if the operating system gives no random bytes.
pub(crate) fn bytes(count: usize) -> Result<Vec<u8>, NoRandomness> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// An id with a prefix for people: `prefix_` and 16 characters.
///
/// # Errors
/// [`NoRandomness`] if the operating system gives no random bytes.
pub fn prefixed_id(prefix: &str) -> Result<String, NoRandomness> {
    Ok(format!("{prefix}_{}", id(16)?))
}

/// A new secret. It is shown once, and only its hash is stored. Has no `Debug`.
pub struct NewSecret(String);

impl NewSecret {
    /// `prefix` and 32 random bytes in hexadecimal.
    ///
    /// # Errors
    /// [`NoRandomness`] if the operating system gives no random bytes.
    pub fn generate(prefix: &str) -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{prefix}{}", hex(&bytes))))
    }

    /// The secret, to show it to the person who requested it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash that is stored.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

/// The SHA-256 of a secret. Secrets have 256 random bits, so a slow password hash would add no security.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_requested_length_and_only_letters_and_digits() {
        for length in [1, 16, 21, 100] {
            let id = id(length).unwrap();
            assert_eq!(id.len(), length);
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{id}");
        }
    }

    #[test]
    fn secrets_have_32_random_bytes_and_never_repeat() {
        let (one, two) = (NewSecret::generate("tl_").unwrap(), NewSecret::generate("tl_").unwrap());
        assert_eq!(one.reveal().len(), 3 + 64);
        assert!(one.reveal() != two.reveal());
        assert_eq!(one.hash(), SecretHash::of(one.reveal()));
    }

    #[test]
    fn the_hash_is_plain_sha_256() {
        assert_eq!(
            hex(SecretHash::of("abc").as_bytes()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
