//! Finds the addresses of denied names, so that the policy can deny a connection to them even if
//! the connection shows no name.
//!
//! The agent looks up the exact names of `deny_out` ([`schedule`]), independent of the sandbox's
//! queries. It never looks up a name that the sandbox chose, because such a query could carry data
//! to the name's servers. It also uses the addresses that the DNS proxy observed in responses to the
//! sandbox's queries ([`crate::dns`]), which include names below a wildcard. [`table`] stores both.
//!
//! This is best effort: if a resolver fails, no address is removed and nothing waits.

mod schedule;
mod table;

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

/// The maximum number of questions in flight.
const MAX_IN_FLIGHT: usize = 8;
/// The minimum interval between two published changes, because each change makes a new policy
/// generation.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);
/// The minimum interval between two comparisons of the table with the published addresses.
const COMPARE_INTERVAL: Duration = Duration::from_millis(100);
/// The interval at which expired addresses are removed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// The published state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Known {
    addresses: DeniedAddresses,
    /// The number of the last list of names that was looked up completely.
    complete: u64,
}

/// A list of names, and its number.
#[derive(Clone, Debug, Default)]
struct Names {
    names: BTreeSet<Name>,
    number: u64,
}

/// The agent's handle: it sets the denied names and receives their addresses.
#[derive(Debug)]
pub struct DeniedNames {
    names: watch::Sender<Names>,
    known: watch::Receiver<Known>,
}

/// The background task that looks up the names and publishes their addresses.
#[derive(Debug)]
pub struct Refresher {
    names: watch::Receiver<Names>,
    known: watch::Sender<Known>,
    schedule: Schedule,
    table: Table,
    /// The number of the current list of names.
    number: u64,
    /// The time of the last publication.
    published_at: Option<Instant>,
    /// The time of the first change that is not published yet.
    changed_at: Option<Instant>,
    /// The time of the last comparison of the table with the published addresses.
    compared_at: Option<Instant>,
}

impl DeniedNames {
    /// Creates the handle and its background task. No address is known yet.
    #[must_use]
    pub fn new() -> (Self, Refresher) {
        let (names, wanted) = watch::channel(Names::default());
        let (publisher, known) = watch::channel(Known::default());
        let refresher = Refresher {
            names: wanted,
            known: publisher,
            schedule: Schedule::default(),
            table: Table::default(),
            number: 0,
            published_at: None,
            changed_at: None,
            compared_at: None,
        };
        (Self { names, known }, refresher)
    }

    /// Replaces the list of names by the names that the policy denies.
    pub fn follow(&self, policy: &Policy) {
        let names = policy.denied_names().cloned().collect();
        self.names.send_modify(|current| *current = Names { names, number: current.number + 1 });
    }

    /// The known addresses after all names have been looked up once, or after `limit`.
    pub async fn first(&mut self, limit: Duration) -> DeniedAddresses {
        let number = self.names.borrow().number;
        // A lookup that takes longer is published as a change when it completes.
        drop(timeout(limit, self.known.wait_for(|known| known.complete >= number)).await);
        self.known.borrow_and_update().addresses.clone()
    }

    /// Waits until the known addresses change.
    pub async fn changed(&mut self) -> DeniedAddresses {
        if self.known.changed().await.is_err() {
            // The task has ended, so the addresses never change again.
            std::future::pending::<()>().await;
        }
        self.known.borrow_and_update().addresses.clone()
    }
}

impl Refresher {
    /// Looks up names through the resolvers of the DNS proxy, until the handle is dropped.
    pub async fn run(mut self, dns: dns::Proxy) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while in_flight.len() < MAX_IN_FLIGHT
                && let Some(question) = self.schedule.take_due(now)
            {
                let dns = &dns;
                in_flight.push(async move {
                    let answer = dns.look_up(&question.name, question.family).await;
                    (question, answer)
                });
            }
            let mut wake = self.publish(now, in_flight.is_empty());
            // If the maximum is in flight, due questions wait for a response.
            if in_flight.len() < MAX_IN_FLIGHT {
                wake = self.schedule.next_due().map_or(wake, |due| due.min(wake));
            }
            tokio::select! {
                changed = self.names.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update_names();
                }
                Some((question, answer)) = in_flight.next() => self.on_response(&question, answer),
                pairs = dns.observed() => {
                    for pair in pairs {
                        self.table.observe(pair, Instant::now());
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn update_names(&mut self) {
        let Names { names, number } = self.names.borrow_and_update().clone();
        self.number = number;
        self.table.retain_resolved(&names);
        self.schedule.follow(&names, Instant::now());
    }

    fn on_response(&mut self, question: &Question, answer: Option<dns::Addresses>) {
        let now = Instant::now();
        if !self.schedule.contains(question) {
            return;
        }
        match answer {
            Some(answer) => {
                self.schedule.answered(question, answer.valid_for, now, jitter());
                self.table.resolved(question, &answer.addresses, now);
            }
            None => self.schedule.failed(question, now),
        }
    }

    /// Publishes the known addresses if they changed. Waits for [`PUBLISH_INTERVAL`] after the
    /// previous publication, and combines changes that occur together. Returns the time of the next
    /// call.
    fn publish(&mut self, now: Instant, idle: bool) -> Instant {
        let complete = if self.schedule.is_complete() { self.number } else { 0 };
        let first_complete = complete > self.known.borrow().complete;
        let compare_again = self
            .compared_at
            .map(|compared_at| compared_at + COMPARE_INTERVAL)
            .filter(|time| now < *time);
        if let Some(compare_again) = compare_again.filter(|_| !first_complete) {
            return compare_again;
        }
        self.compared_at = Some(now);
        let addresses = self.table.known(now);
        let published = self.known.borrow().clone();
        if addresses == published.addresses && !first_complete {
            self.changed_at = None;
            return now + EXPIRY_INTERVAL;
        }
        let since = *self.changed_at.get_or_insert(now);
        let combined = if idle { now } else { since + PUBLISH_INTERVAL };
        let earliest = self
            .published_at
            .map_or(combined, |published_at| combined.max(published_at + PUBLISH_INTERVAL));
        if !first_complete && earliest > now {
            return earliest;
        }
        (self.published_at, self.changed_at) = (Some(now), None);
        self.known.send_replace(Known { addresses, complete: complete.max(published.complete) });
        now + EXPIRY_INTERVAL
    }
}

/// A random byte that varies the intervals, so that the agents of many sandboxes don't query at the
/// same time. 0 if no randomness is available.
fn jitter() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).map_or(0, |()| byte[0])
}
