//! The address of the client of a request.

use std::cell::OnceCell;

use sandgate_policy::ingress::slots::ClientAddress;

/// The client of a request. Reading its address costs a host call, so it is read only when a request must wait, or
/// takes an anonymous slot.
pub struct LazyClientAddress<'a> {
    client: OnceCell<ClientAddress>,
    read: &'a dyn Fn() -> ClientAddress,
}

impl<'a> LazyClientAddress<'a> {
    /// `read` is called once at most.
    #[must_use]
    pub fn new(read: &'a dyn Fn() -> ClientAddress) -> Self {
        Self { client: OnceCell::new(), read }
    }

    pub(crate) fn known(client: ClientAddress) -> Self {
        Self { client: OnceCell::from(client), read: &|| ClientAddress::Unknown }
    }

    pub(crate) fn get(&self) -> ClientAddress {
        *self.client.get_or_init(self.read)
    }
}
