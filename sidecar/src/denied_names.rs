//! Finds out which addresses denied names have, so that they need not be shown to be denied.
//!
//! The agent itself looks up the names that `deny_out` has ([`schedule`]), whatever the sandbox asks for: a
//! name that a sandbox chose would carry what it likes to the servers of that name. What the DNS proxy saw of
//! other denied names, below a wildcard, comes to it. [`table`] remembers both.
//!
//! All of it is best effort: a resolver that fails takes nothing away, and holds nothing up.

pub mod schedule;
pub mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sandgate_policy::egress::{DeniedAddresses, Name, Policy};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::dns;
use schedule::{Question, Schedule};
use table::Table;

/// How many questions are under way at most.
const AT_ONCE: usize = 8;
/// How often something new is told at most: each time is a generation.
const TELLS: Duration = Duration::from_secs(2);
/// How often what is known is compared with what was told at most, however much comes by.
const COMPARES: Duration = Duration::from_millis(100);
/// How often it is looked for what has become too old.
const LOOKS: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Known {
    addresses: DeniedAddresses,
    /// The last list of names, all of which have been asked for.
    complete: u64,
}

/// Names, and which list of them this is.
#[derive(Clone, Debug, Default)]
struct Names {
    names: BTreeSet<Name>,
    number: u64,
}

/// For who says which names are denied, and hears of their addresses.
#[derive(Debug)]
pub struct DeniedNames {
    names: watch::Sender<Names>,
    known: watch::Receiver<Known>,
}

/// Asks and remembers, while it runs.
#[derive(Debug)]
pub struct Finder {
    names: watch::Receiver<Names>,
    known: watch::Sender<Known>,
    schedule: Schedule,
    table: Table,
    /// The list of names that is asked for.
    number: u64,
    /// When something was told last, and since when there is something new.
    told: Option<Instant>,
    news: Option<Instant>,
    /// When all that is known was compared last.
    compared: Option<Instant>,
}

impl DeniedNames {
    /// Both ends. Nothing is known.
    #[must_use]
    pub fn new() -> (Self, Finder) {
        let (names, wanted) = watch::channel(Names::default());
        let (teller, known) = watch::channel(Known::default());
        let finder = Finder {
            names: wanted,
            known: teller,
            schedule: Schedule::default(),
            table: Table::default(),
            number: 0,
            told: None,
            news: None,
            compared: None,
        };
        (Self { names, known }, finder)
    }

    /// From now on, these names are looked up: those that this policy denies.
    pub fn follow(&self, policy: &Policy) {
        let names = policy.denied_names().cloned().collect();
        self.names.send_modify(|held| *held = Names { names, number: held.number + 1 });
    }

    /// What is known when all names have been asked for once, or the time is over.
    pub async fn first(&mut self, limit: Duration) -> DeniedAddresses {
        let number = self.names.borrow().number;
        // Whoever is late tells of it by itself.
        drop(timeout(limit, self.known.wait_for(|known| known.complete >= number)).await);
        self.known.borrow_and_update().addresses.clone()
    }

    /// Waits until something else is known.
    pub async fn changed(&mut self) -> DeniedAddresses {
        if self.known.changed().await.is_err() {
            // Nobody finds out any more: what is known stays.
            std::future::pending::<()>().await;
        }
        self.known.borrow_and_update().addresses.clone()
    }
}

impl Finder {
    /// Asks by a DNS proxy's resolvers for ever.
    pub async fn run(mut self, dns: dns::Proxy) {
        let mut asking = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while asking.len() < AT_ONCE
                && let Some(question) = self.schedule.take_due(now)
            {
                let dns = &dns;
                asking.push(async move {
                    let answer = dns.look_up(&question.name, question.family).await;
                    (question, answer)
                });
            }
            let mut wake = self.tell(now, asking.is_empty());
            // What is due while there is no room waits for an answer.
            if asking.len() < AT_ONCE {
                wake = self.schedule.next().map_or(wake, |due| due.min(wake));
            }
            tokio::select! {
                changed = self.names.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_names();
                }
                Some((question, answer)) = asking.next() => self.answered(&question, answer),
                pairs = dns.seen() => {
                    for pair in pairs {
                        self.table.saw(pair, Instant::now());
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn take_names(&mut self) {
        let Names { names, number } = self.names.borrow_and_update().clone();
        self.number = number;
        self.table.forget_resolved_but(&names);
        self.schedule.follow(&names, Instant::now());
    }

    fn answered(&mut self, question: &Question, answer: Option<dns::Addresses>) {
        let now = Instant::now();
        if !self.schedule.has(question) {
            return;
        }
        match answer {
            Some(answer) => {
                self.schedule.answered(question, answer.good_for, now, spread());
                self.table.resolved(question, &answer.addresses, now);
            }
            None => self.schedule.failed(question, now),
        }
    }

    /// Tells what is known, if that is news: not too soon after the last, and all of it that comes together.
    /// When to look again for what is to be told.
    fn tell(&mut self, now: Instant, idle: bool) -> Instant {
        let complete = if self.schedule.is_complete() { self.number } else { 0 };
        let first = complete > self.known.borrow().complete;
        let again = self.compared.map(|compared| compared + COMPARES).filter(|again| now < *again);
        if let Some(again) = again.filter(|_| !first) {
            return again;
        }
        self.compared = Some(now);
        let addresses = self.table.known(now);
        let told = self.known.borrow().clone();
        if addresses == told.addresses && !first {
            self.news = None;
            return now + LOOKS;
        }
        let since = *self.news.get_or_insert(now);
        let together = if idle { now } else { since + TELLS };
        let soonest = self.told.map_or(together, |told| together.max(told + TELLS));
        if !first && soonest > now {
            return soonest;
        }
        (self.told, self.news) = (Some(now), None);
        self.known.send_replace(Known { addresses, complete: complete.max(told.complete) });
        now + LOOKS
    }
}

/// A random part of what intervals are stretched by, so that the agents of many sandboxes do not ask at the
/// same time. Where there is no chance, they do.
fn spread() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).map_or(0, |()| byte[0])
}
