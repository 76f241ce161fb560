//! Steps 3 and 4: what is known of sandbox and caller, and the one decision that rests on it.
//!
//! [`Request::parse`] says what must be known; [`decide`] judges it. Nothing here asks anybody: a
//! filter brings the facts and carries the [`Decision`] out.

use std::net::SocketAddr;

use crate::budget::{Class, InFlight};
use crate::config::IngressConfig;
use crate::credential::{Credential, Place};
use crate::denial::Denial;
use crate::gateway::{Identity, Sandbox, SandboxState};
use crate::head::Head;
use crate::host::{Host, Port, SandboxRef};
use crate::origin::{is_forgeable, is_preflight};
use crate::request_line;

mod standing;

pub use standing::{Ended, Standing, decide_again};

/// Names a sandbox on a bare domain; on a sandbox host it must agree with the host.
pub const SANDBOX_ID_HEADER: &str = "x-tensorlake-sandbox-id";

/// A request as far as it can be understood by itself. No `Debug`: it may hold a secret.
pub struct SandboxRequest {
    sandbox: SandboxRef,
    port: Port,
    declared: Option<SandboxRef>,
    credential: Result<Option<Credential>, Denial>,
    forgeable: bool,
    preflight: Option<Preflight>,
}

/// A CORS preflight, by its origin.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Preflight {
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
        if config.is_api_host(authority) {
            return Ok(Self::Api);
        }
        let host = Host::parse(authority, config.domains()).map_err(Denial::InvalidHost)?;
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
    pub fn needs_caller(&self, sandbox: Option<&Known<Sandbox>>) -> bool {
        let Some(credential) = self.credential() else { return false };
        if self.preflight.is_some() {
            return false;
        }
        match sandbox {
            Some(Known::CannotAsk) => self.port == Port::Management,
            Some(known) => !self.is_public(known),
            None => self.port == Port::Management || credential.place() != Place::OtherBearer,
        }
    }

    /// Contract: "To make a user port public on the internet, both of these conditions must be
    /// true: the port is in `exposed_ports`; `allow_unauthenticated_access=true`." And: "The
    /// management API on port 9501 never becomes public."
    fn is_public(&self, sandbox: &Known<Sandbox>) -> bool {
        match (sandbox, self.port) {
            (Known::Is(sandbox), Port::User(port)) => {
                sandbox.allow_unauthenticated_access
                    && sandbox.exposed_ports.contains(&port.get())
                    && sandbox.state != SandboxState::Terminated
            }
            (Known::Is(_), Port::Management) | (Known::IsNot | Known::CannotAsk, _) => false,
        }
    }
}

/// What is known of something that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Known<T> {
    /// It exists.
    Is(T),
    /// It does not exist.
    IsNot,
    /// The control plane can't be asked, and nothing usable is cached.
    CannotAsk,
}

/// The facts that a decision rests on.
pub struct Facts<'a> {
    /// The sandbox; what [`SandboxRequest::needs_sandbox`] does not ask for is not looked at.
    pub sandbox: &'a Known<Sandbox>,
    /// The caller; what [`SandboxRequest::needs_caller`] does not ask for is not looked at.
    pub caller: &'a Known<Identity>,
    /// Seconds since the Unix epoch.
    pub now: u64,
    /// Requests to this sandbox in flight through this VM, this one not counted.
    pub in_flight: InFlight,
}

/// What is to be done with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Answer the CORS preflight: its origin is trusted.
    AnswerPreflight {
        /// The trusted origin, as the operator spells it: never what the request said.
        origin: String,
    },
    /// Refuse.
    Deny(Denial),
    /// Forward.
    Permit(Permit),
    /// All places for anonymous requests to the sandbox are taken: forward in the place of another
    /// stream, if one gives way ([`crate::places`]), else refuse as [`Denial::TooManyRequests`].
    MakeRoom(NextPlace),
    /// Resume the sandbox, then ask again.
    Resume(ResumePermit),
}

/// Proof that a request may be forwarded, and to where. Only [`decide`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    sandbox_id: String,
    generation: u64,
    upstream: SocketAddr,
    class: Class,
    caller: Option<Caller>,
}

/// Proof that an anonymous request may be forwarded in the place of another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextPlace(Permit);

impl NextPlace {
    /// Canonical id of the sandbox whose places are all taken.
    #[must_use]
    pub fn sandbox_id(&self) -> &str {
        self.0.sandbox_id()
    }

    /// The permit, once another stream to the sandbox has given way.
    #[must_use]
    pub fn in_place_of_another(self) -> Permit {
        self.0
    }
}

/// Who sends a permitted request: verified, and safe to show to the sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// As in [`Identity::principal`].
    pub principal: String,
    /// The sandbox's organization, of which the caller is.
    pub organization_id: String,
    /// The sandbox's project, in which the caller may act.
    pub project_id: String,
    /// Seconds since the Unix epoch after which the credential is void.
    pub expires_at: Option<u64>,
}

impl Caller {
    /// Whether the credential has expired. `now` is in seconds since the Unix epoch.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expiry| now >= expiry)
    }
}

impl Permit {
    /// Canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &str {
        &self.sandbox_id
    }

    /// Names sandbox and address generation: connections are shared only within one value.
    #[must_use]
    pub fn connection_group(&self) -> String {
        format!("{}:{}", self.sandbox_id, self.generation)
    }

    /// The only address that the request may go to.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Whether another permit leads to the same sandbox at the same address.
    #[must_use]
    pub fn is_same_route(&self, other: &Self) -> bool {
        self.sandbox_id == other.sandbox_id
            && self.generation == other.generation
            && self.upstream == other.upstream
    }

    /// Which of the sandbox's places the request takes.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Who sends it; `None` on a public port, where nobody was asked.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

/// Proof that a request may resume a sandbox: its caller is authorized, or the port is public.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResumePermit {
    sandbox_id: String,
    project_id: String,
    public: bool,
}

impl ResumePermit {
    /// Canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &str {
        &self.sandbox_id
    }

    /// The project that the sandbox belongs to, and that whoever waits is counted for.
    #[must_use]
    pub fn project_id(&self) -> &str {
        &self.project_id
    }

    /// Nobody was asked for a credential.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.public
    }
}

/// Decides over a request. First match wins; whatever is missing ends in a denial.
#[must_use]
pub fn decide(request: &SandboxRequest, facts: &Facts<'_>, config: &IngressConfig) -> Decision {
    match judge(request, facts, config, Purpose::Begin) {
        Ok(decision) => decision,
        Err(denial) => Decision::Deny(denial),
    }
}

/// What a judgement is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// To forward a request.
    Begin,
    /// To let a stream go on that was forwarded.
    GoOn,
}

fn judge(
    request: &SandboxRequest,
    facts: &Facts<'_>,
    config: &IngressConfig,
    purpose: Purpose,
) -> Result<Decision, Denial> {
    let public = request.is_public(facts.sandbox);
    if !public && let Some(preflight) = &request.preflight {
        return judge_preflight(preflight, request, facts);
    }
    let caller = if public { None } else { Some(authenticate(request, facts)?) };
    let sandbox = authorize(request, facts, caller)?;
    match sandbox.state {
        SandboxState::Running => {}
        SandboxState::Snapshotting if purpose == Purpose::GoOn => {}
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
        sandbox_id: sandbox.id.clone(),
        generation: sandbox.generation,
        upstream: SocketAddr::new(address, request.port.get()),
        class,
        caller: caller.map(|identity| Caller {
            principal: identity.principal.clone(),
            organization_id: sandbox.organization_id.clone(),
            project_id: sandbox.project_id.clone(),
            expires_at: identity.expires_at,
        }),
    };
    match (purpose, class) {
        (Purpose::GoOn, _) => Ok(Decision::Permit(permit)),
        _ if config.shares().admit(class, &facts.in_flight) => Ok(Decision::Permit(permit)),
        (_, Class::Anonymous) => Ok(Decision::MakeRoom(NextPlace(permit))),
        (_, Class::Authenticated | Class::Management) => Err(Denial::TooManyRequests),
    }
}

/// "A CORS preflight to a port that needs a credential is answered by the gateway for trusted
/// origins, refused for others": the same for sandboxes that do not exist.
fn judge_preflight(
    preflight: &Preflight,
    request: &SandboxRequest,
    facts: &Facts<'_>,
) -> Result<Decision, Denial> {
    if request.port != Port::Management && *facts.sandbox == Known::CannotAsk {
        return Err(Denial::SandboxUpstreamError);
    }
    match preflight {
        Preflight::Trusted(origin) => Ok(Decision::AnswerPreflight { origin: origin.clone() }),
        Preflight::Untrusted => Err(Denial::PreflightOrigin),
    }
}

/// Who the caller is. Nothing here tells whether the sandbox exists.
fn authenticate<'a>(request: &SandboxRequest, facts: &Facts<'a>) -> Result<&'a Identity, Denial> {
    // The port might be public, where no credential is looked at.
    if request.port != Port::Management && *facts.sandbox == Known::CannotAsk {
        return Err(Denial::SandboxUpstreamError);
    }
    let credential = request.credential.as_ref().map_err(|denial| *denial)?;
    let credential = credential.as_ref().ok_or(Denial::Unauthenticated)?;
    let identity = match facts.caller {
        Known::Is(identity) => identity,
        Known::IsNot => return Err(Denial::InvalidCredentials),
        Known::CannotAsk => return Err(Denial::AuthServiceUnavailable),
    };
    if identity.expires_at.is_some_and(|expiry| facts.now >= expiry) {
        return Err(Denial::InvalidCredentials);
    }
    if credential.place() == Place::Cookie && request.forgeable {
        return Err(Denial::CrossOrigin);
    }
    Ok(identity)
}

/// Whether the caller (nobody on a public port) may reach the port of the sandbox.
fn authorize<'a>(
    request: &SandboxRequest,
    facts: &Facts<'a>,
    caller: Option<&Identity>,
) -> Result<&'a Sandbox, Denial> {
    let sandbox = match facts.sandbox {
        Known::Is(sandbox) if sandbox.state != SandboxState::Terminated => sandbox,
        Known::Is(_) | Known::IsNot => return Err(Denial::SandboxNotFound),
        Known::CannotAsk => return Err(Denial::SandboxUpstreamError),
    };
    if let Some(caller) = caller {
        let member = caller.organization_id == sandbox.organization_id
            && caller.project_ids.contains(&sandbox.project_id);
        if !member {
            return Err(Denial::SandboxNotFound);
        }
    }
    if let Some(declared) = &request.declared {
        let declared = declared.as_str();
        if declared != sandbox.id && Some(declared) != sandbox.name.as_deref() {
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
