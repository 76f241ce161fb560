//! What a request's decision may need to know beside its headers.

use std::cell::OnceCell;

use sandgate_policy::ingress::slots::ClientAddress;

/// The properties of a request that are not in its headers. Reading one costs a host call, so it is read only when it is
/// needed.
pub struct RequestProperties<'a> {
    client: OnceCell<ClientAddress>,
    read_client: &'a dyn Fn() -> ClientAddress,
    is_http10: &'a dyn Fn() -> bool,
}

impl<'a> RequestProperties<'a> {
    /// `read_client` reads the client's address, and is called once at most. `is_http10` reads whether the request is of
    /// HTTP/1.0.
    #[must_use]
    pub fn new(
        read_client: &'a dyn Fn() -> ClientAddress,
        is_http10: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { client: OnceCell::new(), read_client, is_http10 }
    }

    /// The properties of a request whose message was checked before it began to wait.
    pub(crate) fn of_waiting(client: ClientAddress) -> Self {
        Self {
            client: OnceCell::from(client),
            read_client: &|| ClientAddress::Unknown,
            is_http10: &|| false,
        }
    }

    /// The client's address is needed when a request must wait, or takes an anonymous slot.
    pub(crate) fn client(&self) -> ClientAddress {
        *self.client.get_or_init(self.read_client)
    }

    pub(crate) fn is_http10(&self) -> bool {
        (self.is_http10)()
    }
}
