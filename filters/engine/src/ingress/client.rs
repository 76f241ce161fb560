//! The client of a request.

use std::cell::OnceCell;

use sandgate_policy::ingress::slots::ClientAddress;

/// The client of a request, whose address is read only if the engine needs it: to read it costs a
/// call of the host, and a request whose sandbox and caller are cached needs none.
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

    /// A client that is known already.
    pub(crate) fn known(client: ClientAddress) -> Self {
        Self { client: OnceCell::from(client), read: &|| ClientAddress::Unknown }
    }

    pub(crate) fn get(&self) -> ClientAddress {
        *self.client.get_or_init(self.read)
    }
}
