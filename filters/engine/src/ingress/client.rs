//! The client of a request.

use std::cell::OnceCell;

use sandgate_policy::ingress::slots::Client;

/// The client of a request, whose address is read only if the engine needs it: to read it costs a
/// call of the host, and a request whose sandbox and caller are cached needs none.
pub struct LazyClient<'a> {
    client: OnceCell<Client>,
    read: &'a dyn Fn() -> Client,
}

impl<'a> LazyClient<'a> {
    /// `read` is called once at most.
    #[must_use]
    pub fn new(read: &'a dyn Fn() -> Client) -> Self {
        Self { client: OnceCell::new(), read }
    }

    /// A client that is known already.
    pub(crate) fn known(client: Client) -> Self {
        Self { client: OnceCell::from(client), read: &|| Client::Unknown }
    }

    pub(crate) fn get(&self) -> Client {
        *self.client.get_or_init(self.read)
    }
}
