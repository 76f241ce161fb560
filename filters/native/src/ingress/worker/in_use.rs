//! The engine of a worker while a hook uses it.

use std::cell::{Cell, RefCell, RefMut};

use sandgate_engine::ingress::Engine;

/// The engine while a hook uses it. Notes whether the hook panics.
pub(super) struct InUse<'a> {
    pub(super) engine: RefMut<'a, Engine>,
    is_broken: &'a Cell<bool>,
    was_panicking: bool,
}

impl<'a> InUse<'a> {
    pub(super) fn new(engine: &'a RefCell<Engine>, is_broken: &'a Cell<bool>) -> Self {
        let engine = engine.borrow_mut();
        Self { engine, is_broken, was_panicking: std::thread::panicking() }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if !self.was_panicking && std::thread::panicking() {
            self.is_broken.set(true);
        }
    }
}
