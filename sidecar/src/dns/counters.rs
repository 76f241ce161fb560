//! What the proxy has done, as numbers that anyone may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counts since the proxy was bound. They only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Count,)+
        }

        impl Counters {
            /// Every counter as (name, value), in a fixed order: what an agent prints as metrics.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)+]
            }
        }
    };
}

counters! {
    /// Messages that came by UDP.
    udp_messages,
    /// Messages that came by TCP.
    tcp_messages,
    /// Messages that are no question, or one that is not for a resolver.
    malformed,
    /// Questions that were passed on to a resolver.
    forwarded,
    /// Questions that were refused by name before any resolver saw them.
    refused_names,
    /// Answers that were withheld since a CNAME or DNAME in them leads to a denied name.
    refused_answers,
    /// Addresses that were taken out of answers.
    stripped_addresses,
    /// `ech` parameters that were taken out of SVCB and HTTPS records.
    stripped_ech,
    /// Answers that gave a virtual address.
    virtual_answers,
    /// Questions that no resolver answered in time.
    unanswered,
    /// Answers of resolvers that could not be parsed.
    unreadable_answers,
    /// Datagrams from a resolver that do not answer the question that was asked.
    mismatched,
    /// Questions answered by SERVFAIL since too many were under way.
    overloaded,
    /// Connections that got SERVFAIL, or were closed at once, since too many were open.
    overloaded_connections,
    /// Answers that could not be sent.
    unsent,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}
