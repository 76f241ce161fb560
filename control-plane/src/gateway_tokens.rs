//! The tokens of gateways, and, in another file, those of operators. Each file has one or two tokens. With two tokens, one can
//! replace the other without an outage.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sandgate_xds::token_file;
pub use sandgate_xds::token_file::InvalidTokens;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::model::SandboxId;
use crate::random::hex;

/// The interval at which the file is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Why a file has no usable tokens.
#[derive(Debug, thiserror::Error)]
pub enum UnusableTokens {
    #[error(transparent)]
    Invalid(#[from] InvalidTokens),
    /// A token is also one of the tokens that open less.
    #[error(
        "the token file {0} has a token of the gateway token file, which is not valid here: each edge has it; make another one with `openssl rand -hex 32 > {0}`"
    )]
    Shared(PathBuf),
}

type Hash = [u8; 32];

/// The hashes of the tokens in a file. Has no `Debug`, because it is secret.
#[derive(Clone)]
pub struct Tokens {
    hashes: Arc<RwLock<Vec<Hash>>>,
    /// Tokens that are not valid, whatever the file has.
    excluded: Option<Arc<Self>>,
}

impl Tokens {
    /// Reads a file with a token on each line. Empty lines and lines that start with `#` are ignored.
    ///
    /// # Errors
    /// [`InvalidTokens`] says what is wrong with the file.
    pub fn from_file(path: &Path) -> Result<Self, InvalidTokens> {
        Ok(Self { hashes: Arc::new(RwLock::new(read(path)?)), excluded: None })
    }

    /// As [`Self::from_file`], for tokens that open more than `others`. A token of `others` is never valid as one of these, even if
    /// it becomes one of `others` later.
    ///
    /// # Errors
    /// As there, and [`UnusableTokens::Shared`].
    pub fn from_file_without(path: &Path, others: &Self) -> Result<Self, UnusableTokens> {
        let tokens = Self { excluded: Some(Arc::new(others.clone())), ..Self::from_file(path)? };
        tokens.check(path, &tokens.all())?;
        Ok(tokens)
    }

    fn check(&self, path: &Path, hashes: &[Hash]) -> Result<(), UnusableTokens> {
        let is_excluded = |hash| self.excluded.as_ref().is_some_and(|others| others.has(hash));
        if hashes.iter().any(is_excluded) {
            return Err(UnusableTokens::Shared(path.to_owned()));
        }
        Ok(())
    }

    fn all(&self) -> Vec<Hash> {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time does not depend on the hash.
    fn has(&self, hash: &Hash) -> bool {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().fold(Choice::from(0), |found, it| found | it.ct_eq(hash)).into()
    }

    /// Whether `token` is one of the tokens. The time does not depend on the token.
    #[must_use]
    pub fn accepts(&self, token: &[u8]) -> bool {
        let hash: Hash = Sha256::digest(token).into();
        let is_excluded = self.excluded.as_ref().is_some_and(|others| others.has(&hash));
        self.has(&hash) & !is_excluded
    }

    /// The number of tokens in the file.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The valid [`sidecar_tokens`] of a sandbox.
    #[must_use]
    pub fn for_sidecar(&self, sandbox: &SandboxId) -> Vec<String> {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().map(|hash| derive(hash, sandbox.as_str())).collect()
    }

    /// Whether `token` is a gateway token, or one of the [`sidecar_tokens`] of `sandbox`.
    #[must_use]
    pub fn accepts_for_sandbox(&self, token: &[u8], sandbox: &str) -> bool {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        let good = hashes.iter().map(|hash| derive(hash, sandbox));
        let found = good.fold(Choice::from(0), |found, good| found | good.as_bytes().ct_eq(token));
        bool::from(found) || self.accepts(token)
    }
}

/// The prefix of sidecar tokens.
const SIDECAR_PREFIX: &str = "sgs_";

/// The sidecar tokens of a sandbox, one for each gateway token of a file. Each gives access to the network policy of that
/// sandbox only, as long as its gateway token is in the file.
///
/// # Errors
/// [`InvalidTokens`] says what is wrong with the file.
pub fn sidecar_tokens(file: &Path, sandbox: &SandboxId) -> Result<Vec<String>, InvalidTokens> {
    Ok(read(file)?.iter().map(|hash| derive(hash, sandbox.as_str())).collect())
}

/// A keyed hash of the id of the sandbox. A holder of one token can compute neither the token of another sandbox nor
/// the key.
fn derive(gateway_token_hash: &Hash, sandbox: &str) -> String {
    // A key that is shorter than a block is padded with zeros (RFC 2104, section 2).
    let mut key = [0; 64];
    key.iter_mut().zip(gateway_token_hash).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&key).into());
    mac.update(b"sandgate sidecar token v1\n");
    mac.update(sandbox.as_bytes());
    format!("{SIDECAR_PREFIX}{}", hex(&mac.finalize().into_bytes()))
}

/// Reloads the tokens whenever the file changes. An invalid file changes nothing. `kind` is the kind of the tokens for the log.
pub async fn follow_file(tokens: Tokens, path: PathBuf, kind: &'static str) {
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    let mut has_logged_error = false;
    loop {
        tick.tick().await;
        let (file, active) = (path.clone(), tokens.clone());
        let result = tokio::task::spawn_blocking(move || {
            let fresh = read(&file)?;
            active.check(&file, &fresh)?;
            Ok::<_, UnusableTokens>(fresh)
        })
        .await;
        match result {
            Ok(Ok(fresh)) => {
                has_logged_error = false;
                let mut hashes = tokens.hashes.write().unwrap_or_else(PoisonError::into_inner);
                if *hashes != fresh {
                    *hashes = fresh;
                    tracing::info!(tokens = hashes.len(), "the {kind} tokens changed");
                }
            }
            Ok(Err(error)) if !has_logged_error => {
                has_logged_error = true;
                tracing::error!(%error, "the {kind} tokens are invalid; the previous ones remain valid");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "the {kind} tokens can't be read"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<Hash>, InvalidTokens> {
    let tokens = token_file::read(path)?;
    let all = std::iter::once(tokens.first).chain(tokens.second);
    Ok(all.map(|token| Sha256::digest(token.as_bytes()).into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef-old";
    const NEW: &str = "0123456789abcdef-new";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn both_tokens_of_the_file_are_valid_and_no_others() {
        let (_dir, path) = file(&format!("# rotation\n{OLD}\n\n  {NEW}\n"));
        let tokens = Tokens::from_file(&path).unwrap();
        assert!(tokens.accepts(OLD.as_bytes()) && tokens.accepts(NEW.as_bytes()));
        for wrong in ["", " ", "0123456789abcdef", "# rotation", "0123456789abcdef-ol"] {
            assert!(!tokens.accepts(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_sidecar_token_is_valid_for_its_sandbox_only() {
        let (_dir, path) = file(&format!("{OLD}\n{NEW}\n"));
        let tokens = Tokens::from_file(&path).unwrap();
        let (mine, other) = ("a1b2c3d4e5f6g7h8i9j0k", "b1b2c3d4e5f6g7h8i9j0k");
        let made = sidecar_tokens(&path, &SandboxId::parse(mine).unwrap()).unwrap();
        assert_eq!(made.len(), 2);
        for token in &made {
            assert!(tokens.accepts_for_sandbox(token.as_bytes(), mine));
            assert!(!tokens.accepts_for_sandbox(token.as_bytes(), other));
            assert!(!tokens.accepts(token.as_bytes()));
        }
        assert!(tokens.accepts_for_sandbox(NEW.as_bytes(), mine));
        for wrong in ["", "sgs_", "sgs_00"] {
            assert!(!tokens.accepts_for_sandbox(wrong.as_bytes(), mine), "{wrong:?}");
        }
        // Without its gateway token, the sidecar token is no longer valid.
        let (_dir, path) = file(NEW);
        let tokens = Tokens::from_file(&path).unwrap();
        let good = made.iter().filter(|token| tokens.accepts_for_sandbox(token.as_bytes(), mine));
        assert_eq!(good.count(), 1);
    }

    #[test]
    fn the_error_about_an_invalid_file_does_not_contain_its_content() {
        let three = format!("{OLD}\n{NEW}\n{OLD}3\n");
        for text in ["", "# only a comment\n", "tooshort\n", "0123456789 abcdef\n", three.as_str()]
        {
            let (_dir, path) = file(text);
            let error = Tokens::from_file(&path).err().unwrap().to_string();
            assert!(error.contains("tokens"), "{error}");
            assert!(!error.contains("tooshort") && !error.contains("0123456789"), "{error}");
        }
        assert!(Tokens::from_file(Path::new("/nonexistent/tokens")).is_err());
    }

    #[tokio::test]
    async fn a_gateway_token_is_no_admin_token_whichever_file_has_it_first() {
        let (_dir, gateway_file) = file(OLD);
        let gateway = Tokens::from_file(&gateway_file).unwrap();
        let (_admin_dir, admin_file) = file(&format!("{NEW}\n{OLD}\n"));
        let refused = Tokens::from_file_without(&admin_file, &gateway).err().unwrap();
        assert!(matches!(refused, UnusableTokens::Shared(_)), "{refused}");
        std::fs::write(&admin_file, NEW).unwrap();
        let admin = Tokens::from_file_without(&admin_file, &gateway).unwrap();
        let follow = [
            tokio::spawn(follow_file(gateway.clone(), gateway_file.clone(), "gateway")),
            tokio::spawn(follow_file(admin.clone(), admin_file.clone(), "admin")),
        ];
        // Each file is read several times.
        let reads = POLL_INTERVAL * 2 + Duration::from_millis(500);
        std::fs::write(&admin_file, OLD).unwrap();
        tokio::time::sleep(reads).await;
        assert!(admin.accepts(NEW.as_bytes()) && !admin.accepts(OLD.as_bytes()));
        std::fs::write(&admin_file, NEW).unwrap();
        std::fs::write(&gateway_file, NEW).unwrap();
        tokio::time::sleep(reads).await;
        assert!(gateway.accepts(NEW.as_bytes()) && !admin.accepts(NEW.as_bytes()));
        follow.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_changed_file_is_reloaded_unless_it_is_invalid() {
        let (_dir, path) = file(OLD);
        let tokens = Tokens::from_file(&path).unwrap();
        let task = tokio::spawn(follow_file(tokens.clone(), path.clone(), "gateway"));
        std::fs::write(&path, NEW).unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while !tokens.accepts(NEW.as_bytes()) || tokens.accepts(OLD.as_bytes()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        std::fs::write(&path, "short").unwrap();
        tokio::time::sleep(POLL_INTERVAL + Duration::from_millis(500)).await;
        assert!(tokens.accepts(NEW.as_bytes()));
        task.abort();
    }
}
