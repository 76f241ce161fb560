//! The result of a lookup, parsed from the response of the control plane.

use std::sync::Arc;

use sandgate_policy::gateway_api::{Identity, Introspection, Sandbox};
use sandgate_policy::ingress::KnownSandbox;

use crate::ingress::effect::CallResponse;

use super::key::LookupKey;

/// The result of a lookup that the control plane answered.
pub(crate) enum LookupResult {
    /// `None` if the credential is not valid.
    Caller(Option<Arc<Identity>>),
    /// `None` if there is no such sandbox.
    Sandbox(Option<Arc<KnownSandbox>>),
    NotResumable,
    /// The control plane's limit on resumes was reached. Holds the seconds after which it allows one.
    ResumeLimited(u32),
}

impl LookupResult {
    /// Parses a response. `None` if the control plane did not send it.
    pub(crate) fn parse(key: &LookupKey, response: &CallResponse<'_>) -> Option<Self> {
        // Envoy's own failures are 503 and 504 responses without the marker.
        if !response.has_marker() {
            return None;
        }
        let sandbox = || {
            let sandbox = serde_json::from_slice::<Sandbox>(response.body).ok()?;
            Some(Arc::new(KnownSandbox::from(sandbox)))
        };
        match (key, response.status()) {
            (LookupKey::Sandbox(_) | LookupKey::Resume { .. }, 200) => {
                Some(Self::Sandbox(Some(sandbox()?)))
            }
            (LookupKey::Sandbox(_) | LookupKey::Resume { .. }, 404) => Some(Self::Sandbox(None)),
            (LookupKey::Resume { .. }, 409) => Some(Self::NotResumable),
            (LookupKey::Resume { .. }, 429) => {
                let seconds = response.headers.first("retry-after");
                let seconds = seconds.and_then(|value| std::str::from_utf8(value).ok());
                let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(1);
                Some(Self::ResumeLimited(seconds))
            }
            (LookupKey::Caller(_), 200) => {
                let introspection = serde_json::from_slice::<Introspection>(response.body).ok()?;
                Some(Self::Caller(introspection.identity.map(Arc::new)))
            }
            _ => None,
        }
    }
}
