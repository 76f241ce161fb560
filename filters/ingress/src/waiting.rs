//! One request from its arrival to its decision: what it knows, what it waits for, how long.

use sandgate_policy::config::IngressConfig;
use sandgate_policy::denial::Denial;
use sandgate_policy::gateway::{Identity, Sandbox, SandboxState};
use sandgate_policy::head::Head;
use sandgate_policy::ingress::{Decision, Facts, Inquiry, Known, ResumePermit, decide};
use sandgate_policy::recipient::Recipient;

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::lookups::{Fact, Key};

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
    pub(crate) inquiry: Inquiry,
    pub(crate) recipient: Recipient,
    arrived_at: u64,
    deadline: u64,
    patience: u64,
    missing: Vec<Key>,
    asked: Vec<Key>,
    rechecked: bool,
    gave_up: bool,
    resume: Option<ResumePermit>,
    resume_after: u64,
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
    fn deny(denial: Denial) -> Self {
        Self::Decided(Decision::Deny(denial), None)
    }
}

impl Waiting {
    pub(crate) fn new(
        inquiry: Inquiry,
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
            inquiry,
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
        let Waiting { inquiry, arrived_at, gave_up, missing, asked, .. } = waiting;
        let mut asks = Asks { id, since: *arrived_at, may_ask: !*gave_up, missing, asked };
        let (Some(sandbox), Some(caller)) = self.know(inquiry, &mut asks, now) else {
            return Verdict::Wait;
        };
        let in_flight = match &sandbox {
            Known::Is(sandbox) => self.live.in_flight(&sandbox.id),
            Known::IsNot | Known::CannotAsk => 0,
        };
        let facts = Facts { sandbox: &sandbox, caller: &caller, now: now.unix_seconds, in_flight };
        match decide(inquiry, &facts, &self.config) {
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

    /// Whether a live stream would still be permitted: `None` when that can't be said yet, the
    /// reason when it would not be.
    pub(crate) fn rejudge(&mut self, id: u32, now: Now) -> Option<Option<&'static str>> {
        let live = self.live.take(id)?;
        let (mut missing, mut asked) = (Vec::new(), Vec::new());
        let mut asks =
            Asks { id, since: now.ms, may_ask: true, missing: &mut missing, asked: &mut asked };
        let known = self.know(&live.inquiry, &mut asks, now);
        let verdict = match &known {
            (Some(sandbox), Some(caller)) => {
                let facts = Facts { sandbox, caller, now: now.unix_seconds, in_flight: 0 };
                match decide(&live.inquiry, &facts, &self.config) {
                    Decision::Permit(permit) if permit.is_same_route(&live.permit) => Some(None),
                    Decision::Permit(_) => Some(Some("closed.MOVED")),
                    Decision::AnswerPreflight { .. } => Some(None),
                    Decision::Resume(_) => Some(Some("closed.SANDBOX_NOT_RUNNING")),
                    // Not a reason to end what runs: it is judged when the answer can be had.
                    Decision::Deny(
                        Denial::AuthServiceUnavailable | Denial::SandboxUpstreamError,
                    ) => None,
                    // It runs on, at the same address, when the snapshot is taken.
                    Decision::Deny(Denial::SandboxNotReady) if is_snapshotting(sandbox) => {
                        Some(None)
                    }
                    Decision::Deny(_) => Some(Some("closed.NOT_PERMITTED")),
                }
            }
            _ => None,
        };
        self.live.put_back(id, live);
        verdict
    }

    /// What is known of sandbox and caller; what is `None` was asked for.
    fn know(
        &mut self,
        inquiry: &Inquiry,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> (Option<Known<Sandbox>>, Option<Known<Identity>>) {
        let sandbox = match inquiry.needs_sandbox() {
            true => self.know_sandbox(inquiry, asks, now),
            false => Some(Known::IsNot),
        };
        let caller = match inquiry.needs_caller(sandbox.as_ref()) {
            true => self.know_caller(inquiry, asks, now),
            false => Some(Known::IsNot),
        };
        (sandbox, caller)
    }

    fn know_sandbox(
        &mut self,
        inquiry: &Inquiry,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> Option<Known<Sandbox>> {
        let name = inquiry.sandbox().as_str().to_owned();
        let covered = self.feed.covered_since();
        if let Some(entry) = self.sandboxes.fresh(&name, now.ms, covered, asks.since) {
            return Some(entry.value().map_or(Known::IsNot, |sandbox| Known::Is(sandbox.clone())));
        }
        if asks.may_ask && self.ask(Key::Sandbox(name.clone()), inquiry, asks, now) {
            return None;
        }
        let stale = self.sandboxes.stale(&name, now.ms);
        Some(stale.map_or(Known::CannotAsk, |sandbox| Known::Is(sandbox.clone())))
    }

    fn know_caller(
        &mut self,
        inquiry: &Inquiry,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> Option<Known<Identity>> {
        let Some(credential) = inquiry.credential() else { return Some(Known::IsNot) };
        let key = credential.key();
        let covered = self.feed.covered_since();
        if let Some(entry) = self.callers.fresh(&key, now.ms, covered, asks.since) {
            return Some(entry.value().map_or(Known::IsNot, |caller| Known::Is(caller.clone())));
        }
        if asks.may_ask && self.ask(Key::Caller(key), inquiry, asks, now) {
            return None;
        }
        let stale = self.callers.stale(&key, now.ms);
        Some(stale.map_or(Known::CannotAsk, |caller| Known::Is(caller.clone())))
    }

    fn ask(&mut self, key: Key, inquiry: &Inquiry, asks: &mut Asks<'_>, now: Now) -> bool {
        if !self.lookups.ask(&key, inquiry.credential(), asks.id, now.ms) {
            return false;
        }
        if !asks.missing.contains(&key) {
            asks.missing.push(key.clone());
        }
        asks.asked.push(key);
        true
    }

    /// "A denial that rests on a cached entry older than a moment asks again once (rate-limited)":
    /// whether it does.
    fn recheck(
        &mut self,
        id: u32,
        waiting: &mut Waiting,
        sandbox: &Known<Sandbox>,
        now: Now,
    ) -> bool {
        if waiting.rechecked || waiting.gave_up || waiting.resume.is_some() {
            return false;
        }
        waiting.rechecked = true;
        let Waiting { inquiry, arrived_at, missing, asked, .. } = waiting;
        let name = inquiry.sandbox().as_str().to_owned();
        let key = Key::Sandbox(name.clone());
        let mut asks = Asks { id, since: *arrived_at, may_ask: true, missing, asked };
        // What was asked for this very request, in the same millisecond, is not asked again.
        let before = |asks: &Asks<'_>, key: &Key| match asks.asked.contains(key) {
            true => asks.since.saturating_sub(1),
            false => asks.since,
        };
        if inquiry.needs_sandbox() && self.sandboxes.may_recheck(&name, before(&asks, &key), now.ms)
        {
            self.ask(key, inquiry, &mut asks, now);
        }
        if inquiry.needs_caller(Some(sandbox))
            && let Some(credential) = inquiry.credential().map(|credential| credential.key())
            && self.callers.may_recheck(
                &credential,
                before(&asks, &Key::Caller(credential)),
                now.ms,
            )
        {
            self.ask(Key::Caller(credential), inquiry, &mut asks, now);
        }
        let asked = !asks.missing.is_empty();
        if asked {
            self.metrics.recheck();
        }
        asked
    }

    /// Has the sandbox resumed, by one call however many wait, and waits for it.
    fn resume(
        &mut self,
        id: u32,
        waiting: &mut Waiting,
        permit: &ResumePermit,
        now: Now,
    ) -> Verdict {
        if waiting.resume.is_none() {
            // One project's sandboxes, slow to resume, must leave room for others to wait.
            let room = self.config.limits().resume_waiters_per_project;
            if self.resuming(permit.project_id()) >= room {
                return Verdict::deny(Denial::SandboxNotReady);
            }
            // Nobody is accountable for how long an anonymous client says that it waits.
            let patience = match permit.is_public() {
                true => waiting.patience.min(self.config.limits().resume_wait_ms.into()),
                false => waiting.patience,
            };
            waiting.deadline = now.ms.saturating_add(patience);
        }
        waiting.resume = Some(permit.clone());
        if waiting.gave_up || now.ms >= waiting.deadline {
            return Verdict::deny(Denial::SandboxNotReady);
        }
        if now.ms < waiting.resume_after {
            return Verdict::Wait;
        }
        let sandbox_id = permit.sandbox_id().to_owned();
        let by_caller = Key::Resume { sandbox_id: sandbox_id.clone(), public: false };
        let key = match permit.is_public() && !self.lookups.is_under_way(&by_caller) {
            true => Key::Resume { sandbox_id, public: true },
            false => by_caller,
        };
        if matches!(key, Key::Resume { public: true, .. })
            && !self.lookups.is_under_way(&key)
            && let Some(seconds) = self.limit_public_resume(permit.sandbox_id(), now.ms)
        {
            return Verdict::Decided(Decision::Deny(Denial::SandboxNotReady), Some(seconds));
        }
        let Waiting { inquiry, arrived_at, missing, asked, .. } = waiting;
        let mut asks = Asks { id, since: *arrived_at, may_ask: true, missing, asked };
        match self.ask(key, inquiry, &mut asks, now) {
            true => Verdict::Wait,
            false => Verdict::deny(Denial::SandboxNotReady),
        }
    }

    /// "Resume through a public port once per sandbox in 10 s": seconds to wait, if too soon.
    fn limit_public_resume(&mut self, sandbox_id: &str, now: u64) -> Option<u32> {
        let interval = u64::from(self.config.limits().public_resume_interval_ms);
        self.public_resumes.retain(|_, at| now.saturating_sub(*at) < interval);
        if let Some(at) = self.public_resumes.get(sandbox_id) {
            let left_ms = interval.saturating_sub(now.saturating_sub(*at));
            return Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX));
        }
        self.public_resumes.insert(sandbox_id.to_owned(), now);
        None
    }
}

fn is_snapshotting(sandbox: &Known<Sandbox>) -> bool {
    matches!(sandbox, Known::Is(sandbox) if sandbox.state == SandboxState::Snapshotting)
}

/// What one stream asks for.
struct Asks<'a> {
    id: u32,
    /// An answer to a question asked since then is believed, however long it took.
    since: u64,
    may_ask: bool,
    missing: &'a mut Vec<Key>,
    asked: &'a mut Vec<Key>,
}
