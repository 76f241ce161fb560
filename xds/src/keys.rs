//! The tokens of nodes, derived from the keys of a file. A token contains the node that it belongs to, so no list of nodes is
//! needed, and a token of one node is useless for another one.
//!
//! The keys are not the gateway tokens: every edge has a gateway token, and could derive the tokens of the others.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::watch;

use crate::server::Credentials;

const PREFIX: &str = "sgx_";
const MIN_LENGTH: usize = 32;
const MAX_KEYS: usize = 2;
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The most characters of a node's name.
pub(crate) const MAX_NODE: usize = 128;

/// The valid keys. Has no `Debug`, because they are secret.
#[derive(Clone)]
pub struct NodeKeys {
    keys: Arc<RwLock<Vec<Vec<u8>>>>,
    changes: watch::Sender<()>,
}

/// The reason why a file is not a list of keys. It never contains the content.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(
        "the key file {path} can't be read ({source}); make it with `openssl rand -hex 32 > {path}`"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "the key file {0} must have one or two lines with keys of at least {MIN_LENGTH} visible ASCII characters"
    )]
    Malformed(PathBuf),
    #[error("a node's name has 1 to {MAX_NODE} letters, digits, `-`, `_` and `.`")]
    Node,
}

impl NodeKeys {
    /// Reads a file with one or two keys. With two, one can replace the other without an outage.
    ///
    /// # Errors
    ///
    /// If the file is not a list of keys.
    pub fn from_file(path: &Path) -> Result<Self, KeysError> {
        let keys = Arc::new(RwLock::new(read(path)?));
        Ok(Self { keys, changes: watch::Sender::new(()) })
    }

    /// The token of a node, by the first key of the file.
    ///
    /// # Errors
    ///
    /// If the name is not one of a node.
    pub fn token(&self, node: &str) -> Result<String, KeysError> {
        if !is_node(node) {
            return Err(KeysError::Node);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first().ok_or(KeysError::Node)?;
        let mac = mac(key, node).ok_or(KeysError::Node)?.finalize().into_bytes();
        Ok(format!("{PREFIX}{}_{node}", hex(&mac)))
    }

    /// Reloads the keys whenever the file changes. An invalid file changes nothing. The streams of a removed key end.
    pub async fn follow(self, path: PathBuf) {
        let mut has_logged = false;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            match read(&path) {
                Ok(fresh) => {
                    has_logged = false;
                    let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                    if *keys != fresh {
                        *keys = fresh;
                        tracing::info!(keys = keys.len(), "the xDS keys changed");
                        drop(keys);
                        self.changes.send_replace(());
                    }
                }
                Err(error) if !has_logged => {
                    has_logged = true;
                    tracing::error!(%error, "the previous xDS keys remain valid");
                }
                Err(_) => {}
            }
        }
    }
}

impl Credentials for NodeKeys {
    fn node_of(&self, token: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(token).ok()?.strip_prefix(PREFIX)?;
        let (mac_text, node) = text.split_once('_')?;
        let sent = from_hex(mac_text)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let is_valid =
            |key: &Vec<u8>| mac(key, node).is_some_and(|mac| mac.verify_slice(&sent).is_ok());
        keys.iter().any(is_valid).then(|| node.to_owned())
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// Whether a text can be the name of a node.
pub(crate) fn is_node(name: &str) -> bool {
    let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NODE && name.bytes().all(is_permitted)
}

fn mac(key: &[u8], node: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(b"sandgate xds node v1\n");
    mac.update(node.as_bytes());
    Some(mac)
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, KeysError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeysError::Unreadable { path: path.to_owned(), source })?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
    let is_key = |key: &Vec<u8>| key.len() >= MIN_LENGTH && key.iter().all(u8::is_ascii_graphic);
    if keys.is_empty() || keys.len() > MAX_KEYS || !keys.iter().all(is_key) {
        return Err(KeysError::Malformed(path.to_owned()));
    }
    Ok(keys)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 64 {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn keys(text: &str) -> Result<NodeKeys, KeysError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        NodeKeys::from_file(&path)
    }

    #[test]
    fn a_token_belongs_to_its_node_alone() {
        let keys = keys(KEY).unwrap();
        let token = keys.token("edge_1.example.com").unwrap();
        assert_eq!(keys.node_of(token.as_bytes()).as_deref(), Some("edge_1.example.com"));
        let forged = token.replace("edge_1", "edge_2");
        let cut = token.strip_suffix('m').unwrap();
        let without_prefix = token.strip_prefix(PREFIX).unwrap();
        for wrong in ["", "sgx_", KEY, &forged, cut, without_prefix] {
            assert_eq!(keys.node_of(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_valid_as_long_as_its_key_is_in_the_file() {
        let old = keys(KEY).unwrap().token("edge").unwrap();
        let next = KEY.replace('0', "f");
        assert!(keys(&format!("{next}\n{KEY}\n")).unwrap().node_of(old.as_bytes()).is_some());
        assert!(keys(&next).unwrap().node_of(old.as_bytes()).is_none());
    }

    #[test]
    fn a_file_that_is_no_list_of_keys_and_a_name_that_is_none_are_refused() {
        for text in ["", "short\n", &format!("{KEY}\n{KEY}1\n{KEY}2\n")] {
            let error = keys(text).err().unwrap().to_string();
            assert!(error.contains("one or two lines") && !error.contains("short"), "{error}");
        }
        for node in ["", "a b", "a\n", "é", &"a".repeat(129)] {
            assert!(keys(KEY).unwrap().token(node).is_err(), "{node:?}");
        }
    }
}
