//! All that one VM knows, and the requests that wait for it to know more.

use std::collections::{BTreeMap, BTreeSet};

use proxy_wasm::types::Action;
use sandgate_hostcalls::http::Answer;
use sandgate_hostcalls::queue::{Queue, unique_number};
use sandgate_hostcalls::stream::{self, Direction};
use sandgate_hostcalls::{LogLevel, log, wall_clock};
use sandgate_policy::gateway_api::{Change, Identity, Sandbox};
use sandgate_policy::ingress::cache::{Cache, Lifetimes};
use sandgate_policy::ingress::concurrency::Class;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::CredentialKey;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::{Client, SlotHolders};
use sandgate_policy::ingress::{Decision, Request};

use crate::apply;
use crate::clock::{Clock, Now};
use crate::crowding::client;
use crate::feed::{Feed, News};
use crate::live::{Live, LiveStream};
use crate::lookups::{self, Fact, Flight, Key, Lookups};
use crate::metrics::{Asked, Metrics};
use crate::reply;
use crate::waiting::{Verdict, Waiting};

/// Ticks between two looks at live streams.
const TICKS_PER_PATROL: u32 = 10;
/// Live streams judged again in one turn, so that a large change does not stall a worker.
const SUSPECTS_PER_TURN: usize = 256;
/// Requests that go on in one turn. Envoy sends the replies of one turn inside each other, and the
/// VM's stack holds about 300: many requests may wait for one answer, and clients choose how many.
const READY_PER_TURN: usize = 64;

/// The state of the filter in one VM, for one configuration.
pub(crate) struct Gateway {
    pub(crate) root_id: u32,
    pub(crate) config: IngressConfig,
    pub(crate) metrics: Metrics,
    clock: Clock,
    pub(crate) sandboxes: Cache<String, Sandbox>,
    pub(crate) callers: Cache<CredentialKey, Identity>,
    pub(crate) lookups: Lookups,
    pub(crate) feed: Feed,
    pub(crate) live: Live,
    /// When a public port last resumed a sandbox, in milliseconds.
    pub(crate) public_resumes: BTreeMap<String, u64>,
    pub(crate) waiting: BTreeMap<u32, Waiting>,
    /// Whose the waiting are, but for those that gave way and are still to be refused.
    pub(crate) waiting_slots: SlotHolders,
    /// Those of the waiting that need not wait any longer.
    pub(crate) ready: BTreeSet<u32>,
    /// Live streams that gave way to others, and are still to be closed.
    pub(crate) displaced: Vec<u32>,
    /// Anonymous streams whose bytes are still to be counted.
    pub(crate) uncounted: Vec<u32>,
    queue: Option<Queue>,
    ticks: u32,
}

impl Gateway {
    pub(crate) fn new(root_id: u32, config: IngressConfig) -> Self {
        let limits = *config.limits();
        Self {
            root_id,
            metrics: Metrics::define(),
            clock: Clock::default(),
            sandboxes: Cache::new(limits.cache_entries, Lifetimes::of_sandboxes(&limits)),
            callers: Cache::new(limits.cache_entries, Lifetimes::of_credentials(&limits)),
            lookups: Lookups::new(limits.lookups_in_flight),
            feed: Feed::new(String::new()),
            live: Live::default(),
            public_resumes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_slots: SlotHolders::default(),
            ready: BTreeSet::new(),
            displaced: Vec::new(),
            uncounted: Vec::new(),
            queue: None,
            ticks: 0,
            config,
        }
    }

    /// A request has come; its stream is the effective context.
    pub(crate) fn arrive(&mut self, id: u32, head: Head<'_>) -> Action {
        let recipient = Recipient::of(head, &self.config);
        let request = match Request::parse(head, &self.config) {
            Ok(Request::Sandbox(request)) => *request,
            Ok(Request::Api) => {
                return match apply::change(Direction::Request, &hygiene::clean_api_request(head)) {
                    Ok(()) => {
                        apply::record("api");
                        Action::Continue
                    }
                    Err(_) => self.refuse(Denial::SandboxUpstreamError, &recipient, None),
                };
            }
            Err(denial) => return self.refuse(denial, &recipient, None),
        };
        let now = self.clock.now();
        self.start();
        // Without room to wait, only what is known already counts, and nothing is asked.
        let has_room = self.waiting_slots.len() < self.config.limits().waiters;
        let mut waiting = Waiting::new(request, head, recipient, now.ms, &self.config, has_room);
        let mut verdict = self.step(id, &mut waiting, now);
        if !has_room && verdict.is_for_want_of_knowledge() && self.make_room_to_wait(now) {
            waiting.may_wait(client());
            verdict = self.step(id, &mut waiting, now);
        }
        match verdict {
            Verdict::Wait => {
                self.waiting_slots.acquire(waiting.client(), id, now.ms);
                self.waiting.insert(id, waiting);
                self.wake();
                Action::Pause
            }
            // "Too many wait" is the sandbox's answer, not the control plane's.
            Verdict::Decided(
                Decision::Deny(Denial::AuthServiceUnavailable | Denial::SandboxUpstreamError),
                _,
            ) if !has_room => self.refuse(Denial::SandboxNotReady, &waiting.recipient, None),
            Verdict::Decided(decision, retry_after) => {
                self.carry_out(id, waiting, decision, retry_after, head, now)
            }
        }
    }

    /// The stream has ended, or its client went away while it waited.
    pub(crate) fn end(&mut self, id: u32) {
        if let Some(waiting) = self.waiting.remove(&id) {
            self.waiting_slots.release(waiting.client(), id);
            waiting.missing().iter().for_each(|key| self.lookups.leave(key, id));
        }
        self.ready.remove(&id);
        self.live.remove(id);
    }

    /// Sends what streams have asked for. The root is the effective context.
    pub(crate) fn flush(&mut self) {
        let now = self.clock.now();
        self.turn(now);
    }

    /// Keeps deadlines. The root is the effective context.
    pub(crate) fn tick(&mut self) {
        let now = self.clock.now();
        for (id, waiting) in self.waiting.iter_mut().filter(|(_, it)| it.is_due(now.ms)) {
            waiting.on_due(now.ms);
            self.ready.insert(*id);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_PATROL) {
            self.live.suspect_expired(now.unix_seconds);
            if self.feed.is_settled(now.ms, self.config.limits().no_feed_ttl_ms.into()) {
                self.live.suspect_all();
            }
            self.live.start_round();
            if self.uncounted.is_empty() {
                self.uncounted = self.live.crowds(self.config.shares());
            }
        }
        self.count_bytes(now);
        self.turn(now);
    }

    /// An answer of the control plane has come. The root is the effective context.
    pub(crate) fn answer(&mut self, token: u32, answer: Option<&Answer>) {
        let now = self.clock.now();
        if self.feed.owns(token) {
            let news = self.feed.answer(answer, now.ms);
            self.metrics.lookup(Asked::Changes, news.is_some());
            if let Some(news) = news {
                self.forget(&news);
            }
        } else if let Some((key, flight)) = self.lookups.take(token) {
            let fact = answer.and_then(|answer| lookups::read(&key, answer));
            self.lookups.note(fact.is_some(), now.ms);
            self.learn(&key, flight, fact.as_ref(), now);
        }
        self.turn(now);
    }

    /// Refuses the request of the effective stream.
    fn refuse(&mut self, denial: Denial, to: &Recipient, retry_after: Option<u32>) -> Action {
        self.metrics.denial(denial);
        apply::record(denial.code());
        if reply::deny(denial, to, retry_after).is_err() {
            self.metrics.host_error();
        }
        // After a local reply a stream must stay where it is.
        Action::Pause
    }

    /// Carries out what was decided, on the effective stream.
    fn carry_out(
        &mut self,
        id: u32,
        waiting: Waiting,
        decision: Decision,
        retry_after: Option<u32>,
        head: Head<'_>,
        now: Now,
    ) -> Action {
        let Waiting { request, recipient, .. } = waiting;
        match self.make_room(decision, now) {
            Decision::Permit(permit) => {
                let used = request.credential();
                if apply::permit(&permit, head, &self.config, used).is_err() {
                    self.metrics.host_error();
                    return self.refuse(Denial::SandboxUpstreamError, &recipient, None);
                }
                self.metrics.permit();
                apply::record("permit");
                // One more call of the host, which the requests of known callers are spared.
                let client = match permit.class() {
                    Class::Anonymous => client(),
                    Class::Management | Class::Authenticated => Client::Unknown,
                };
                let live = LiveStream::new(request, permit, recipient, client);
                self.live.insert(id, live, now.ms);
                Action::Continue
            }
            Decision::AnswerPreflight { origin } => {
                self.metrics.preflight();
                apply::record("preflight");
                if reply::preflight(&origin, head).is_err() {
                    self.metrics.host_error();
                }
                Action::Pause
            }
            Decision::Deny(denial) => self.refuse(denial, &recipient, retry_after),
            // `step` turns a resume into a wait or a denial; this is what is left if it did not.
            Decision::Resume(_) => self.refuse(Denial::SandboxNotReady, &recipient, retry_after),
            // The same of `make_room`.
            Decision::Evict(_) => self.refuse(Denial::TooManyRequests, &recipient, retry_after),
        }
    }

    /// A waiting request may be able to go on. The root is the effective context, before and after.
    fn proceed(&mut self, id: u32, now: Now) {
        let Some(mut waiting) = self.waiting.remove(&id) else { return };
        match self.step(id, &mut waiting, now) {
            Verdict::Wait => {
                self.waiting.insert(id, waiting);
            }
            Verdict::Decided(decision, retry_after) => {
                self.waiting_slots.release(waiting.client(), id);
                waiting.missing().iter().for_each(|key| self.lookups.leave(key, id));
                if stream::make_effective(id).is_err() {
                    return;
                }
                // While it is paused its headers are still there to be read and changed.
                match stream::headers(Direction::Request) {
                    Ok(headers) => {
                        let head = Head::new(&headers);
                        let action = self.carry_out(id, waiting, decision, retry_after, head, now);
                        if action == Action::Continue && stream::resume_request().is_err() {
                            self.metrics.host_error();
                        }
                    }
                    Err(_) => {
                        self.metrics.host_error();
                        self.refuse(Denial::SandboxUpstreamError, &waiting.recipient, None);
                    }
                }
                self.back_to_root();
            }
        }
    }

    /// Takes in an answer (`None`: there was none) and lets those who waited for it go on.
    fn learn(&mut self, key: &Key, flight: Flight, fact: Option<&Fact>, now: Now) {
        self.metrics.lookup(key.asked(), fact.is_some());
        if fact.is_none() {
            log(LogLevel::Debug, "sandgate_ingress: the control plane did not answer a lookup");
        }
        match (key, fact) {
            // Who waited asks again: nothing is known of it now.
            _ if flight.outdated => {}
            (Key::Sandbox(name), Some(Fact::Sandbox(sandbox))) => {
                let sandbox = sandbox.as_deref().cloned();
                self.sandboxes.insert(name.clone(), sandbox, flight.asked_at);
            }
            (Key::Caller(credential), Some(Fact::Caller(identity))) => {
                self.callers.insert(*credential, identity.clone(), flight.asked_at);
            }
            (Key::Resume { .. }, Some(Fact::Sandbox(Some(sandbox)))) => {
                // The answer was held until the sandbox ran: it tells of now, not of when it was asked.
                for name in [Some(&sandbox.id), sandbox.name.as_ref()].into_iter().flatten() {
                    self.sandboxes.insert(name.clone(), Some((**sandbox).clone()), now.ms);
                }
            }
            (Key::Resume { sandbox_id, .. }, Some(Fact::Sandbox(None))) => {
                self.sandboxes.remove(sandbox_id);
            }
            _ => {}
        }
        for id in flight.waiters {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                if waiting.on_answer(key, fact, now.ms) {
                    self.ready.insert(id);
                }
            } else if fact.is_some() {
                self.live.suspect_one(id);
            }
        }
    }

    fn forget(&mut self, news: &News) {
        let changes = &news.changes;
        if changes.reset {
            self.sandboxes.clear();
            self.callers.clear();
            self.live.suspect_all();
        }
        // What was asked before the feed began is believed for as long as without a feed, and
        // streams that were let through on it are judged again after that.
        if changes.reset && !news.is_first {
            self.lookups.outdate(|_| true);
        }
        for change in &changes.changes {
            match change {
                Change::Sandbox { refs } => {
                    refs.iter().for_each(|name| {
                        self.sandboxes.remove(name);
                    });
                    self.lookups.outdate(|key| match key {
                        Key::Sandbox(name) | Key::Resume { sandbox_id: name, .. } => {
                            refs.contains(name)
                        }
                        Key::Caller(_) => false,
                    });
                }
                Change::Principal { id } => {
                    // Whose credential a question is about is known by its answer only.
                    self.lookups.outdate(|key| matches!(key, Key::Caller(_)));
                    self.callers.remove_where(|identity| identity.principal == *id);
                }
            }
            self.live.suspect(change);
        }
    }

    /// Requests that wait for a resume of one of the project's sandboxes.
    pub(crate) fn resuming(&self, project_id: &str) -> usize {
        self.waiting.values().filter(|waiting| waiting.is_for(project_id)).count()
    }

    /// Lets requests go on that have all they waited for: those that came first, first.
    fn proceed_ready(&mut self, now: Now) {
        for _ in 0..READY_PER_TURN {
            let Some(id) = self.ready.pop_first() else { break };
            self.proceed(id, now);
        }
    }

    /// Sends what is to be sent; what can't be is answered as failed, which may ask for more.
    fn turn(&mut self, now: Now) {
        if !self.feed_name_is_missing() && self.feed.is_due(now.ms) {
            self.feed.poll(&self.config, now.ms);
        }
        self.proceed_ready(now);
        for id in std::mem::take(&mut self.displaced) {
            self.live.remove(id);
            self.close(id, "closed.MADE_ROOM");
        }
        for id in self.live.next_suspects(SUSPECTS_PER_TURN) {
            self.judge(id, now);
        }
        for (key, flight) in self.lookups.send(&self.config, now.ms) {
            self.learn(&key, flight, None, now);
        }
        // Whatever is left is done by the next turn.
        if self.lookups.can_send() || !self.ready.is_empty() || self.live.is_in_round() {
            self.wake();
        }
    }

    /// With the first request: a queue to the root, and a name for the change feed. Not when it is
    /// configured, since every configuration is also tried out in VMs that never get a request.
    fn start(&mut self) {
        if self.queue.is_some() {
            return;
        }
        let number = unique_number("sandgate_ingress.vms").unwrap_or_default();
        let nanoseconds = wall_clock().unwrap_or_default().as_nanos();
        let name = format!("{nanoseconds:x}-{number}-{}", self.root_id);
        self.queue = Queue::register(&format!("sandgate_ingress.{name}")).ok();
        self.feed = Feed::new(name);
        self.wake();
    }

    fn feed_name_is_missing(&self) -> bool {
        self.queue.is_none()
    }

    pub(crate) fn wake(&mut self) {
        // Without it the next tick sends what is to be sent.
        if let Some(queue) = self.queue
            && queue.wake().is_err()
        {
            self.metrics.host_error();
        }
    }

    pub(crate) fn back_to_root(&mut self) {
        if stream::make_effective(self.root_id).is_err() {
            self.metrics.host_error();
        }
    }
}
