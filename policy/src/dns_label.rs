//! The limits of DNS names, and the check of one label.

/// Bytes of one DNS label (RFC 1035, section 2.3.4).
pub(crate) const LABEL_MAX: usize = 63;
/// Bytes of a whole DNS name (RFC 1035, section 2.3.4).
pub(crate) const NAME_MAX: usize = 253;

/// Whether a label consists of lower-case letters, digits, and inner hyphens.
pub(crate) fn is_ldh_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_MAX
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}
