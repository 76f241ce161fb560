//! A gateway API in memory: sandboxes, credentials, resumes, and the change feed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::host::{Answer, Call, Headers};
use sandgate_policy::denials::{InboundReport, MAX_SANDBOXES};
use sandgate_policy::gateway_api::{
    Change, Changes, CredentialKind, ErrorBody, Identity, IntrospectRequest, Introspection,
    MARKER_HEADER, MARKER_VALUE, ResumeRequest, Sandbox, SandboxState,
};
use serde::Serialize;

use super::{
    ASLEEP, KEY, MY_ENV, NAMELESS, ORGANIZATION, PAT, PLAIN_KEY, PROJECT, SESSION, SHOP, THEIRS,
};

/// The behaviour of the control plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Health {
    Good,
    /// Connections are refused.
    Down,
    /// Calls get no response.
    Hangs,
    /// Calls end without any response.
    Breaks,
    /// Another server responds, without the marker header.
    Impostor,
    /// The control plane responds with this status and the marker header.
    Status(u16),
}

pub(crate) struct Fleet {
    pub(crate) health: Health,
    /// Whether the change feed works. The other calls do.
    pub(crate) feed: bool,
    /// The duration of each lookup.
    pub(crate) delay: Duration,
    /// The sandbox, by name or id, whose lookups get no response.
    pub(crate) hang_on: Option<String>,
    /// The duration of a resume.
    pub(crate) resume_time: Duration,
    /// The response to every resume, instead of a resume.
    pub(crate) resume_answer: Option<Answer>,
    sandboxes: BTreeMap<String, Sandbox>,
    credentials: BTreeMap<String, (CredentialKind, Identity)>,
    changes: Vec<Change>,
    awake_at: BTreeMap<String, Duration>,
}

pub(crate) fn sandbox(id: &str, name: Option<&str>, address: &str, ports: &[u16]) -> Sandbox {
    Sandbox {
        id: id.parse().expect("an id"),
        name: name.map(str::to_owned),
        organization_id: ORGANIZATION.parse().expect("an id"),
        project_id: PROJECT.parse().expect("an id"),
        state: SandboxState::Running,
        address: Some(address.parse().expect("an address")),
        exposed_ports: ports.to_vec(),
        allow_unauthenticated_access: false,
        auto_resume: true,
        generation: 1,
    }
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let mut fleet = Self {
            health: Health::Good,
            feed: true,
            delay: Duration::ZERO,
            resume_time: Duration::from_secs(2),
            resume_answer: None,
            hang_on: None,
            sandboxes: BTreeMap::new(),
            credentials: BTreeMap::new(),
            changes: Vec::new(),
            awake_at: BTreeMap::new(),
        };
        fleet.put(sandbox(MY_ENV, Some("my-env"), "127.64.0.2", &[3000, 8080, 50051]));
        let shop = sandbox(SHOP, Some("shop"), "127.64.0.3", &[8080]);
        fleet.put(Sandbox { allow_unauthenticated_access: true, ..shop });
        let theirs = sandbox(THEIRS, Some("theirs"), "127.64.0.4", &[8080]);
        fleet.put(Sandbox {
            organization_id: "org_2".parse().expect("an id"),
            project_id: "proj_2".parse().expect("an id"),
            ..theirs
        });
        let asleep = sandbox(ASLEEP, Some("asleep"), "127.64.0.5", &[8080]);
        fleet.put(Sandbox { state: SandboxState::Suspended, address: None, ..asleep });
        fleet.put(sandbox(NAMELESS, None, "127.64.0.6", &[8080]));
        fleet.allow(KEY, CredentialKind::ApiKey, "key_1");
        fleet.allow(PLAIN_KEY, CredentialKind::ApiKey, "key_2");
        fleet.allow(PAT, CredentialKind::PersonalAccessToken, "user_alice");
        fleet.allow(SESSION, CredentialKind::Session, "user_alice");
        fleet
    }

    /// Adds or replaces a sandbox, and publishes the change in the feed.
    pub(crate) fn put(&mut self, sandbox: Sandbox) {
        let refs =
            [Some(sandbox.id.to_string()), sandbox.name.clone()].into_iter().flatten().collect();
        self.sandboxes.insert(sandbox.id.to_string(), sandbox);
        self.changes.push(Change::Sandbox { refs });
    }

    /// Changes a sandbox, and publishes the change in the feed.
    pub(crate) fn change(&mut self, id: &str, change: impl FnOnce(&mut Sandbox)) {
        let mut sandbox = self.sandboxes.get(id).expect("a known sandbox").clone();
        change(&mut sandbox);
        self.put(sandbox);
    }

    /// Changes a sandbox without publishing the change.
    pub(crate) fn change_quietly(&mut self, id: &str, change: impl FnOnce(&mut Sandbox)) {
        change(self.sandboxes.get_mut(id).expect("a known sandbox"));
    }

    /// The current state of a sandbox.
    pub(crate) fn sandbox(&self, name: &str) -> Option<&Sandbox> {
        self.find(name)
    }

    /// Whether a credential is valid.
    pub(crate) fn knows(&self, secret: &str) -> bool {
        self.credentials.contains_key(secret)
    }

    /// Adds a credential in the usual organization and project.
    pub(crate) fn allow(&mut self, secret: &str, kind: CredentialKind, principal: &str) {
        let identity = Identity {
            principal: principal.parse().expect("an id"),
            organization_id: ORGANIZATION.parse().expect("an id"),
            project_ids: vec![PROJECT.parse().expect("an id")],
            expires_at: None,
        };
        self.credentials.insert(secret.to_owned(), (kind, identity));
    }

    pub(crate) fn expire(&mut self, secret: &str, at: u64) {
        self.credentials.get_mut(secret).expect("a known credential").1.expires_at = Some(at);
    }

    /// Revokes a credential, and publishes the change in the feed.
    pub(crate) fn revoke(&mut self, secret: &str) {
        let (_, identity) = self.credentials.remove(secret).expect("a known credential");
        self.changes.push(Change::Principal { id: identity.principal });
    }

    /// Responds to a call of the filter.
    pub(crate) fn answer(&mut self, call: &Call) -> Answer {
        match self.health {
            Health::Good => {}
            Health::Down => return Answer::connection_refused(),
            Health::Hangs => return Answer::silence(),
            Health::Breaks => return Answer::broken(),
            Health::Impostor => return Answer::respond(200, &Headers::new(), "{}"),
            Health::Status(status) => return marked(status, &error("IN_TROUBLE")),
        }
        let path = call.path();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (call.method().as_str(), parts.as_slice()) {
            ("GET", ["gateway", "v1", "sandboxes", name]) if self.hangs_on(name) => {
                Answer::silence()
            }
            ("GET", ["gateway", "v1", "sandboxes", name]) => self.resolve(name).after(self.delay),
            ("POST", ["gateway", "v1", "credentials", "introspect"]) => {
                self.introspect(&call.body).after(self.delay)
            }
            ("POST", ["gateway", "v1", "sandboxes", id, "resume"]) => self.resume(id, call),
            ("POST", ["gateway", "v1", "denials"]) => report(&call.body),
            ("GET", ["gateway", "v1", "changes"]) if self.feed => self.changes(query, call),
            ("GET", ["gateway", "v1", "changes"]) => Answer::connection_refused(),
            (method, _) => panic!("the gateway API has no {method} {path}"),
        }
    }

    fn find(&self, name: &str) -> Option<&Sandbox> {
        let named = |sandbox: &&Sandbox| sandbox.name.as_deref() == Some(name);
        self.sandboxes.get(name).or_else(|| self.sandboxes.values().find(named))
    }

    fn hangs_on(&self, name: &str) -> bool {
        let found = self.find(name).map(|sandbox| sandbox.id.as_str());
        found.is_some() && found == self.hang_on.as_deref()
    }

    fn resolve(&self, name: &str) -> Answer {
        match self.find(name) {
            Some(sandbox) => marked(200, sandbox),
            None => marked(404, &error("SANDBOX_NOT_FOUND")),
        }
    }

    fn introspect(&self, body: &[u8]) -> Answer {
        let request = serde_json::from_slice(body).expect("a valid body");
        marked(200, &Introspection { identity: self.identity(&request) })
    }

    /// The identity that a credential belongs to.
    pub(crate) fn identity(&self, request: &IntrospectRequest) -> Option<Identity> {
        let (kind, identity) = self.credentials.get(&request.secret)?;
        if *kind != request.kind {
            return None;
        }
        let mut identity = identity.clone();
        if *kind != CredentialKind::ApiKey {
            let (organization, project) = (&request.organization_id, &request.project_id);
            let member = organization.as_ref() == Some(&identity.organization_id);
            identity.project_ids.retain(|id| member && Some(id) == project.as_ref());
        }
        Some(identity)
    }

    fn resume(&mut self, id: &str, call: &Call) -> Answer {
        if let Some(answer) = &self.resume_answer {
            return answer.clone();
        }
        let request: ResumeRequest = serde_json::from_slice(&call.body).expect("a valid body");
        let now = call.sent_at + call.waited;
        let awake_at = *self.awake_at.entry(id.to_owned()).or_insert(now + self.resume_time);
        let Some(sandbox) = self.sandboxes.get(id) else {
            return marked(404, &error("SANDBOX_NOT_FOUND"));
        };
        if now >= awake_at && sandbox.state != SandboxState::Running {
            self.change(id, |sandbox| {
                sandbox.state = SandboxState::Running;
                sandbox.address = Some("127.64.0.5".parse().expect("an address"));
                sandbox.generation += 1;
            });
        }
        let hold = Duration::from_millis(request.wait_ms);
        let sandbox = &self.sandboxes[id];
        if sandbox.state == SandboxState::Running || call.waited >= hold {
            return marked(200, sandbox);
        }
        Answer::hold(hold.min(awake_at.saturating_sub(call.sent_at)))
    }

    fn changes(&self, query: &str, call: &Call) -> Answer {
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        assert!(parameter("watcher").is_some_and(|watcher| !watcher.is_empty()), "{query}");
        let revision = self.changes.len().to_string();
        let since = parameter("since").and_then(|since| since.parse::<usize>().ok());
        let Some(new) = since.and_then(|since| self.changes.get(since..)) else {
            return marked(200, &Changes { revision, reset: true, changes: vec![] });
        };
        let wait = parameter("wait_ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let wait = Duration::from_millis(wait);
        if new.is_empty() && call.waited < wait {
            return Answer::hold(wait);
        }
        marked(200, &Changes { revision, reset: false, changes: new.to_vec() })
    }
}

fn report(body: &[u8]) -> Answer {
    let report: InboundReport = serde_json::from_slice(body).expect("a report");
    assert!(report.sandboxes.len() <= MAX_SANDBOXES);
    marked(204, &())
}

/// A response of the gateway API.
pub(crate) fn marked(status: u16, body: &impl Serialize) -> Answer {
    let headers = Headers::new().with(MARKER_HEADER, MARKER_VALUE);
    let headers = headers.with("content-type", "application/json");
    Answer::respond(status, &headers, serde_json::to_vec(body).expect("JSON"))
}

pub(crate) fn error(code: &str) -> ErrorBody {
    ErrorBody { error: "an error of the fleet".into(), code: code.into() }
}
