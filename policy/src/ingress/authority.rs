//! Parses the authority of a request (`Host` in HTTP/1.1, `:authority` in HTTP/2) into its host name.

use crate::dns_label::NAME_MAX;

/// The host name of a request in lower case, without the port and without one trailing dot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostName(String);

impl HostName {
    /// Parses the value of `:authority`. `None` if it is not a host name of ASCII characters with an optional port.
    #[must_use]
    pub fn parse(authority: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(authority).ok().filter(|text| text.is_ascii())?;
        let host = match text.split_once(':') {
            Some((host, port)) if is_digits(port) && port.parse::<u16>().is_ok() => host,
            Some(_) => return None,
            None => text,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        (!host.is_empty() && host.len() <= NAME_MAX).then(|| Self(host.to_ascii_lowercase()))
    }

    /// The host name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
