//! The configuration, the requests, and the facts that the tables share.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use sandgate_policy::gateway_api::{Identity, Sandbox, SandboxState};
use sandgate_policy::header::{Field, fields};
use sandgate_policy::ids::InvalidId;
use sandgate_policy::ingress::authority::HostName;
use sandgate_policy::ingress::concurrency::{Class, InFlight};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::domain::Domain;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::host::{InvalidHost, Target};
use sandgate_policy::ingress::{
    Decision, KnownSandbox, Request, RequestFacts, Resolved, SandboxRequest, decide,
};

/// Canonical id of the sandbox that the tables call `my-env`.
pub(crate) const ID: &str = "a1b2c3d4e5f6g7h8i9j0k";
/// Host of its port 8080.
pub(crate) const APP: &str = "8080-my-env.sandbox.example.com";
/// Host of its management API.
pub(crate) const MANAGEMENT: &str = "my-env.sandbox.example.com";
/// The time of the decisions in the tables, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A credential of each kind, in the form in which the platform issues it.
pub(crate) const KEY: &str = "tl_apiKey_0123456789abcdef";
pub(crate) const PAT: &str = "tl_pat_0123456789abcdef0123";
pub(crate) const SESSION: &str = "s0123456789abcdef0123";

/// The configuration of the tables: two domains, one trusted origin, four requests in flight.
pub(crate) fn config() -> IngressConfig {
    let json = br#"{
        "version": 1,
        "domains": ["sandbox.example.com", "local"],
        "api_hosts": ["api.example.com"],
        "control_plane": { "cluster": "control_plane" },
        "sandbox_cidrs": ["10.1.0.0/16", "fd00:1::/32"],
        "trusted_origins": ["https://app.example.com"],
        "limits": { "requests_per_sandbox": 4 }
    }"#;
    IngressConfig::from_json(json).expect("the tables' configuration is good")
}

/// The authority of a request, which must be well-formed.
pub(crate) fn authority(text: &str) -> HostName {
    HostName::parse(text.as_bytes()).expect("a well-formed authority")
}

/// The meaning of the authority of a request.
pub(crate) fn host(authority: &[u8], domains: &[Domain]) -> Result<Target, InvalidHost> {
    let authority = HostName::parse(authority).ok_or(InvalidHost::Malformed)?;
    Target::parse(&authority, domains)
}

/// The head of a request, as Envoy shows it to a filter.
#[derive(Clone, Debug)]
pub(crate) struct Req(Vec<(String, Vec<u8>)>);

impl Req {
    pub(crate) fn new(method: &str, authority: &str) -> Self {
        Self(Vec::new()).and(":method", method).and(":authority", authority).and(":path", "/")
    }

    pub(crate) fn get(authority: &str) -> Self {
        Self::new("GET", authority)
    }

    /// Adds a header; a name that stands already stands twice then.
    pub(crate) fn and(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn authority(mut self, authority: impl AsRef<[u8]>) -> Self {
        self.0.retain(|(name, _)| name != ":authority");
        self.and(":authority", authority)
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.0.retain(|(name, _)| name != ":path");
        self.and(":path", path)
    }

    /// A bearer credential in `Authorization`.
    pub(crate) fn bearer(self, secret: &str) -> Self {
        self.and("authorization", format!("Bearer {secret}"))
    }

    /// The session cookie, with its context.
    pub(crate) fn session(self) -> Self {
        self.and("cookie", format!("tl.session_token={SESSION}")).context()
    }

    /// The organization and project of `my-env`.
    pub(crate) fn context(self) -> Self {
        self.and("x-forwarded-organization-id", "org_1").and("x-forwarded-project-id", "proj_1")
    }

    pub(crate) fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.0
    }

    /// The fields, for `Head::new`.
    pub(crate) fn fields(&self) -> Vec<Field<'_>> {
        fields(&self.0)
    }
}

/// Parses an identifier.
#[track_caller]
pub(crate) fn id<T: FromStr<Err = InvalidId>>(text: &str) -> T {
    text.parse().expect("the table's identifier is valid")
}

/// A running sandbox with port 8080 exposed to those who authenticate.
pub(crate) fn my_env() -> Sandbox {
    Sandbox {
        id: id(ID),
        name: Some("my-env".into()),
        organization_id: id("org_1"),
        project_id: id("proj_1"),
        state: SandboxState::Running,
        address: Some(IpAddr::from([10, 1, 0, 2])),
        exposed_ports: vec![3000, 8080],
        allow_unauthenticated_access: false,
        auto_resume: true,
        generation: 7,
    }
}

/// Somebody of the organization and project of `my-env`.
pub(crate) fn member() -> Identity {
    Identity {
        principal: id("key_1"),
        organization_id: id("org_1"),
        project_ids: vec![id("proj_0"), id("proj_1")],
        expires_at: None,
    }
}

/// What is known while a request is judged.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) sandbox: Resolved<Sandbox>,
    pub(crate) caller: Resolved<Identity>,
    pub(crate) now: u64,
    pub(crate) in_flight: InFlight,
}

impl World {
    /// `my-env` runs, and the caller is a member of its project.
    pub(crate) fn new() -> Self {
        Self {
            sandbox: Resolved::Found(my_env()),
            caller: Resolved::Found(member()),
            now: NOW,
            in_flight: InFlight::default(),
        }
    }

    /// Changes the sandbox.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Sandbox)) -> Self {
        let mut sandbox = my_env();
        change(&mut sandbox);
        self.sandbox = Resolved::Found(sandbox);
        self
    }

    /// Makes the exposed ports public.
    pub(crate) fn public(self) -> Self {
        self.with(|sandbox| sandbox.allow_unauthenticated_access = true)
    }

    /// Changes the caller.
    pub(crate) fn by(mut self, change: impl FnOnce(&mut Identity)) -> Self {
        let mut caller = member();
        change(&mut caller);
        self.caller = Resolved::Found(caller);
        self
    }

    /// What the caches of a filter hold in this world.
    pub(crate) fn cached(&self) -> Cached {
        Cached {
            sandbox: found(&self.sandbox, KnownSandbox::from),
            caller: found(&self.caller, |identity| identity),
            now: self.now,
            in_flight: self.in_flight,
        }
    }
}

fn found<T: Clone, C>(resolved: &Resolved<T>, cached: impl Fn(T) -> C) -> Resolved<Arc<C>> {
    match resolved {
        Resolved::Found(value) => Resolved::Found(Arc::new(cached(value.clone()))),
        Resolved::NotFound => Resolved::NotFound,
        Resolved::Unavailable => Resolved::Unavailable,
    }
}

/// What the caches of a filter hold.
pub(crate) struct Cached {
    pub(crate) sandbox: Resolved<Arc<KnownSandbox>>,
    caller: Resolved<Arc<Identity>>,
    now: u64,
    in_flight: InFlight,
}

impl Cached {
    pub(crate) fn facts(&self) -> RequestFacts<'_> {
        let Self { sandbox, caller, now, in_flight } = self;
        RequestFacts { sandbox, caller, now: *now, in_flight: *in_flight }
    }
}

/// So many requests in flight, of each class.
pub(crate) fn in_flight(management: usize, authenticated: usize, anonymous: usize) -> InFlight {
    let mut in_flight = InFlight::default();
    let counts = [
        (Class::Management, management),
        (Class::Authenticated, authenticated),
        (Class::Anonymous, anonymous),
    ];
    for (class, count) in counts {
        (0..count).for_each(|_| in_flight.add(class));
    }
    in_flight
}

/// Parses a request to a sandbox. The error is the result of any other request, as text.
pub(crate) fn parsed(request: &Req) -> Result<Box<SandboxRequest>, String> {
    match Request::parse(Head::new(&request.fields()), &config()) {
        Ok(Request::Sandbox(parsed)) => Ok(parsed),
        Ok(Request::Api) => Err("public API".into()),
        Err(denial) => Err(refusal(denial)),
    }
}

/// The decision about a request, as text.
pub(crate) fn outcome(request: &Req, world: &World) -> String {
    match parsed(request) {
        Ok(parsed) => describe(&decide(&parsed, &world.cached().facts(), &config())),
        Err(text) => text,
    }
}

pub(crate) fn describe(decision: &Decision) -> String {
    match decision {
        Decision::AnswerPreflight { origin } => format!("preflight of {origin} answered"),
        Decision::Deny(denial) => refusal(*denial),
        Decision::Permit(permit) => {
            let caller = permit.caller().map_or("nobody", |caller| caller.principal.as_str());
            let upstream = format!("{}:{}", permit.upstream_host(), permit.upstream().port());
            assert_eq!(upstream, permit.upstream().to_string());
            format!("permit {upstream} for {caller}")
        }
        Decision::Evict(permit) => format!("evict for {}", permit.sandbox_id()),
        Decision::Resume(permit) if permit.is_public() => "resume for nobody".into(),
        Decision::Resume(_) => "resume for the caller".into(),
    }
}

pub(crate) fn refusal(denial: Denial) -> String {
    format!("{} {}", denial.status(), denial.code())
}
