//! The names of everything that belongs to one folder.

use std::fmt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The prefix of the names of namespaces and folders that belong to one folder, such as the data directory of a server. Two
/// folders have different prefixes, so their owners don't touch one another's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prefix {
    hash: u32,
}

impl Prefix {
    /// The prefix of a folder, by its path. The path must be absolute.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        // The first 32 bits of SHA-256: programs outside this tree find the namespaces by this rule.
        let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        let [a, b, c, d, ..]: [u8; 32] = digest.into();
        Self { hash: u32::from_be_bytes([a, b, c, d]) }
    }

    /// The prefix of the names of links, which have 15 characters at most.
    #[must_use]
    pub fn of_links(&self) -> String {
        format!("sg{:08x}", self.hash)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandgate-{:08x}", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_have_different_prefixes_and_one_folder_always_the_same() {
        let of = |folder: &str| Prefix::of(Path::new(folder)).to_string();
        assert_eq!(of("/a/b"), of("/a/b"));
        assert_ne!(of("/a/b"), of("/a/c"));
        assert_eq!(of("/a/b").len(), "sandgate-00000000".len());
        assert_eq!(Prefix::of(Path::new("/a/b")).of_links().len(), 10);
    }
}
