//! All reasons to deny a request, each with its stable code, status, and message.
//!
//! | status | meaning |
//! |---|---|
//! | 400 | The request is malformed or ambiguous. |
//! | 401 | The request is not authenticated. The response is the same for a sandbox that does not exist. |
//! | 403 | The caller may know that the sandbox exists, but the request is not allowed. |
//! | 404 | The sandbox does not exist, or the caller may not know that it exists. |
//! | 429 | All slots of the sandbox are taken; nothing was forwarded. |
//! | 431 | The headers of the request are too large. |
//! | 502 | The request was forwarded, but the response must not be. |
//! | 503 | The request was not forwarded, so the client may send it again. |
//!
//! Envoy itself generates `SANDBOX_UNREACHABLE` (`envoy/edge.yaml`).

/// The reason why a response of a sandbox is not forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidResponse {
    /// The response to a WebSocket upgrade has a 2xx status instead of 101.
    NotSwitched,
    /// The status is not 200 to 599.
    Status,
    /// The status is 101, but the request asked for no WebSocket, or the response names another protocol.
    SwitchedProtocols,
}

/// The reason why a client gets a response of the gateway instead of the sandbox's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// The control plane is unavailable, so the credential can't be verified.
    AuthServiceUnavailable,
    /// The request has a session cookie, and another site may have caused it.
    CrossOrigin,
    /// The headers of the request have too many fields, or too large ones.
    HeadersTooLarge,
    /// The credential is unknown, revoked, expired or malformed.
    InvalidCredentials,
    /// The host is not valid, or is not in a configured domain.
    InvalidHost(super::host::InvalidHost),
    /// Headers are repeated, malformed, or contradict each other. The text is the message for the client.
    InvalidRequest(&'static str),
    /// The owner has not exposed the user port.
    PortNotExposed,
    /// The request is a CORS preflight of an origin that is not trusted.
    PreflightOrigin,
    /// A personal access token or a session comes without an organization and a project.
    ProjectContextRequired,
    /// The sandbox is unknown, is terminated, or belongs to a project that the caller may not act in.
    SandboxNotFound,
    /// The sandbox will run soon: it is pending, or a resume has not completed.
    SandboxNotReady,
    /// The sandbox is suspended, and a request may not resume it.
    SandboxNotRunning,
    /// The control plane is unavailable, and the cache has no usable entry of the sandbox; or the sandbox's address is
    /// not in `sandbox_cidrs`; or the host could not apply the decision.
    SandboxUpstreamError,
    /// The sandbox has reached its limit of requests in flight.
    TooManyRequests,
    /// The request has no credential, and the port is not public or does not exist.
    Unauthenticated,
    /// The sandbox responded, but its response must not be forwarded.
    UpstreamInvalid(InvalidResponse),
    /// An attempt to forward the request reached the sandbox, and the last one failed.
    UpstreamReset,
}

impl Denial {
    /// The stable code, for programs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::AuthServiceUnavailable => "AUTH_SERVICE_UNAVAILABLE",
            Self::CrossOrigin | Self::PreflightOrigin => "CROSS_ORIGIN",
            Self::HeadersTooLarge => "HEADERS_TOO_LARGE",
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
            Self::UpstreamReset => "UPSTREAM_RESET",
        }
    }

    /// All codes. The metrics are defined from this list before anything is counted.
    pub const CODES: [&'static str; 16] = [
        "AUTH_SERVICE_UNAVAILABLE",
        "CROSS_ORIGIN",
        "HEADERS_TOO_LARGE",
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
        "UPSTREAM_RESET",
    ];

    /// The HTTP status (RFC 9110, section 15).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidHost(_) | Self::InvalidRequest(_) | Self::ProjectContextRequired => 400,
            Self::InvalidCredentials | Self::Unauthenticated => 401,
            Self::CrossOrigin | Self::PortNotExposed | Self::PreflightOrigin => 403,
            Self::SandboxNotFound => 404,
            Self::TooManyRequests => 429,
            Self::HeadersTooLarge => 431,
            Self::AuthServiceUnavailable
            | Self::SandboxNotReady
            | Self::SandboxNotRunning
            | Self::SandboxUpstreamError => 503,
            Self::UpstreamInvalid(_) | Self::UpstreamReset => 502,
        }
    }

    /// The message for the client: what is wrong, and what to do.
    #[must_use]
    pub fn message(self) -> String {
        let text = match self {
            Self::AuthServiceUnavailable => {
                "the credential can't be verified at the moment; nothing was forwarded, try again"
            }
            Self::CrossOrigin => {
                "a request of another site may not use the session cookie; send an API key or a token instead"
            }
            Self::HeadersTooLarge => {
                "the headers of the request are too large: at most 96 KiB and 200 fields pass"
            }
            Self::InvalidCredentials => "the credential is not valid: unknown, revoked or expired",
            Self::InvalidHost(reason) => return reason.to_string(),
            Self::InvalidRequest(reason) => reason,
            Self::PortNotExposed => {
                "the port is not exposed; its owner can add it to the sandbox's exposed_ports"
            }
            // A browser sends a preflight without a credential, so a credential can't help.
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
                "the sandbox can't be looked up at the moment; nothing was forwarded, try again"
            }
            Self::TooManyRequests => "the sandbox has too many requests in flight; try again",
            Self::Unauthenticated => {
                "a credential is needed: an API key, a personal access token or a session"
            }
            Self::UpstreamInvalid(InvalidResponse::NotSwitched) => {
                "the service in the sandbox did not open the WebSocket: it responded with 2xx instead of 101"
            }
            Self::UpstreamInvalid(InvalidResponse::Status) => {
                "the service in the sandbox sent a response whose status is not one of 200 to 599"
            }
            Self::UpstreamInvalid(InvalidResponse::SwitchedProtocols) => {
                "the service in the sandbox switched to a protocol that the request did not ask for"
            }
            Self::UpstreamReset => {
                "the sandbox broke the connection off after the request was sent"
            }
        };
        text.to_owned()
    }

    /// The value of `Retry-After` in seconds (RFC 9110, section 10.2.3), if another attempt may succeed.
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
