//! The domains under which sandboxes are reached.

use std::fmt;

use crate::dns_label::{NAME_MAX, is_ldh_label};

/// A domain under which sandboxes are reached: lower-case labels of letters, digits, and hyphens, without a trailing
/// dot.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Domain(String);

impl Domain {
    /// Parses a domain of the configuration.
    ///
    /// # Errors
    /// [`InvalidDomain`], if `text` is not a lower-case DNS name.
    pub fn parse(text: &str) -> Result<Self, InvalidDomain> {
        let good = text.len() <= NAME_MAX && text.split('.').all(is_ldh_label);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidDomain(text.to_owned())) }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host` (lower-case, no trailing dot) is this domain or lies below it.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        host == self.0 || self.label_below(host).is_some()
    }

    /// The part of `host` before `.domain`.
    pub(super) fn label_below<'h>(&self, host: &'h str) -> Option<&'h str> {
        host.strip_suffix(self.0.as_str())?.strip_suffix('.')
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured domain that is not a lower-case DNS name.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a domain: expected lower-case labels of a-z, 0-9 and `-`, like `sandbox.example.com`"
)]
pub struct InvalidDomain(String);
