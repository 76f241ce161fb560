//! The prefixes of secrets, by which filters, owners and secret scanners recognize them.

use std::fmt;
use std::str::FromStr;

use sandgate_policy::ingress::config::PERSONAL_ACCESS_TOKEN_PREFIX;

/// The prefix of API keys.
pub(crate) const API_KEY_PREFIX: &str = "tl_apiKey_";
pub(crate) const SESSION_PREFIX: &str = "tl_session_";
const MAX_LENGTH: usize = 32;

/// The prefix of personal access tokens. It distinguishes them from API keys, so it must be one of the filter's
/// `personal_access_token_prefixes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenPrefix(String);

/// The reason why a text is not a prefix of personal access tokens.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTokenPrefix {
    /// A header can't contain the prefix, or it is too long.
    #[error("a prefix has 1 to {MAX_LENGTH} letters, digits, `_` and `-`")]
    Characters,
    /// Some API keys or sessions would count as personal access tokens.
    #[error("`{0}` can't be told apart from `{1}`, the prefix of other credentials")]
    Ambiguous(String, &'static str),
}

impl TokenPrefix {
    /// Whether a secret is a personal access token.
    #[must_use]
    pub fn matches(&self, secret: &str) -> bool {
        secret.starts_with(&self.0)
    }

    /// The beginning of a new token, with a separator.
    #[must_use]
    pub fn of_new_token(&self) -> String {
        format!("{self}_")
    }
}

impl Default for TokenPrefix {
    fn default() -> Self {
        Self(PERSONAL_ACCESS_TOKEN_PREFIX.to_owned())
    }
}

impl fmt::Display for TokenPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenPrefix {
    type Err = InvalidTokenPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidTokenPrefix> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(is_allowed) {
            return Err(InvalidTokenPrefix::Characters);
        }
        let ambiguous = [API_KEY_PREFIX, SESSION_PREFIX]
            .into_iter()
            .find(|other| other.starts_with(text) || text.starts_with(other));
        match ambiguous {
            Some(other) => Err(InvalidTokenPrefix::Ambiguous(text.to_owned(), other)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_distinguishes_personal_access_tokens_from_other_credentials() {
        let prefix: TokenPrefix = "acme_pat".parse().unwrap();
        assert!(prefix.matches(&prefix.of_new_token()));
        assert!(!prefix.matches(API_KEY_PREFIX) && !prefix.matches(SESSION_PREFIX));
        assert_eq!(TokenPrefix::default().to_string().parse(), Ok(TokenPrefix::default()));
        for text in ["", " ", "a b", "tl_pät", &"a".repeat(33)] {
            assert_eq!(text.parse::<TokenPrefix>(), Err(InvalidTokenPrefix::Characters), "{text}");
        }
        for text in ["t", "tl_", "tl_apiKey_", "tl_session_x"] {
            let error = text.parse::<TokenPrefix>().unwrap_err();
            assert!(matches!(error, InvalidTokenPrefix::Ambiguous(..)), "{text}");
        }
    }
}
