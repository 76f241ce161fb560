//! How much a client may make the server remember.
//!
//! An edge has fewer than a thousand resources. A client with a valid credential that subscribes to invented names, or that
//! never answers, must not take the memory of the control plane.

use crate::wire::DeltaDiscoveryRequest;

/// The most names of a kind that a client may subscribe to, and the most that it may say it has.
pub const MAX_NAMES: usize = 4_096;
/// The most bytes of a name, and of a version that a client says it has.
pub const MAX_NAME: usize = 512;
/// The most responses without an answer, counted together with the names in them.
pub const MAX_UNANSWERED: usize = 32_768;
/// The most bytes of a reason that are kept and logged. A client may send as many as a request has.
pub const MAX_REASON: usize = 1 << 10;

/// The bound that a client exceeds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Excess {
    #[error("the client has more than {MAX_NAMES} names of a kind")]
    Names,
    #[error("a name or a version has more than {MAX_NAME} bytes")]
    NameLength,
    #[error("the client leaves too many responses without an answer")]
    Unanswered,
}

/// Checks a request before the server takes anything of it.
pub(super) fn check(request: &DeltaDiscoveryRequest) -> Result<(), Excess> {
    let versions = &request.initial_resource_versions;
    let subscribed = &request.resource_names_subscribe;
    if versions.len() > MAX_NAMES || subscribed.len() > MAX_NAMES {
        return Err(Excess::Names);
    }
    let mut texts = versions.iter().flat_map(|(name, version)| [name, version]).chain(subscribed);
    if texts.any(|text| text.len() > MAX_NAME) {
        return Err(Excess::NameLength);
    }
    Ok(())
}

/// The beginning of a text, at most `length` bytes long.
pub(crate) fn cut(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length)).unwrap_or_default()
}
