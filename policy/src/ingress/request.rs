//! Parses the head of a request into its target and its credential.

use std::sync::Arc;

use crate::gateway_api::SandboxState;
use crate::ids::SandboxRef;
use crate::request_line;

use super::authority::HostName;
use super::config::IngressConfig;
use super::credential::{Credential, CredentialSource};
use super::denial::Denial;
use super::head::Head;
use super::host::{InvalidHost, Target};
use super::lookup::{KnownSandbox, Resolved};
use super::origin::{is_forgeable, is_preflight};
use super::port::Port;
use super::response_context::ResponseContext;

/// The header that names the sandbox if the host is a bare domain. On the host of a sandbox, it must name the same
/// sandbox as the host.
pub const SANDBOX_ID_HEADER: &str = "x-tensorlake-sandbox-id";

/// A request to a sandbox, parsed without any lookup. It has no `Debug`, because it may hold a secret.
pub struct SandboxRequest {
    pub(super) sandbox: SandboxRef,
    pub(super) port: Port,
    /// The sandbox in `X-Tensorlake-Sandbox-Id`, if the host names a sandbox too.
    pub(super) header_sandbox: Option<SandboxRef>,
    pub(super) credential: Result<Option<Credential>, Denial>,
    /// See [`is_forgeable`].
    pub(super) forgeable: bool,
    pub(super) preflight: Option<Preflight>,
    response_context: ResponseContext,
}

/// A CORS preflight, by its origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Preflight {
    /// The operator trusts the origin, which is in the operator's spelling.
    Trusted(String),
    /// The operator does not trust the origin.
    Untrusted,
}

/// The target of a request.
pub enum Request {
    /// The public API, which authorizes its requests itself.
    Api,
    /// A port of a sandbox.
    Sandbox(Box<SandboxRequest>),
}

impl Request {
    /// Parses the head of a request.
    ///
    /// # Errors
    /// A [`Denial`], if the host is not valid, or if routing headers are repeated or malformed.
    pub fn parse(head: Head<'_>, config: &IngressConfig) -> Result<Self, Denial> {
        // Envoy refuses such a path over HTTP/1.1, but not over HTTP/2.
        request_line::check_path(head.first(":path").unwrap_or_default())
            .map_err(|invalid| Denial::InvalidRequest(invalid.advice()))?;
        let authority = head
            .single(":authority")
            .map_err(|_| Denial::InvalidRequest("the Host header is sent more than once"))?
            .unwrap_or_default();
        let host = HostName::parse(authority).ok_or(Denial::InvalidHost(InvalidHost::Malformed))?;
        if config.is_api_host(&host) {
            return Ok(Self::Api);
        }
        let target = Target::parse(&host, config.domains()).map_err(Denial::InvalidHost)?;
        let header_sandbox = parse_sandbox_header(head);
        let (sandbox, port, header_sandbox) = match target {
            Target::Api => return Ok(Self::Api),
            // `X-Tensorlake-Sandbox-Id` determines the target only on a bare domain.
            Target::Bare => match header_sandbox? {
                None => return Ok(Self::Api),
                Some(sandbox) => (sandbox, Port::Management, None),
            },
            Target::Sandbox(sandbox, port) => (sandbox, port, header_sandbox?),
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
            header_sandbox,
            credential: Credential::extract(head, config),
            forgeable: is_forgeable(head, config),
            preflight,
            response_context: ResponseContext::new(host, head),
        })))
    }
}

fn parse_sandbox_header(head: Head<'_>) -> Result<Option<SandboxRef>, Denial> {
    let bad = Denial::InvalidRequest("X-Tensorlake-Sandbox-Id must name one sandbox, once");
    let Some(value) = head.single(SANDBOX_ID_HEADER).map_err(|_| bad)? else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| bad)?;
    SandboxRef::parse(text).map(Some).ok_or(bad)
}

impl SandboxRequest {
    /// The sandbox that the request names, which the filter must resolve.
    #[must_use]
    pub fn sandbox(&self) -> &SandboxRef {
        &self.sandbox
    }

    /// The requested port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// The credential of the request. `None` if there is none, or if it is malformed.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref().ok().and_then(Option::as_ref)
    }

    /// The properties of the request on which the evaluation of its response depends.
    #[must_use]
    pub fn response_context(&self) -> &ResponseContext {
        &self.response_context
    }

    /// Whether the decision depends on the sandbox. A management request without a well-formed credential is denied
    /// without a lookup, so that such requests cost the control plane nothing.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        self.port != Port::Management || (self.credential().is_some() && self.preflight.is_none())
    }

    /// Whether the decision depends on the caller, given the result of the sandbox's lookup, or `None` if there is no
    /// result yet.
    ///
    /// A bearer token without a platform prefix may be a secret of the app behind a public port. It is sent to the
    /// control plane only after the lookup has shown that the port is not public. If that lookup is not possible, no
    /// credential is evaluated for a user port.
    #[must_use]
    pub fn needs_caller(&self, sandbox: Option<&Resolved<Arc<KnownSandbox>>>) -> bool {
        let Some(credential) = self.credential() else { return false };
        if self.preflight.is_some() {
            return false;
        }
        match sandbox {
            Some(Resolved::Unavailable) => self.port == Port::Management,
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
    pub(super) fn is_public(&self, sandbox: &Resolved<Arc<KnownSandbox>>) -> bool {
        match (sandbox, self.port) {
            (Resolved::Found(sandbox), Port::User(port)) => {
                sandbox.allow_unauthenticated_access
                    && sandbox.exposed_ports.contains(&port.get())
                    && sandbox.state != SandboxState::Terminated
            }
            (Resolved::Found(_), Port::Management)
            | (Resolved::NotFound | Resolved::Unavailable, _) => false,
        }
    }
}
