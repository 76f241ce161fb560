//! Files of tokens: that of the gateway tokens, and that of the admin tokens. The gateway API accepts all tokens of its file, and
//! edges send the first one, so both read it with the same rules: a token that edges send is always one that the gateway API
//! accepts.

use std::path::{Path, PathBuf};

/// The minimum number of characters of a token.
const MIN_LENGTH: usize = 16;
/// The maximum number of tokens that are valid at the same time.
const MAX_TOKENS: usize = 2;

/// The reason why a file is not a list of tokens. It never contains the content.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTokens {
    /// The file can't be read.
    #[error(
        "the token file {path} can't be read ({source}); make it with `openssl rand -hex 32 > {path}`"
    )]
    Unreadable {
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file has no token.
    #[error("the token file {0} has no token; make one with `openssl rand -hex 32 > {0}`")]
    Empty(PathBuf),
    /// The file has more tokens than a rotation needs.
    #[error(
        "the token file {0} has more than {MAX_TOKENS} tokens; keep the new one and the one that it replaces"
    )]
    TooMany(PathBuf),
    /// A token is too short, or has characters that a header can't have.
    #[error(
        "line {line} of the token file {path} is not a token: a token has at least {MIN_LENGTH} visible ASCII characters"
    )]
    Malformed {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The tokens of a file. Has no `Debug`, because they are secret.
pub struct GatewayTokens {
    /// The token that clients send.
    pub first: String,
    /// The token that the first one replaces.
    pub second: Option<String>,
}

/// Reads a file with a token on each line. Empty lines and lines that start with `#` are ignored.
///
/// # Errors
///
/// [`InvalidTokens`] says what is wrong with the file.
pub fn read(path: &Path) -> Result<GatewayTokens, InvalidTokens> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InvalidTokens::Unreadable { path: path.to_owned(), source })?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim();
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        if token.len() < MIN_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidTokens::Malformed { path: path.to_owned(), line: index + 1 });
        }
        tokens.push(token.to_owned());
    }
    let mut tokens = tokens.into_iter();
    match (tokens.next(), tokens.next(), tokens.next()) {
        (None, ..) => Err(InvalidTokens::Empty(path.to_owned())),
        (Some(first), second, None) => Ok(GatewayTokens { first, second }),
        _ => Err(InvalidTokens::TooMany(path.to_owned())),
    }
}
