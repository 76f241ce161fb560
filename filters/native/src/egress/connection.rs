//! The hooks of one connection.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::egress::upstream::{self, FilterState};
use sandgate_engine::egress::{self as engine, DataEffect, Decision, NewConnectionEffect};

use super::config::ConnectionConfig;
use super::report::Report;
use super::worker::{Live, Worker};
use crate::abi::{ConnectionHandle, Result};

/// What Envoy does after a hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ConnectionAction {
    Continue,
    /// No later filter sees the connection or the data. Also after a close.
    Hold,
}

/// One connection of a worker.
pub(crate) struct Connection {
    id: u32,
    handle: ConnectionHandle,
    config: Arc<ConnectionConfig>,
    worker: Rc<Worker>,
    state: RefCell<engine::Connection>,
    /// Whether the engine has judged the connection, so that all data passes.
    is_judged: Cell<bool>,
    report: Report,
}

impl Connection {
    pub(crate) fn new(config: Arc<ConnectionConfig>, handle: ConnectionHandle) -> Rc<Self> {
        let worker = Worker::current();
        let id = worker.next_stream();
        Rc::new(Self {
            id,
            handle,
            config,
            worker,
            state: RefCell::new(engine::Connection::new(id)),
            is_judged: Cell::new(false),
            report: Report::default(),
        })
    }

    pub(crate) fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.is_judged.get()
    }

    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.handle.upstream().map(|address| address.ip())
    }

    pub(crate) fn on_new_connection(self: &Rc<Self>) -> ConnectionAction {
        let Ok(sni) = self.handle.server_name() else { return self.fail() };
        let destination = self.handle.destination();
        let mut state = self.state.borrow_mut();
        let effect = self.worker.run(|engine| state.on_new_connection(engine, destination, &sni));
        let is_judged = state.is_judged();
        drop(state);
        let applied = match effect {
            NewConnectionEffect::Connect { permit, destination, decision } => {
                self.report(decision);
                self.worker
                    .add(self.id, Live::Connection(Rc::clone(self)))
                    .and_then(|()| self.set(upstream::of_connection(&permit, destination, &sni)))
            }
            NewConnectionEffect::Deny(decision) => {
                self.report(decision);
                self.set(upstream::without_resolution(&sni))
            }
            NewConnectionEffect::Fail => return self.fail(),
        };
        if applied.is_err() {
            return self.fail();
        }
        self.is_judged.set(is_judged);
        ConnectionAction::Continue
    }

    pub(crate) fn on_data(self: &Rc<Self>, available: usize, is_end: bool) -> ConnectionAction {
        let mut state = self.state.borrow_mut();
        let read = || self.handle.received(available);
        let effect = self.worker.run(|engine| state.on_data(engine, available, is_end, read));
        self.is_judged.set(state.is_judged());
        drop(state);
        match effect {
            DataEffect::Continue => ConnectionAction::Continue,
            DataEffect::Hold => ConnectionAction::Hold,
            DataEffect::Close(decision) => {
                self.close(Some(decision));
                ConnectionAction::Hold
            }
            DataEffect::Fail => self.fail(),
        }
    }

    /// Closes the connection, because no decision was possible or Envoy refused a call.
    fn fail(&self) -> ConnectionAction {
        self.handle.count(*self.config.metrics.host_error());
        self.close(None);
        ConnectionAction::Hold
    }

    /// Closes the connection. No data of the client passes from now on.
    pub(super) fn close(&self, decision: Option<Decision>) {
        self.is_judged.set(false);
        let mut state = self.state.borrow_mut();
        self.worker.run(|engine| state.abort(engine));
        drop(state);
        if let Some(decision) = decision {
            self.report(decision);
        }
        // An error means that the connection has ended.
        let _ = self.handle.close();
    }

    fn set<'a>(&self, states: impl IntoIterator<Item = FilterState<'a>>) -> Result<()> {
        states.into_iter().try_for_each(|(key, value)| self.handle.set_filter_state(key, &value))
    }

    fn report(&self, decision: Decision) {
        self.report.set(decision, &self.config.metrics, |counter| self.handle.count(counter));
    }

    /// The worker was woken.
    pub(crate) fn on_scheduled(&self) {
        self.worker.reevaluate();
    }

    /// The connection is closed, and Envoy writes the access log next. The connection leaves the worker here and not when
    /// Envoy destroys it, because another thread must not wake the worker by a connection that Envoy is about to drop.
    pub(crate) fn on_close(&self) {
        self.on_end();
        self.report.show(|key, value| self.handle.set_property(key, value));
    }

    /// The connection leaves the worker.
    pub(crate) fn on_end(&self) {
        self.worker.remove(self.id);
    }

    /// A hook of this connection has panicked.
    pub(crate) fn on_panic(&self) {
        self.handle.count(*self.config.metrics.host_error());
        self.is_judged.set(false);
        let _ = self.handle.close();
        self.worker.begin_anew();
    }
}
