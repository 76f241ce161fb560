//! Network namespaces of this machine.
//!
//! The control plane's runtime `namespaces` builds sandboxes with them, and `make run` an internet. Everything that needs
//! the program `ip` or a system call is here; what is built of it, and the rules, are not.

mod ip;
mod namespace;
mod obstacle;
mod prefix;
mod range;

pub use ip::{NetnsError, ip_batch, ip_batch_in, remove_link};
pub use namespace::{Namespace, namespaces_with, remove_all};
pub use obstacle::obstacle;
pub use prefix::Prefix;
pub use range::{Conflict, conflict, is_reserved};
