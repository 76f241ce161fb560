//! One connection of the sandbox, as the proxy hands it over.

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;
use sandgate_hostcalls::{connection, property};
use sandgate_policy::egress::first_bytes::{FirstBytes, Seen};
use sandgate_policy::egress::{Destination, NameFact, Verdict};

use crate::apply;
use crate::live::{Facts, LiveStream};
use crate::vm::{self, Protocol};

/// The network context of one connection.
pub(crate) struct Connection {
    id: u32,
    /// That it was let out without a name, until its first bytes have told that they have none.
    unnamed: Option<Unnamed>,
    /// It was denied: whatever else it sends goes nowhere.
    denied: bool,
}

/// What is known of a connection that has shown no name.
struct Unnamed {
    facts: Facts,
    first_bytes: FirstBytes,
}

impl Connection {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, unnamed: None, denied: false }
    }

    fn arrive(&mut self) -> Action {
        let config = vm::with(|vm| vm.current()).flatten();
        let (Some(config), Some(destination)) = (config, apply::destination()) else {
            return self.refuse();
        };
        let Ok(sni) = property(&["connection", "requested_server_name"]) else {
            return self.refuse();
        };
        let sni = NameFact::from_sni(&sni.unwrap_or_default());
        let facts = Facts { destination, sni, host: NameFact::Absent };
        let verdict = facts.judge(&config);
        apply::decided(Protocol::Tcp, verdict.is_allowed(), verdict.rule(), &config);
        let Verdict::Allow(permit) = verdict else {
            self.denied = true;
            // The proxy goes on to the cluster that resets what nobody permitted.
            return apply::no_name().map_or_else(|_| self.refuse(), |()| Action::Continue);
        };
        if apply::permit_connection(&permit, destination).is_err() {
            return self.refuse();
        }
        let live = LiveStream::new(Protocol::Tcp, facts.clone(), &permit);
        if vm::with(|vm| vm.live.insert(self.id, live)).is_none() {
            return self.refuse();
        }
        if facts.sni == NameFact::Absent {
            self.unnamed = Some(Unnamed { facts, first_bytes: FirstBytes::default() });
        }
        Action::Continue
    }

    /// Looks at the first bytes of a connection that showed no name in time.
    fn examine(&mut self, received: usize, end_of_stream: bool) -> Action {
        let Some(mut unnamed) = self.unnamed.take() else { return Action::Continue };
        // By the policy of now: it may have changed while the client was silent.
        let Some(config) = vm::with(|vm| vm.current()).flatten() else { return self.refuse() };
        let names_matter = match config.destination(unnamed.facts.destination.ip()) {
            Destination::Address(address) => config.policies().needs_names(address),
            Destination::Virtual(_) => true,
        };
        if !names_matter {
            return Action::Continue;
        }
        if received < unnamed.first_bytes.least() && !end_of_stream {
            self.unnamed = Some(unnamed);
            return Action::Pause;
        }
        let Ok(bytes) = connection::received(received) else { return self.refuse() };
        let facts = match unnamed.first_bytes.see(&bytes) {
            // The end of a client that said nothing whole is passed on as it is.
            Seen::Hold | Seen::Pass if end_of_stream => return Action::Continue,
            Seen::Hold => {
                self.unnamed = Some(unnamed);
                return Action::Pause;
            }
            Seen::Pass => {
                self.unnamed = Some(unnamed);
                return Action::Continue;
            }
            Seen::Other => return Action::Continue,
            Seen::Tls(sni) => Facts { sni, ..unnamed.facts },
            // Nobody would judge its second request.
            Seen::Http => Facts { host: NameFact::Unparsable, ..unnamed.facts },
        };
        self.judge_late(facts)
    }

    /// Judges a connection by the names that it shows late. It is connected already, to where it was
    /// let out to.
    fn judge_late(&mut self, facts: Facts) -> Action {
        let state = vm::with(|vm| Some((vm.current()?, vm.live.get(self.id)?)));
        let Some(Some((config, live))) = state else { return self.refuse() };
        let live = LiveStream { facts, ..live };
        match live.no_longer_permitted(&config, None) {
            None => {
                vm::with(|vm| vm.live.insert(self.id, live));
                Action::Continue
            }
            Some(rule) => {
                apply::decided(Protocol::Tcp, false, &rule, &config);
                self.close()
            }
        }
    }

    /// Refuses without a rule: the filter can't do its work.
    fn refuse(&mut self) -> Action {
        apply::host_error();
        self.close()
    }

    fn close(&mut self) -> Action {
        self.denied = true;
        // If even this fails, the connection stays paused.
        let _ = connection::close();
        Action::Pause
    }
}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        self.arrive()
    }

    fn on_downstream_data(&mut self, received: usize, end_of_stream: bool) -> Action {
        if self.denied {
            return Action::Pause;
        }
        self.examine(received, end_of_stream)
    }
}

impl Context for Connection {
    fn on_done(&mut self) -> bool {
        vm::with(|vm| vm.live.remove(self.id));
        true
    }
}
