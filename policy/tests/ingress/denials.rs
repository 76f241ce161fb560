//! Every denial has a message, and a code for which a metric is defined.

use std::collections::BTreeSet;

use sandgate_policy::ingress::denial::{Denial, InvalidResponse};
use sandgate_policy::ingress::host::InvalidHost;

const ALL: [Denial; 22] = [
    Denial::AuthServiceUnavailable,
    Denial::CrossOrigin,
    Denial::HeadersTooLarge,
    Denial::InvalidCredentials,
    Denial::InvalidHost(InvalidHost::Malformed),
    Denial::InvalidHost(InvalidHost::OtherDomain),
    Denial::InvalidHost(InvalidHost::Port),
    Denial::InvalidHost(InvalidHost::Sandbox),
    Denial::InvalidRequest("a reason"),
    Denial::PortNotExposed,
    Denial::PreflightOrigin,
    Denial::ProjectContextRequired,
    Denial::SandboxNotFound,
    Denial::SandboxNotReady,
    Denial::SandboxNotRunning,
    Denial::SandboxUpstreamError,
    Denial::TooManyRequests,
    Denial::Unauthenticated,
    Denial::UpstreamInvalid(InvalidResponse::NotSwitched),
    Denial::UpstreamInvalid(InvalidResponse::Status),
    Denial::UpstreamInvalid(InvalidResponse::SwitchedProtocols),
    Denial::UpstreamReset,
];

#[test]
fn every_code_is_defined_for_metrics_and_no_other() {
    let codes: BTreeSet<&str> = ALL.iter().map(|denial| denial.code()).collect();
    assert_eq!(codes, Denial::CODES.into_iter().collect());
    assert_eq!(codes.len(), Denial::CODES.len(), "no code stands twice");
}

#[test]
fn every_denial_is_a_client_error_or_503_unless_the_request_was_forwarded() {
    for denial in ALL {
        let status = denial.status();
        let forwarded = matches!(denial, Denial::UpstreamInvalid(_) | Denial::UpstreamReset);
        let before = (400..500).contains(&status) || status == 503;
        assert!(if forwarded { status == 502 } else { before }, "{denial:?}: {status}");
    }
}

#[test]
fn a_denial_has_retry_after_only_if_another_attempt_may_succeed() {
    let again: Vec<&str> =
        ALL.iter().filter(|denial| denial.retry_after().is_some()).map(|d| d.code()).collect();
    assert_eq!(
        again,
        [
            "AUTH_SERVICE_UNAVAILABLE",
            "SANDBOX_NOT_READY",
            "SANDBOX_UPSTREAM_ERROR",
            "TOO_MANY_REQUESTS"
        ]
    );
}

#[test]
fn every_message_is_one_line_and_unique() {
    let sentences: BTreeSet<String> = ALL.iter().map(|denial| denial.message()).collect();
    assert_eq!(sentences.len(), ALL.len());
    assert!(sentences.iter().all(|text| !text.is_empty() && !text.contains(['\n', '\r'])));
}

#[test]
fn the_advice_for_a_preflight_does_not_ask_for_a_credential_which_no_preflight_has() {
    let advice = Denial::PreflightOrigin.message();
    assert!(advice.contains("trusted_origins") && advice.contains("public"), "{advice}");
    assert!(!advice.contains("key") && !advice.contains("token"), "{advice}");
}
