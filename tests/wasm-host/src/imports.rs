//! The host calls of the ABI that the filters use.

mod general;
mod http;
mod metrics;
mod properties;
mod sharing;

use wasmtime::{Caller, Linker};

use crate::abi::Status;
use crate::vm::VmState;

/// The failure of a host call: a status for the filter, or a trap of the VM.
pub(crate) enum Failure {
    Status(Status),
    Trap(wasmtime::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

pub(crate) type Hostcall<T = ()> = Result<T, Failure>;

/// Defines a host call as a closure over the guest and its 32-bit arguments.
macro_rules! hostcall {
    ($linker:expr, $name:literal, |$guest:ident $(, $argument:ident: $type:ty)*| $body:expr) => {
        $linker.func_wrap(
            "env",
            $name,
            |caller: wasmtime::Caller<'_, crate::vm::VmState>
             $(, $argument: $type)*|
             -> wasmtime::Result<i32> {
                let mut guest = crate::imports::Guest(caller);
                let $guest = &mut guest;
                *$guest.state().host_calls.entry($name).or_default() += 1;
                crate::imports::finish(|| $body)
            },
        )?
    };
}
use hostcall;

/// Defines all host calls.
pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    general::define(linker)?;
    properties::define(linker)?;
    metrics::define(linker)?;
    http::define(linker)?;
    sharing::define(linker)
}

/// Runs the body of a host call, and converts its result to the ABI's status.
fn finish(body: impl FnOnce() -> Hostcall) -> wasmtime::Result<i32> {
    match body() {
        Ok(()) => Ok(Status::Ok as i32),
        Err(Failure::Status(status)) => Ok(status as i32),
        Err(Failure::Trap(error)) => Err(error),
    }
}

/// The VM that made a host call, and its memory.
pub(crate) struct Guest<'a>(Caller<'a, VmState>);

impl Guest<'_> {
    pub(crate) fn state(&mut self) -> &mut VmState {
        self.0.data_mut()
    }

    pub(crate) fn read(&self, pointer: u32, size: u32) -> Hostcall<Vec<u8>> {
        let memory = self.0.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        let start = pointer as usize;
        let end = start.checked_add(size as usize).ok_or(Status::InvalidMemoryAccess)?;
        let bytes = memory.data(&self.0).get(start..end).ok_or(Status::InvalidMemoryAccess)?;
        Ok(bytes.to_vec())
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Hostcall {
        let memory = self.0.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        memory
            .write(&mut self.0, pointer as usize, bytes)
            .map_err(|_| Failure::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, value: u32) -> Hostcall {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Copies bytes to memory that the filter allocates. No bytes are passed as a null pointer.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, size_at: u32) -> Hostcall {
        let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let mut pointer = 0;
        if size > 0 {
            let allocate = self.0.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
            pointer = allocate.call(&mut self.0, size).map_err(Failure::Trap)?;
            self.write(pointer, bytes)?;
        }
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(size_at, size)
    }
}
