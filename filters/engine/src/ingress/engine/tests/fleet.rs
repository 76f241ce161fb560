//! The sandboxes and credentials that a control plane knows, and its responses.

use std::collections::BTreeMap;

use sandgate_policy::gateway_api::{
    Change, Changes, Identity, IntrospectRequest, Introspection, Sandbox, SandboxState,
};

use crate::ingress::Call;

/// The names of the sandboxes. All but the last exist.
pub(super) const NAMES: [&str; 5] = ["shop", "private", "asleep", "nap", "unknown"];
/// A credential that the control plane knows.
pub(super) const KEY: &str = "tl_key_0123456789abcdef";
/// A credential that it doesn't know.
pub(super) const BAD_KEY: &str = "tl_key_unknown_01234567";

pub(super) struct Fleet {
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    /// Whether [`KEY`] is valid.
    pub(super) is_key_valid: bool,
    /// The changes that the feed has not reported.
    pub(super) changes: Vec<Change>,
    /// Whether the feed has lost changes.
    pub(super) must_reset: bool,
    /// What decisions depend on, after each change.
    pub(super) history: Vec<Version>,
    revision: u64,
}

/// What decisions depend on, at one time.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) is_key_valid: bool,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let (running, suspended) = (SandboxState::Running, SandboxState::Suspended);
        let kinds = [(running, true), (running, false), (suspended, false), (suspended, true)];
        let sandboxes =
            NAMES.iter().zip(kinds).zip(1..).map(|((name, (state, public)), number)| {
                let sandbox = Sandbox {
                    id: format!("{name:0<20}{number}").parse().unwrap(),
                    name: Some((*name).to_owned()),
                    organization_id: "org".parse().unwrap(),
                    project_id: "project".parse().unwrap(),
                    state,
                    address: Some(format!("10.0.0.{number}").parse().expect("an address")),
                    exposed_ports: vec![8080],
                    allow_unauthenticated_access: public,
                    auto_resume: true,
                    generation: 1,
                };
                ((*name).to_owned(), sandbox)
            });
        let mut fleet = Self {
            sandboxes: sandboxes.collect(),
            is_key_valid: true,
            changes: Vec::new(),
            must_reset: true,
            history: Vec::new(),
            revision: 0,
        };
        fleet.record();
        fleet
    }

    fn record(&mut self) {
        let (sandboxes, is_key_valid) = (self.sandboxes.clone(), self.is_key_valid);
        self.history.push(Version { sandboxes, is_key_valid });
    }

    /// The index of the version that is true now.
    pub(super) fn version(&self) -> usize {
        self.history.len() - 1
    }

    /// Changes a sandbox, and queues the change for the feed.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Sandbox)) {
        if let Some(sandbox) = self.sandboxes.get_mut(name) {
            change(sandbox);
            let refs = vec![sandbox.id.to_string(), name.to_owned()];
            self.changes.push(Change::Sandbox { refs });
            self.record();
        }
    }

    /// Revokes [`KEY`], or makes it valid again.
    pub(super) fn set_key(&mut self, is_valid: bool) {
        self.is_key_valid = is_valid;
        self.changes.push(Change::Principal { id: "key".parse().unwrap() });
        self.record();
    }

    /// Status and body of the response to a call.
    pub(super) fn answer(&mut self, call: &Call) -> (u16, Vec<u8>) {
        if call.path.ends_with("/denials") {
            return (204, Vec::new());
        }
        if call.path.contains("/changes") {
            self.revision += 1;
            let changes = Changes {
                revision: self.revision.to_string(),
                reset: std::mem::take(&mut self.must_reset),
                changes: std::mem::take(&mut self.changes),
            };
            return (200, serde_json::to_vec(&changes).expect("JSON"));
        }
        if call.path.ends_with("/introspect") {
            let body = call.body.as_deref().unwrap_or_default();
            let request: IntrospectRequest = serde_json::from_slice(body).expect("a request");
            let identity = (request.secret == KEY && self.is_key_valid).then(|| Identity {
                principal: "key".parse().unwrap(),
                organization_id: "org".parse().unwrap(),
                project_ids: vec!["project".parse().unwrap(), "other".parse().unwrap()],
                expires_at: None,
            });
            return (200, serde_json::to_vec(&Introspection { identity }).expect("JSON"));
        }
        let path = call.path.trim_start_matches("/gateway/v1/sandboxes/");
        let name = path.trim_end_matches("/resume");
        let sandbox = self
            .sandboxes
            .values_mut()
            .find(|it| it.id == name || it.name.as_deref() == Some(name));
        let Some(sandbox) = sandbox else { return (404, Vec::new()) };
        if path.ends_with("/resume") && sandbox.state == SandboxState::Suspended {
            sandbox.state = SandboxState::Running;
        }
        let response = serde_json::to_vec(sandbox).expect("JSON");
        self.record();
        (200, response)
    }
}
