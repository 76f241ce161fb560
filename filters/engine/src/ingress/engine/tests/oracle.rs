//! Which permits are justified, by what the control plane knew and what the change feed has reported.

use std::collections::BTreeMap;

use sandgate_policy::gateway_api::SandboxState;

use super::fleet::{KEY, Version};
use super::host::{Host, State};
use crate::ingress::StreamId;

/// The lifetime of entries that no feed covers: the default of `no_feed_ttl_ms`.
const NO_FEED_TTL_MS: u64 = 5_000;

/// What a request asked for.
pub(super) struct Ask {
    pub(super) sandbox: &'static str,
    pub(super) is_management: bool,
    pub(super) credential: Option<&'static str>,
    /// The oldest version that the filter may use for the request: the last one that the feed had reported.
    since: usize,
}

/// The requests, and whether their permits were checked.
#[derive(Default)]
pub(super) struct Oracle {
    asks: BTreeMap<StreamId, (Ask, bool)>,
}

impl Oracle {
    /// A request is about to arrive.
    pub(super) fn ask(
        host: &mut Host,
        sandbox: &'static str,
        is_management: bool,
        credential: Option<&'static str>,
    ) -> Ask {
        let now = host.now();
        // The results of lookups from before the first response are used for this time.
        let is_covered =
            |first: &crate::ingress::Now| now.ms > first.ms.saturating_add(NO_FEED_TTL_MS);
        let since = host.reported.filter(|(_, first)| is_covered(first)).map_or(0, |(it, _)| it);
        Ask { sandbox, is_management, credential, since }
    }

    pub(super) fn add(&mut self, stream: StreamId, ask: Ask) {
        self.asks.insert(stream, (ask, false));
    }

    /// Panics if a request was permitted that no version justifies which the filter may use.
    pub(super) fn check(&mut self, host: &Host) {
        for (stream, (ask, is_checked)) in &mut self.asks {
            if !*is_checked && host.state(*stream) == &State::Live {
                *is_checked = true;
                let versions = &host.fleet.history[ask.since..];
                assert!(ask.may_be_permitted(versions), "{stream} was permitted");
            }
        }
    }

    /// Panics if a live stream is not permitted any more.
    pub(super) fn check_live_streams(&self, host: &Host) {
        for stream in host.streams_in(&State::Live) {
            let (ask, _) = self.asks.get(&stream).expect("a request");
            let versions = &host.fleet.history[host.fleet.version()..];
            assert!(ask.may_be_permitted(versions), "{stream} is still live");
        }
    }
}

impl Ask {
    /// The sandbox and the credential are looked up separately, so they may be of different versions.
    fn may_be_permitted(&self, versions: &[Version]) -> bool {
        let has_sandbox = |is_suitable: &dyn Fn(bool, bool) -> bool| {
            versions.iter().filter_map(|version| version.sandboxes.get(self.sandbox)).any(|it| {
                let is_exposed = it.exposed_ports.contains(&8080);
                it.state == SandboxState::Running
                    && is_suitable(is_exposed, it.allow_unauthenticated_access)
            })
        };
        let has_key =
            self.credential == Some(KEY) && versions.iter().any(|version| version.is_key_valid);
        if self.is_management {
            return has_key && has_sandbox(&|_, _| true);
        }
        has_sandbox(&|is_exposed, is_public| is_exposed && is_public)
            || (has_key && has_sandbox(&|is_exposed, _| is_exposed))
    }
}
