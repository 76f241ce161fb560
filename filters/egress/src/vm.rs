//! What all contexts of a VM share: the configuration in force, and what is live under it.
//!
//! Not the root contexts' own: connections belong to the root under which they began, and one may
//! still begin under the old root when the new one has been configured. It must not be judged by a
//! policy that is no longer in force.

use std::cell::RefCell;
use std::rc::Rc;

use sandgate_policy::egress::config::{ConfigError, EgressConfig};

use crate::live::Live;
use crate::metrics::Metrics;

thread_local! {
    static VM: RefCell<Vm> = RefCell::new(Vm::default());
}

/// Which of the module's filters a root context is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// The HTTP filter.
    Http,
    /// The network filter.
    Tcp,
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Update {
    /// It is in force now, and all that is live has to be judged again.
    InForce,
    /// It was in force already.
    Known,
    /// One of a later generation is in force.
    Late(u64),
}

/// The state of a VM.
#[derive(Default)]
pub(crate) struct Vm {
    current: Option<Rc<EgressConfig>>,
    /// The text of `current`: the two filters are given the same one after the other.
    json: Vec<u8>,
    metrics: Option<Metrics>,
    /// Generations that the two filters were last configured with.
    tcp: Option<u64>,
    http: Option<u64>,
    pub(crate) live: Live,
}

/// Runs `f` on the VM's state. Calls of the host never run a callback of this VM before they return,
/// so the borrow can't fail; if it did, there would be no answer, which is a denial.
pub(crate) fn with<T>(f: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    VM.with(|vm| vm.try_borrow_mut().ok().map(|mut vm| f(&mut vm)))
}

impl Vm {
    /// The configuration in force.
    pub(crate) fn current(&self) -> Option<Rc<EgressConfig>> {
        self.current.clone()
    }

    /// Counters; none before a configuration.
    pub(crate) fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref()
    }

    /// Takes a configuration that one of the filters was given. The newest generation is in force for
    /// both: it comes by two files, and a VM that had to start again gets them in any order.
    ///
    /// # Errors
    /// When the configuration is not valid; everything stays as it was.
    pub(crate) fn configure(
        &mut self,
        protocol: Protocol,
        json: Vec<u8>,
    ) -> Result<Update, ConfigError> {
        let generation = match &self.current {
            Some(current) if self.json == json => {
                let generation = current.generation();
                self.know(protocol, generation);
                return Ok(Update::Known);
            }
            current => {
                let config = EgressConfig::from_json(&json)?;
                let generation = config.generation();
                if current.as_ref().is_some_and(|current| current.generation() > generation) {
                    self.know(protocol, generation);
                    return Ok(Update::Late(generation));
                }
                self.current = Some(Rc::new(config));
                self.json = json;
                generation
            }
        };
        self.know(protocol, generation);
        self.metrics.get_or_insert_with(Metrics::define).generation(generation);
        self.live.suspect_all();
        Ok(Update::InForce)
    }

    fn know(&mut self, protocol: Protocol, generation: u64) {
        match protocol {
            Protocol::Http => self.http = Some(generation),
            Protocol::Tcp => self.tcp = Some(generation),
        }
    }

    /// The generation that is in force for all that is decided from now on: the older of the two
    /// filters' own. `None` while one of them has none.
    pub(crate) fn generation(&self) -> Option<u64> {
        Some(self.tcp?.min(self.http?))
    }

    /// The generation of one of the filters.
    pub(crate) fn generation_of(&self, protocol: Protocol) -> Option<u64> {
        match protocol {
            Protocol::Http => self.http,
            Protocol::Tcp => self.tcp,
        }
    }
}
