//! One request from its arrival to its decision: what it knows, what it waits for, how long.

use sandgate_policy::budget::InFlight;
use sandgate_policy::config::IngressConfig;
use sandgate_policy::denial::Denial;
use sandgate_policy::gateway::{Identity, Sandbox};
use sandgate_policy::head::Head;
use sandgate_policy::ingress::{
    Decision, Ended, Facts, Inquiry, Known, ResumePermit, Standing, decide, decide_again,
};
use sandgate_policy::places::Client;
use sandgate_policy::recipient::Recipient;

use crate::clock::Now;
use crate::crowding::{client, client_of};
use crate::gateway::Gateway;
use crate::lookups::{Asker, Fact, Key};

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
    /// Whose it is; known as soon as it asks something.
    client: Option<Client>,
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
    /// Whether it could be another one if the request could wait.
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
            client: None,
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

    /// Whose it is.
    pub(crate) fn client(&self) -> Client {
        self.client.unwrap_or(Client::Unknown)
    }

    /// There is room to wait after all.
    pub(crate) fn may_wait(&mut self, client: Client) {
        self.client = Some(client);
        self.gave_up = false;
    }

    /// Its place to wait is another request's now.
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
        let Waiting { client, inquiry, arrived_at, gave_up, missing, asked, .. } = waiting;
        let asker = AskerOf::Request(client);
        let mut asks = Asks { id, asker, since: *arrived_at, may_ask: !*gave_up, missing, asked };
        let (Some(sandbox), Some(caller)) = self.know(inquiry, &mut asks, now) else {
            return Verdict::Wait;
        };
        let in_flight = match &sandbox {
            Known::Is(sandbox) => self.live.in_flight(&sandbox.id),
            Known::IsNot | Known::CannotAsk => InFlight::default(),
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

    /// Judges a live stream again. If it goes on, it rests on the new permit. Gives back why it must
    /// be closed; [`Judged::NotYet`] when something must be known first.
    pub(crate) fn rejudge(&mut self, id: u32, now: Now) -> Judged {
        let Some(mut live) = self.live.take(id) else { return Judged::GoesOn };
        let (mut missing, mut asked) = (Vec::new(), Vec::new());
        let mut asks = Asks {
            id,
            asker: AskerOf::LiveStream,
            since: now.ms,
            may_ask: true,
            missing: &mut missing,
            asked: &mut asked,
        };
        let standing = match &self.know(&live.inquiry, &mut asks, now) {
            (Some(sandbox), Some(caller)) => {
                let in_flight = InFlight::default();
                let facts = Facts { sandbox, caller, now: now.unix_seconds, in_flight };
                decide_again(&live.inquiry, &live.permit, &facts, &self.config)
            }
            _ => Standing::Unknown,
        };
        let judged = match standing {
            Standing::Permitted(permit) => {
                let root_id = self.root_id;
                self.live.rest_on(id, &mut live, permit, now.ms, || client_of(id, root_id));
                Judged::GoesOn
            }
            Standing::Ended(why) => Judged::Ends(why),
            Standing::Unknown => Judged::NotYet,
        };
        self.live.put_back(id, live);
        judged
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
        let asker = match &mut asks.asker {
            // The first question of a request is asked while its stream is the effective one.
            AskerOf::Request(of) => Asker::Request(*of.get_or_insert_with(client)),
            AskerOf::LiveStream => Asker::LiveStream,
        };
        if !self.lookups.ask(&key, inquiry.credential(), asks.id, asker, now.ms) {
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
        let Waiting { client, inquiry, arrived_at, missing, asked, .. } = waiting;
        let asker = AskerOf::Request(client);
        let name = inquiry.sandbox().as_str().to_owned();
        let key = Key::Sandbox(name.clone());
        let mut asks = Asks { id, asker, since: *arrived_at, may_ask: true, missing, asked };
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
            // And its public ports leave room for its own callers.
            let room = if permit.is_public() { room.saturating_sub(room / 5) } else { room };
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
        let Waiting { client, inquiry, arrived_at, missing, asked, .. } = waiting;
        let asker = AskerOf::Request(client);
        let mut asks = Asks { id, asker, since: *arrived_at, may_ask: true, missing, asked };
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

/// What a new judgement of a live stream came to.
pub(crate) enum Judged {
    GoesOn,
    Ends(Ended),
    NotYet,
}

/// What one stream asks for.
struct Asks<'a> {
    id: u32,
    asker: AskerOf<'a>,
    /// An answer to a question asked since then is believed, however long it took.
    since: u64,
    may_ask: bool,
    missing: &'a mut Vec<Key>,
    asked: &'a mut Vec<Key>,
}

/// Who asks it.
enum AskerOf<'a> {
    /// A request, and its client once that is known.
    Request(&'a mut Option<Client>),
    LiveStream,
}
