//! Parses the head of a request into what it asks for.

use crate::gateway_api::{Sandbox, SandboxState};
use crate::ids::SandboxRef;
use crate::request_line;

use super::authority::Authority;
use super::config::IngressConfig;
use super::credential::{Credential, CredentialSource};
use super::denial::Denial;
use super::head::Head;
use super::host::{Host, InvalidHost};
use super::lookup::Lookup;
use super::origin::{is_forgeable, is_preflight};
use super::port::Port;
use super::response_context::ResponseContext;

/// Names a sandbox on a bare domain; on a sandbox host it must agree with the host.
pub const SANDBOX_ID_HEADER: &str = "x-tensorlake-sandbox-id";

/// A request as far as it can be understood by itself. No `Debug`: it may hold a secret.
pub struct SandboxRequest {
    pub(super) sandbox: SandboxRef,
    pub(super) port: Port,
    pub(super) declared: Option<SandboxRef>,
    pub(super) credential: Result<Option<Credential>, Denial>,
    pub(super) forgeable: bool,
    pub(super) preflight: Option<Preflight>,
    response_context: ResponseContext,
}

/// A CORS preflight, by its origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Preflight {
    /// Of an origin that the operator trusts, in the operator's spelling.
    Trusted(String),
    /// Of any other.
    Untrusted,
}

/// What a request asks for.
pub enum Request {
    /// The lifecycle API, which authorizes by itself.
    Api,
    /// A port of a sandbox.
    Sandbox(Box<SandboxRequest>),
}

impl Request {
    /// Parses the head of a request.
    ///
    /// # Errors
    /// A [`Denial`] when the host is not understood, or routing headers are duplicated or malformed.
    pub fn parse(head: Head<'_>, config: &IngressConfig) -> Result<Self, Denial> {
        // Envoy refuses such a path over HTTP/1.1, but not over HTTP/2.
        request_line::check_path(head.first(":path").unwrap_or_default())
            .map_err(|invalid| Denial::InvalidRequest(invalid.advice()))?;
        let authority = head
            .single(":authority")
            .map_err(|_| Denial::InvalidRequest("the Host header stands more than once"))?
            .unwrap_or_default();
        let authority =
            Authority::parse(authority).ok_or(Denial::InvalidHost(InvalidHost::Malformed))?;
        if config.is_api_host(&authority) {
            return Ok(Self::Api);
        }
        let host = Host::parse(&authority, config.domains()).map_err(Denial::InvalidHost)?;
        let declared = declared_sandbox(head);
        let (sandbox, port, declared) = match host {
            Host::Api => return Ok(Self::Api),
            // "`X-Tensorlake-Sandbox-Id` routes only on a bare domain".
            Host::Bare => match declared? {
                None => return Ok(Self::Api),
                Some(sandbox) => (sandbox, Port::Management, None),
            },
            Host::Sandbox(sandbox, port) => (sandbox, port, declared?),
        };
        let preflight = is_preflight(head).then(|| {
            let origin = head.single("origin").ok().flatten();
            match origin.and_then(|origin| config.trusted_origin(origin)) {
                Some(origin) => Preflight::Trusted(origin.to_owned()),
                None => Preflight::Untrusted,
            }
        });
        Ok(Self::Sandbox(Box::new(SandboxRequest {
            sandbox,
            port,
            declared,
            credential: Credential::extract(head, config),
            forgeable: is_forgeable(head, config),
            preflight,
            response_context: ResponseContext::new(authority, head),
        })))
    }
}

fn declared_sandbox(head: Head<'_>) -> Result<Option<SandboxRef>, Denial> {
    let bad = Denial::InvalidRequest("X-Tensorlake-Sandbox-Id must name one sandbox, once");
    let Some(value) = head.single(SANDBOX_ID_HEADER).map_err(|_| bad)? else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| bad)?;
    SandboxRef::parse(text).map(Some).ok_or(bad)
}

impl SandboxRequest {
    /// The sandbox to resolve.
    #[must_use]
    pub fn sandbox(&self) -> &SandboxRef {
        &self.sandbox
    }

    /// The port that is asked for.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// The credential that was shown, if it can be one.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref().ok().and_then(Option::as_ref)
    }

    /// The properties of the request that its response is judged by.
    #[must_use]
    pub fn response_context(&self) -> &ResponseContext {
        &self.response_context
    }

    /// Whether the sandbox must be known to judge the request. Without it, a management request
    /// without a good credential is refused at once, and costs the control plane nothing.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        self.port != Port::Management || (self.credential().is_some() && self.preflight.is_none())
    }

    /// Whether the caller must be known, given what is known of the sandbox so far.
    ///
    /// A bearer without a platform prefix may be a secret of the app behind a public port: it is
    /// shown to the control plane only once the port is known not to be public. While that can't
    /// be known, nobody's credential is looked at.
    #[must_use]
    pub fn needs_caller(&self, sandbox: Option<&Lookup<Sandbox>>) -> bool {
        let Some(credential) = self.credential() else { return false };
        if self.preflight.is_some() {
            return false;
        }
        match sandbox {
            Some(Lookup::Unavailable) => self.port == Port::Management,
            Some(known) => !self.is_public(known),
            None => {
                self.port == Port::Management
                    || credential.source() != CredentialSource::OtherBearer
            }
        }
    }

    /// Contract: "To make a user port public on the internet, both of these conditions must be
    /// true: the port is in `exposed_ports`; `allow_unauthenticated_access=true`." And: "The
    /// management API on port 9501 never becomes public."
    pub(super) fn is_public(&self, sandbox: &Lookup<Sandbox>) -> bool {
        match (sandbox, self.port) {
            (Lookup::Found(sandbox), Port::User(port)) => {
                sandbox.allow_unauthenticated_access
                    && sandbox.exposed_ports.contains(&port.get())
                    && sandbox.state != SandboxState::Terminated
            }
            (Lookup::Found(_), Port::Management) | (Lookup::NotFound | Lookup::Unavailable, _) => {
                false
            }
        }
    }
}
