//! The authority of a request: `Host` in HTTP/1.1, `:authority` in HTTP/2.

use crate::dns_label::NAME_MAX;

/// The host of an authority in lower case, without its port and without one trailing dot.
pub(super) fn normalize(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok().filter(|text| text.is_ascii())?;
    let host = match text.split_once(':') {
        Some((host, port)) if is_digits(port) && port.parse::<u16>().is_ok() => host,
        Some(_) => return None,
        None => text,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty() && host.len() <= NAME_MAX).then(|| host.to_ascii_lowercase())
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
