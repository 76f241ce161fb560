//! Every reason to refuse a request, with its stable code, status and sentence, in one table.
//!
//! What a caller may learn follows the status: 401 is "who are you", and the same for a sandbox
//! that does not exist; 404 is "no, and you may not know whether it exists"; 403 is "no, and you may
//! know"; 503 promises that nothing was forwarded, so that clients may replay.

/// Why a request was not forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// The control plane can't say whether the credential is good.
    AuthServiceUnavailable,
    /// A cookie on a request that another site may have made.
    CrossOrigin,
    /// The credential is unknown, revoked, expired or malformed.
    InvalidCredentials,
    /// The host names nothing that is served here.
    InvalidHost(crate::host::InvalidHost),
    /// Headers are duplicated or disagree; the sentence says which.
    InvalidRequest(&'static str),
    /// A user port that the owner has not exposed.
    PortNotExposed,
    /// A PAT or session without organization and project.
    ProjectContextRequired,
    /// Unknown, terminated, or another project's sandbox.
    SandboxNotFound,
    /// It will run soon: pending, or a resume is not done yet.
    SandboxNotReady,
    /// Suspended, and no request may resume it.
    SandboxNotRunning,
    /// Nothing is known of the sandbox, and the control plane can't be asked.
    SandboxUpstreamError,
    /// The sandbox has as many requests in flight as it may.
    TooManyRequests,
    /// No credential, and the port is not public (or does not exist).
    Unauthenticated,
}

impl Denial {
    /// Stable code, for programs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::AuthServiceUnavailable => "AUTH_SERVICE_UNAVAILABLE",
            Self::CrossOrigin => "CROSS_ORIGIN",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::InvalidHost(_) => "INVALID_HOST",
            Self::InvalidRequest(_) => "INVALID_REQUEST",
            Self::PortNotExposed => "PORT_NOT_EXPOSED",
            Self::ProjectContextRequired => "PROJECT_CONTEXT_REQUIRED",
            Self::SandboxNotFound => "SANDBOX_NOT_FOUND",
            Self::SandboxNotReady => "SANDBOX_NOT_READY",
            Self::SandboxNotRunning => "SANDBOX_NOT_RUNNING",
            Self::SandboxUpstreamError => "SANDBOX_UPSTREAM_ERROR",
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// All codes, for metrics that are defined before they count.
    pub const CODES: [&'static str; 13] = [
        "AUTH_SERVICE_UNAVAILABLE",
        "CROSS_ORIGIN",
        "INVALID_CREDENTIALS",
        "INVALID_HOST",
        "INVALID_REQUEST",
        "PORT_NOT_EXPOSED",
        "PROJECT_CONTEXT_REQUIRED",
        "SANDBOX_NOT_FOUND",
        "SANDBOX_NOT_READY",
        "SANDBOX_NOT_RUNNING",
        "SANDBOX_UPSTREAM_ERROR",
        "TOO_MANY_REQUESTS",
        "UNAUTHENTICATED",
    ];

    /// HTTP status (RFC 9110, section 15).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidHost(_) | Self::InvalidRequest(_) | Self::ProjectContextRequired => 400,
            Self::InvalidCredentials | Self::Unauthenticated => 401,
            Self::CrossOrigin | Self::PortNotExposed => 403,
            Self::SandboxNotFound => 404,
            Self::TooManyRequests => 429,
            Self::AuthServiceUnavailable
            | Self::SandboxNotReady
            | Self::SandboxNotRunning
            | Self::SandboxUpstreamError => 503,
        }
    }

    /// What to tell the caller: what is wrong, and what to do.
    #[must_use]
    pub fn message(self) -> String {
        let text = match self {
            Self::AuthServiceUnavailable => {
                "the credential could not be checked just now; nothing was forwarded, try again"
            }
            Self::CrossOrigin => {
                "a request of another site may not use the session cookie; send an API key or a token instead"
            }
            Self::InvalidCredentials => "the credential is not valid: unknown, revoked or expired",
            Self::InvalidHost(reason) => return reason.to_string(),
            Self::InvalidRequest(reason) => reason,
            Self::PortNotExposed => {
                "the port is not exposed; its owner can add it to the sandbox's exposed_ports"
            }
            Self::ProjectContextRequired => {
                "a personal access token or session needs the X-Forwarded-Organization-Id and X-Forwarded-Project-Id headers (on a WebSocket also organizationId and projectId in the query)"
            }
            Self::SandboxNotFound => "there is no such sandbox in the caller's projects",
            Self::SandboxNotReady => {
                "the sandbox is not ready yet; nothing was forwarded, try again"
            }
            Self::SandboxNotRunning => {
                "the sandbox is suspended and a request may not resume it; its owner can resume it"
            }
            Self::SandboxUpstreamError => {
                "the sandbox could not be looked up just now; nothing was forwarded, try again"
            }
            Self::TooManyRequests => "the sandbox has too many requests in flight; try again",
            Self::Unauthenticated => {
                "a credential is needed: an API key, a personal access token or a session"
            }
        };
        text.to_owned()
    }

    /// Seconds for `Retry-After` (RFC 9110, section 10.2.3), where trying again can help.
    #[must_use]
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::AuthServiceUnavailable
            | Self::SandboxNotReady
            | Self::SandboxUpstreamError
            | Self::TooManyRequests => Some(1),
            _ => None,
        }
    }
}
