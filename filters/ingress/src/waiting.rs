//! A request that is not decided yet: what it waits for, and for how long.

use sandgate_policy::gateway_api::Sandbox;
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::Client;
use sandgate_policy::ingress::{
    Decision, Lookup, RequestFacts, ResumePermit, SandboxRequest, decide,
};

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::lookups::{Fact, Key};
use crate::resolve::{AskerOf, Asks};

/// How long a client says that it waits for an answer, in milliseconds.
const CLIENT_TIMEOUT_HEADER: &str = "x-tensorlake-request-timeout-ms";
/// What is left to the client to receive the answer, of the time that it says, in milliseconds.
const CLIENT_MARGIN_MS: u64 = 500;
/// No client has a request wait longer than this for a resume, in milliseconds.
const PATIENCE_MAX_MS: u64 = 300_000;
/// Beyond the time limits of all lookups of a request, in milliseconds: a wait that ends here was
/// forgotten by the host.
const LOST_MS: u64 = 5_000;
/// Pause before asking again for a sandbox that an ended resume left not running, in milliseconds.
const RESUME_PAUSE_MS: u64 = 250;

/// A request that is not decided. No `Debug`: it may hold a secret.
pub(crate) struct Waiting {
    /// The client that sent it; set when the request asks its first question.
    client: Option<Client>,
    pub(crate) request: SandboxRequest,
    pub(crate) recipient: Recipient,
    arrived_at: u64,
    pub(crate) deadline: u64,
    pub(crate) patience: u64,
    missing: Vec<Key>,
    asked: Vec<Key>,
    rechecked: bool,
    pub(crate) gave_up: bool,
    pub(crate) resume: Option<ResumePermit>,
    pub(crate) resume_after: u64,
    refused: Option<(Denial, Option<u32>)>,
}

/// Where a request stands.
pub(crate) enum Verdict {
    /// Decided; with the seconds for `Retry-After`, where they are known.
    Decided(Decision, Option<u32>),
    /// Something must be known first.
    Wait,
}

impl Verdict {
    /// Whether the request might be permitted if it had a place to wait.
    pub(crate) fn is_for_want_of_knowledge(&self) -> bool {
        matches!(
            self,
            Self::Decided(
                Decision::Deny(
                    Denial::AuthServiceUnavailable
                        | Denial::SandboxUpstreamError
                        | Denial::SandboxNotReady
                ),
                _
            )
        )
    }

    pub(crate) fn deny(denial: Denial) -> Self {
        Self::Decided(Decision::Deny(denial), None)
    }
}

impl Waiting {
    pub(crate) fn new(
        request: SandboxRequest,
        head: Head<'_>,
        recipient: Recipient,
        now: u64,
        config: &IngressConfig,
        has_room: bool,
    ) -> Self {
        let said = head.first(CLIENT_TIMEOUT_HEADER).and_then(|v| std::str::from_utf8(v).ok());
        let patience = match said.and_then(|text| text.parse::<u64>().ok()) {
            Some(ms) => ms.saturating_sub(CLIENT_MARGIN_MS).min(PATIENCE_MAX_MS),
            None => config.limits().resume_wait_ms.into(),
        };
        Self {
            client: None,
            request,
            recipient,
            arrived_at: now,
            deadline: now
                .saturating_add(u64::from(config.control_plane().timeout_ms).saturating_mul(3))
                .saturating_add(LOST_MS),
            patience,
            missing: Vec::new(),
            asked: Vec::new(),
            rechecked: false,
            gave_up: !has_room,
            resume: None,
            resume_after: 0,
            refused: None,
        }
    }

    /// Whether it waits for a resume of one of the project's sandboxes.
    pub(crate) fn is_for(&self, project_id: &str) -> bool {
        self.resume.as_ref().is_some_and(|permit| permit.project_id() == project_id)
    }

    /// The client that sent it.
    pub(crate) fn client(&self) -> Client {
        self.client.unwrap_or(Client::Unknown)
    }

    /// The request, and the state of its questions.
    pub(crate) fn asks(&mut self, id: u32, may_ask: bool) -> (&SandboxRequest, Asks<'_>) {
        let Self { client, request, arrived_at, missing, asked, .. } = self;
        let asker = AskerOf::Request(client);
        (request, Asks { id, asker, since: *arrived_at, may_ask, missing, asked })
    }

    /// Lets the request wait, because another one has given way.
    pub(crate) fn may_wait(&mut self, client: Client) {
        self.client = Some(client);
        self.gave_up = false;
    }

    /// Refuses the request, because it gives its place to wait to another one.
    pub(crate) fn give_way(&mut self) {
        self.refused = Some((Denial::SandboxNotReady, None));
    }

    /// What it waits to be told.
    pub(crate) fn missing(&self) -> &[Key] {
        &self.missing
    }

    /// Whether something is to be done without an answer.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.deadline || (self.missing.is_empty() && now >= self.resume_after)
    }

    pub(crate) fn on_due(&mut self, now: u64) {
        if now >= self.deadline {
            self.refused = Some((self.given_up(), None));
        }
    }

    /// Why a request is refused that can't wait any longer.
    pub(crate) fn given_up(&self) -> Denial {
        if self.resume.is_some() {
            return Denial::SandboxNotReady;
        }
        match self.missing.iter().any(|key| matches!(key, Key::Sandbox(_))) {
            true => Denial::SandboxUpstreamError,
            false => Denial::AuthServiceUnavailable,
        }
    }

    /// Takes in that a question was answered; whether the request may go on now.
    pub(crate) fn on_answer(&mut self, key: &Key, fact: Option<&Fact>, now: u64) -> bool {
        self.missing.retain(|missing| missing != key);
        match (key, fact) {
            (Key::Resume { .. }, None) => self.refused = Some((Denial::SandboxNotReady, None)),
            (Key::Resume { .. }, Some(Fact::NotResumable)) => {
                self.refused = Some((Denial::SandboxNotRunning, None));
            }
            (Key::Resume { .. }, Some(Fact::ResumeLimited(seconds))) => {
                self.refused = Some((Denial::SandboxNotReady, Some(*seconds)));
            }
            (Key::Resume { .. }, Some(Fact::Sandbox(None))) => {
                self.refused = Some((Denial::SandboxNotFound, None));
            }
            (Key::Resume { .. }, Some(_)) => {
                self.resume_after = now.saturating_add(RESUME_PAUSE_MS);
            }
            (_, None) => self.gave_up = true,
            (_, Some(_)) => {}
        }
        self.missing.is_empty()
    }
}

impl Gateway {
    /// Decides over a request, or says what it must wait for.
    pub(crate) fn step(&mut self, id: u32, waiting: &mut Waiting, now: Now) -> Verdict {
        if let Some((denial, retry_after)) = waiting.refused {
            return Verdict::Decided(Decision::Deny(denial), retry_after);
        }
        let may_ask = !waiting.gave_up;
        let (request, mut asks) = waiting.asks(id, may_ask);
        let (Some(sandbox), Some(caller)) = self.know(request, &mut asks, now) else {
            return Verdict::Wait;
        };
        let in_flight = match &sandbox {
            Lookup::Found(sandbox) => self.live.in_flight(&sandbox.id),
            Lookup::NotFound | Lookup::Unavailable => InFlight::default(),
        };
        let facts =
            RequestFacts { sandbox: &sandbox, caller: &caller, now: now.unix_seconds, in_flight };
        match decide(request, &facts, &self.config) {
            Decision::Deny(Denial::TooManyRequests) => Verdict::deny(Denial::TooManyRequests),
            Decision::Deny(_) if self.recheck(id, waiting, &sandbox, now) => Verdict::Wait,
            // It is on its way up since the resume: pending, perhaps.
            Decision::Deny(Denial::SandboxNotReady) => match waiting.resume.clone() {
                Some(permit) => self.resume(id, waiting, &permit, now),
                None => Verdict::deny(Denial::SandboxNotReady),
            },
            Decision::Resume(permit) => self.resume(id, waiting, &permit, now),
            decision => Verdict::Decided(decision, None),
        }
    }

    /// "A denial that rests on a cached entry older than a moment asks again once (rate-limited)":
    /// whether it does.
    fn recheck(
        &mut self,
        id: u32,
        waiting: &mut Waiting,
        sandbox: &Lookup<Sandbox>,
        now: Now,
    ) -> bool {
        if waiting.rechecked || waiting.gave_up || waiting.resume.is_some() {
            return false;
        }
        waiting.rechecked = true;
        let (request, mut asks) = waiting.asks(id, true);
        let name = request.sandbox().as_str().to_owned();
        let key = Key::Sandbox(name.clone());
        // What was asked for this very request, in the same millisecond, is not asked again.
        let before = |asks: &Asks<'_>, key: &Key| match asks.asked.contains(key) {
            true => asks.since.saturating_sub(1),
            false => asks.since,
        };
        if request.needs_sandbox() && self.sandboxes.may_recheck(&name, before(&asks, &key), now.ms)
        {
            self.ask(key, request, &mut asks, now);
        }
        if request.needs_caller(Some(sandbox))
            && let Some(credential) = request.credential().map(|credential| credential.key())
            && self.callers.may_recheck(
                &credential,
                before(&asks, &Key::Caller(credential)),
                now.ms,
            )
        {
            self.ask(Key::Caller(credential), request, &mut asks, now);
        }
        let asked = !asks.missing.is_empty();
        if asked {
            self.metrics.recheck();
        }
        asked
    }
}
