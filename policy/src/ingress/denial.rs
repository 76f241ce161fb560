//! Every reason to refuse a request, with its stable code, status and sentence, in one table.
//!
//! What a caller may learn follows the status: 401 is "who are you", and the same for a sandbox
//! that does not exist; 404 is "no, and you may not know whether it exists"; 403 is "no, and you may
//! know"; 503 promises that nothing was forwarded, so that clients may replay; 502 is about a response,
//! so the request was forwarded.

/// Why a response of a sandbox is not passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidResponse {
    /// A success in response to a WebSocket upgrade, but not 101.
    NotSwitched,
    /// A status that is no final one.
    Status,
    /// 101, though no WebSocket was asked for, or the response names another protocol.
    SwitchedProtocols,
}

/// Why a client gets an answer of the gateway instead of the sandbox's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// The control plane can't say whether the credential is good.
    AuthServiceUnavailable,
    /// A cookie on a request that another site may have made.
    CrossOrigin,
    /// The credential is unknown, revoked, expired or malformed.
    InvalidCredentials,
    /// The host names nothing that is served here.
    InvalidHost(super::host::InvalidHost),
    /// Headers are duplicated or disagree; the sentence says which.
    InvalidRequest(&'static str),
    /// A user port that the owner has not exposed.
    PortNotExposed,
    /// A CORS preflight of an origin that is not trusted.
    PreflightOrigin,
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
    /// The sandbox answered, but its response must not be passed on.
    UpstreamInvalid(InvalidResponse),
}

impl Denial {
    /// Stable code, for programs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::AuthServiceUnavailable => "AUTH_SERVICE_UNAVAILABLE",
            Self::CrossOrigin | Self::PreflightOrigin => "CROSS_ORIGIN",
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
            Self::UpstreamInvalid(_) => "UPSTREAM_INVALID",
        }
    }

    /// All codes, for metrics that are defined before they count.
    pub const CODES: [&'static str; 14] = [
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
        "UPSTREAM_INVALID",
    ];

    /// HTTP status (RFC 9110, section 15).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidHost(_) | Self::InvalidRequest(_) | Self::ProjectContextRequired => 400,
            Self::InvalidCredentials | Self::Unauthenticated => 401,
            Self::CrossOrigin | Self::PortNotExposed | Self::PreflightOrigin => 403,
            Self::SandboxNotFound => 404,
            Self::TooManyRequests => 429,
            Self::AuthServiceUnavailable
            | Self::SandboxNotReady
            | Self::SandboxNotRunning
            | Self::SandboxUpstreamError => 503,
            Self::UpstreamInvalid(_) => 502,
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
            // A browser sends a preflight without any credential, so no credential can help.
            Self::PreflightOrigin => {
                "pages of this origin may not use this port; the operator can add the origin to trusted_origins, or the sandbox's owner can make the port public"
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
            Self::UpstreamInvalid(InvalidResponse::NotSwitched) => {
                "the service in the sandbox did not open the WebSocket: it answered by a success other than 101"
            }
            Self::UpstreamInvalid(InvalidResponse::Status) => {
                "the service in the sandbox sent a response whose status is not one of 200 to 599"
            }
            Self::UpstreamInvalid(InvalidResponse::SwitchedProtocols) => {
                "the service in the sandbox switched to a protocol that the request did not ask for"
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
