//! Shared data and queues.

use wasmtime::Linker;

use super::hostcall;
use crate::vm::VmState;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_shared_data",
        |guest, key: u32, key_size: u32, pointer_at: u32, size_at: u32, cas_at: u32| {
            let key = guest.read(key, key_size)?;
            let (value, cas) = guest.state().shared.borrow().data(&key)?;
            guest.give(&value, pointer_at, size_at)?;
            guest.write_u32(cas_at, cas)
        }
    );
    hostcall!(
        linker,
        "proxy_set_shared_data",
        |guest, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            let (key, value) = (guest.read(key, key_size)?, guest.read(value, value_size)?);
            Ok(guest.state().shared.borrow_mut().set_data(key, value, cas)?)
        }
    );
    hostcall!(
        linker,
        "proxy_register_shared_queue",
        |guest, name: u32, size: u32, queue_at: u32| {
            let name = guest.read(name, size)?;
            let state = guest.state();
            let root = state.root_of(state.context());
            let queue = state.shared.borrow_mut().register_queue(name, state.id, root);
            guest.write_u32(queue_at, queue)
        }
    );
    // All VMs of a host have the same vm_id, so the argument is ignored.
    hostcall!(
        linker,
        "proxy_resolve_shared_queue",
        |guest, _vm_id: u32, _vm_id_size: u32, name: u32, size: u32, queue_at: u32| {
            let name = guest.read(name, size)?;
            let queue = guest.state().shared.borrow().resolve_queue(&name)?;
            guest.write_u32(queue_at, queue)
        }
    );
    hostcall!(
        linker,
        "proxy_dequeue_shared_queue",
        |guest, queue: u32, pointer_at: u32, size_at: u32| {
            let item = guest.state().shared.borrow_mut().dequeue(queue)?;
            guest.give(&item, pointer_at, size_at)
        }
    );
    hostcall!(linker, "proxy_enqueue_shared_queue", |guest, queue: u32, value: u32, size: u32| {
        let item = guest.read(value, size)?;
        Ok(guest.state().shared.borrow_mut().enqueue(queue, item)?)
    });
    Ok(())
}
