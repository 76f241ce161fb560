//! The handle to the event loop that the test API shares.

use std::cell::RefCell;
use std::rc::Rc;

use crate::shared::Shared;
use crate::vm::Vm;
use crate::world::{ControlPlane, World};

/// A handle to an Envoy. Clones refer to the same Envoy.
#[derive(Clone)]
pub(crate) struct Envoy(Rc<RefCell<World>>);

impl Envoy {
    pub(crate) fn start(world: World) -> Self {
        let envoy = Self(Rc::new(RefCell::new(world)));
        envoy.check();
        envoy
    }

    pub(crate) fn shared(&self) -> Rc<RefCell<Shared>> {
        Rc::clone(&self.0.borrow().shared)
    }

    pub(crate) fn set_control_plane(&self, control_plane: ControlPlane) {
        self.0.borrow_mut().control_plane = control_plane;
    }

    /// Runs `act`, which may run the filter.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let result = act(&mut self.0.borrow_mut());
        self.check();
        result
    }

    /// Runs `act` on a VM: 0 is the main thread's, `n` the n-th worker's.
    pub(crate) fn with_vm<T>(&self, vm: usize, act: impl FnOnce(&mut Vm) -> T) -> T {
        self.with(|world| {
            act(world.vms.get_mut(vm).unwrap_or_else(|| panic!("no worker {}", vm - 1)))
        })
    }

    /// Reads the state of a VM, without running the filter.
    pub(crate) fn look_at_vm<T>(&self, vm: usize, look: impl FnOnce(&Vm) -> T) -> T {
        look(&self.0.borrow().vms[vm])
    }

    /// Panics if the filter did something that is an error in Envoy.
    fn check(&self) {
        let faults = std::mem::take(&mut self.shared().borrow_mut().faults);
        assert!(faults.is_empty(), "the filter misbehaved: {}", faults.join("\n"));
    }
}
