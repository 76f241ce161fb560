//! The decision about a request. It depends on the parsed request and on [`RequestFacts`].
//!
//! [`decide`] performs no lookup. The filter provides the facts and executes the [`Decision`].

mod facts;
mod permit;
mod reevaluation;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::gateway_api::{Identity, SandboxState};

use super::concurrency::Class;
use super::config::IngressConfig;
use super::credential::CredentialSource;
use super::denial::Denial;
use super::lookup::{KnownSandbox, Resolved};
use super::port::Port;
use super::request::{Preflight, SandboxRequest};

pub use facts::RequestFacts;
pub use permit::{Caller, EvictionPermit, Permit, ResumePermit};
pub use reevaluation::{CloseReason, StreamDecision, reevaluate};

/// The action for a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Answer the CORS preflight, because its origin is trusted.
    AnswerPreflight {
        /// The trusted origin in the operator's spelling, not in the request's.
        origin: String,
    },
    /// Respond with a denial.
    Deny(Denial),
    /// Forward the request.
    Permit(Permit),
    /// All slots for anonymous requests to the sandbox are taken. If [`super::slots`] finds a stream to evict, forward
    /// the request in its slot; otherwise respond with [`Denial::TooManyRequests`].
    Evict(EvictionPermit),
    /// Resume the sandbox, then decide again.
    Resume(ResumePermit),
}

/// Decides about a request. The first rule that matches decides. Missing information leads to a denial.
#[must_use]
pub fn decide(
    request: &SandboxRequest,
    facts: &RequestFacts<'_>,
    config: &IngressConfig,
) -> Decision {
    match evaluate(request, facts, config, Purpose::NewRequest) {
        Ok(decision) => decision,
        Err(denial) => Decision::Deny(denial),
    }
}

/// The reason for an evaluation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// Whether to forward a new request.
    NewRequest,
    /// Whether a stream that was forwarded may continue.
    LiveStream,
}

fn evaluate(
    request: &SandboxRequest,
    facts: &RequestFacts<'_>,
    config: &IngressConfig,
    purpose: Purpose,
) -> Result<Decision, Denial> {
    let public = request.is_public(facts.sandbox);
    if !public && let Some(preflight) = &request.preflight {
        return evaluate_preflight(preflight, request, facts);
    }
    let caller = if public { None } else { Some(authenticate(request, facts)?) };
    let sandbox = authorize(request, facts, caller)?;
    match sandbox.state {
        SandboxState::Running => {}
        SandboxState::Snapshotting if purpose == Purpose::LiveStream => {}
        SandboxState::Pending | SandboxState::Snapshotting => return Err(Denial::SandboxNotReady),
        // Contract: "If a named sandbox is suspended, the proxy can auto-resume it when a request
        // arrives for an exposed port."
        SandboxState::Suspending | SandboxState::Suspended => {
            if sandbox.name.is_none() || !sandbox.auto_resume {
                return Err(Denial::SandboxNotRunning);
            }
            return Ok(Decision::Resume(ResumePermit {
                sandbox_id: sandbox.id.clone(),
                project_id: sandbox.project_id.clone(),
                public,
            }));
        }
        SandboxState::Terminated => return Err(Denial::SandboxNotFound),
    }
    let address = sandbox.address.ok_or(Denial::SandboxNotReady)?;
    if !config.is_sandbox_address(address) {
        return Err(Denial::SandboxUpstreamError);
    }
    let class = match (request.port, caller) {
        (Port::Management, _) => Class::Management,
        (Port::User(_), Some(_)) => Class::Authenticated,
        (Port::User(_), None) => Class::Anonymous,
    };
    let permit = Permit {
        sandbox: Arc::clone(sandbox),
        upstream: SocketAddr::new(address, request.port.get()),
        class,
        identity: caller.cloned(),
    };
    match (purpose, class) {
        (Purpose::LiveStream, _) => Ok(Decision::Permit(permit)),
        _ if config.shares().admit(class, &facts.in_flight) => Ok(Decision::Permit(permit)),
        (_, Class::Anonymous) => Ok(Decision::Evict(EvictionPermit(permit))),
        (_, Class::Authenticated | Class::Management) => Err(Denial::TooManyRequests),
    }
}

/// Decides about a CORS preflight to a port that needs a credential: the gateway answers it for trusted origins, and
/// denies it for others. The result is the same for sandboxes that do not exist, so that it does not reveal them.
fn evaluate_preflight(
    preflight: &Preflight,
    request: &SandboxRequest,
    facts: &RequestFacts<'_>,
) -> Result<Decision, Denial> {
    if request.port != Port::Management && *facts.sandbox == Resolved::Unavailable {
        return Err(Denial::SandboxUpstreamError);
    }
    match preflight {
        Preflight::Trusted(origin) => Ok(Decision::AnswerPreflight { origin: origin.clone() }),
        Preflight::Untrusted => Err(Denial::PreflightOrigin),
    }
}

/// The identity of the caller. The result does not reveal whether the sandbox exists.
fn authenticate<'a>(
    request: &SandboxRequest,
    facts: &RequestFacts<'a>,
) -> Result<&'a Arc<Identity>, Denial> {
    // The port may be public, and then no credential is evaluated.
    if request.port != Port::Management && *facts.sandbox == Resolved::Unavailable {
        return Err(Denial::SandboxUpstreamError);
    }
    let credential = request.credential.as_ref().map_err(|denial| *denial)?;
    let credential = credential.as_ref().ok_or(Denial::Unauthenticated)?;
    let identity = match facts.caller {
        Resolved::Found(identity) => identity,
        Resolved::NotFound => return Err(Denial::InvalidCredentials),
        Resolved::Unavailable => return Err(Denial::AuthServiceUnavailable),
    };
    if identity.expires_at.is_some_and(|expiry| facts.now >= expiry) {
        return Err(Denial::InvalidCredentials);
    }
    if credential.source() == CredentialSource::Cookie && request.forgeable {
        return Err(Denial::CrossOrigin);
    }
    Ok(identity)
}

/// Checks that the caller may reach the port of the sandbox. `caller` is `None` for a public port.
fn authorize<'a>(
    request: &SandboxRequest,
    facts: &RequestFacts<'a>,
    caller: Option<&Arc<Identity>>,
) -> Result<&'a Arc<KnownSandbox>, Denial> {
    let sandbox = match facts.sandbox {
        Resolved::Found(sandbox) if sandbox.state != SandboxState::Terminated => sandbox,
        Resolved::Found(_) | Resolved::NotFound => return Err(Denial::SandboxNotFound),
        Resolved::Unavailable => return Err(Denial::SandboxUpstreamError),
    };
    if let Some(caller) = caller {
        let member = caller.organization_id == sandbox.organization_id
            && caller.project_ids.contains(&sandbox.project_id);
        if !member {
            return Err(Denial::SandboxNotFound);
        }
    }
    if let Some(header_sandbox) = &request.header_sandbox {
        let named = header_sandbox.as_str();
        if named != sandbox.id.as_str() && Some(named) != sandbox.name.as_deref() {
            return Err(Denial::InvalidRequest(
                "X-Tensorlake-Sandbox-Id names another sandbox than the host",
            ));
        }
    }
    match request.port {
        // Contract: "Port 9501 is the built-in management API and is always routable through the
        // bare sandbox hostname."
        Port::Management => Ok(sandbox),
        // Contract: "For any other port, the proxy only forwards requests if that port is listed
        // in exposed_ports."
        Port::User(port) if sandbox.exposed_ports.contains(&port.get()) => Ok(sandbox),
        Port::User(_) => Err(Denial::PortNotExposed),
    }
}
