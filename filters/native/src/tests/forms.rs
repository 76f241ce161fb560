//! The native module and the wasm form treat every request alike: the same decision, the same reply, and the same headers for
//! the sandbox and for the client.
//!
//! Both hosts have the same clock and equal fleets behind them.

mod random;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use self::random::{Rest, Step, step};
use super::envoy::{Attributes, Headers, Outcome, Stream};
use super::suite::support::fleet::Fleet;
use super::suite::support::{Gateway, MY_ENV, PLAIN_KEY, SHOP, cases, configuration};

/// Both forms, with equal fleets.
struct Both {
    native: Gateway,
    wasm: sandgate_wasm_host::Host,
    fleet: Rc<RefCell<Fleet>>,
    open: Vec<(Stream, sandgate_wasm_host::Stream)>,
}

impl Both {
    fn new() -> Self {
        let wasm = sandgate_wasm_host::Host::load("sandgate_ingress");
        wasm.clusters(&["sandgate_control_plane"]);
        let fleet = Rc::new(RefCell::new(Fleet::new()));
        let behind = Rc::clone(&fleet);
        wasm.control_plane(move |call| behind.borrow_mut().answer(call));
        wasm.configure(&configuration().to_string()).expect("a valid configuration");
        Self { native: Gateway::new(), wasm, fleet, open: Vec::new() }
    }

    fn change(&self, change: impl Fn(&mut Fleet)) {
        change(&mut self.native.fleet());
        change(&mut self.fleet.borrow_mut());
    }

    fn advance(&self, ms: u64) {
        self.native.advance_ms(ms);
        self.wasm.advance(Duration::from_millis(ms));
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Request(headers, attributes, rest) => self.request(headers, attributes, rest)?,
            Step::Expose(id, ports) => self.change(|fleet| {
                fleet.change(id, |sandbox| sandbox.exposed_ports.clone_from(&ports));
            }),
            Step::Publish(public) => self.change(|fleet| {
                fleet.change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = public);
            }),
            Step::Move => self.change(|fleet| {
                fleet.change(MY_ENV, |sandbox| {
                    sandbox.generation += 1;
                    sandbox.address = "127.64.0.78".parse().ok();
                });
            }),
            Step::Revoke => self.change(|fleet| {
                if fleet.knows(PLAIN_KEY) {
                    fleet.revoke(PLAIN_KEY);
                }
            }),
            Step::Wait(ms) => self.advance(ms),
        }
        self.native.host.run();
        self.wasm.run();
        Ok(())
    }

    fn request(
        &mut self,
        headers: Headers,
        attributes: Attributes,
        rest: Rest,
    ) -> Result<(), TestCaseError> {
        let native = self.native.host.request_of("", 0, headers.clone(), attributes.clone());
        let wasm = self.wasm.request_of("", 0, headers, attributes);
        self.native.host.run();
        self.wasm.run();
        if native.outcome() == Outcome::Pending {
            prop_assert_eq!(wasm.outcome(), Outcome::Pending);
            self.advance(3_000);
        }
        prop_assert_eq!(comparable(native.outcome()), comparable(wasm.outcome()));
        if let Some(trailers) = rest.request_trailers {
            prop_assert_eq!(native.send_trailers(trailers.clone()), wasm.send_trailers(trailers));
        }
        if let Some(details) = rest.details {
            native.set_attribute("response.code_details", details);
            wasm.set_attribute("response.code_details", details);
        }
        if matches!(native.outcome(), Outcome::Forwarded(_)) {
            let response = rest.response;
            prop_assert_eq!(native.respond(response.clone()), wasm.respond(response));
            if let Some(trailers) = rest.response_trailers {
                let native = native.respond_with_trailers(trailers.clone());
                prop_assert_eq!(native, wasm.respond_with_trailers(trailers));
            }
        }
        if rest.stays {
            self.open.push((native, wasm));
            return Ok(());
        }
        native.complete();
        wasm.complete();
        self.compare_ended(&native, &wasm)
    }

    fn compare_ended(
        &self,
        native: &Stream,
        wasm: &sandgate_wasm_host::Stream,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(comparable(native.outcome()), comparable(wasm.outcome()));
        for name in ["sandgate_decision", "sandgate_principal", "sandgate_generation"] {
            prop_assert_eq!(native.property(name), wasm.property(name), "{}", name);
        }
        Ok(())
    }

    /// Lets all changes take effect, and compares what is left.
    fn compare(&self) -> Result<(), TestCaseError> {
        self.advance(5_000);
        for (native, wasm) in &self.open {
            prop_assert_eq!(native.is_open(), wasm.is_open());
            native.complete();
            wasm.complete();
            self.compare_ended(native, wasm)?;
        }
        // The first lookups may come before or after the first response of the change feed, so their number differs.
        let is_compared = |name: &String| {
            let of_requests = name.contains("_lookups_total") && !name.contains(".changes.");
            !of_requests && !name.contains("_rechecks_")
        };
        for name in self.native.host.metric_names().into_iter().filter(is_compared) {
            let count = self.native.host.metric(&name);
            prop_assert_eq!(count, self.wasm.metric(&name), "{}", name);
        }
        prop_assert_eq!(self.native.host.metric(super::faults::HOST_ERRORS), 0);
        Ok(())
    }
}

/// The outcome without the order of a reply's fields: one form adds the gRPC status itself.
fn comparable(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Replied(mut reply) => {
            let mut fields: Vec<_> =
                reply.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            fields.sort();
            reply.headers = fields.into_iter().collect();
            Outcome::Replied(reply)
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn random_requests_and_responses_are_treated_alike_by_both_forms(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut both = Both::new();
        for step in steps {
            both.take(step)?;
        }
        both.compare()?;
    }
}
