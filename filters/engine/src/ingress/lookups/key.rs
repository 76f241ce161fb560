//! The subject of a lookup.

use sandgate_policy::ingress::credential::CredentialKey;

use crate::ingress::effect::CallKind;

/// The subject of a lookup. Streams that need the same subject share one lookup.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum LookupKey {
    Caller(CredentialKey),
    Resume {
        sandbox_id: String,
        public: bool,
    },
    /// By name or id.
    Sandbox(String),
}

impl LookupKey {
    pub(crate) fn kind(&self) -> CallKind {
        match self {
            Self::Caller(_) => CallKind::Caller,
            Self::Resume { .. } => CallKind::Resume,
            Self::Sandbox(_) => CallKind::Sandbox,
        }
    }
}
