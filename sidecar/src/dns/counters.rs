//! The counters of the proxy.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters since the start of the proxy.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Count,)+
        }

        impl Counters {
            /// The name and value of each counter, in a fixed order.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)+]
            }
        }
    };
}

counters! {
    /// Messages received by UDP.
    udp_messages,
    /// Messages received by TCP.
    tcp_messages,
    /// Messages that are not a valid query for a resolver.
    malformed,
    /// Queries that were forwarded to a resolver.
    forwarded,
    /// Queries whose name was denied, so that they were not forwarded.
    refused_names,
    /// Responses that were not forwarded because a CNAME or DNAME record leads to a denied name.
    refused_answers,
    /// Addresses that were removed from responses.
    stripped_addresses,
    /// `ech` parameters that were removed from SVCB and HTTPS records.
    stripped_ech,
    /// Responses with a virtual address.
    virtual_answers,
    /// Queries to which no resolver responded in time.
    unanswered,
    /// Responses of resolvers that can't be parsed.
    unreadable_answers,
    /// Messages from a resolver that do not match the query.
    mismatched,
    /// Queries that got SERVFAIL because too many were in flight.
    overloaded,
    /// Connections that got SERVFAIL or were closed because too many were open.
    overloaded_connections,
    /// Responses that could not be sent.
    unsent,
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}
