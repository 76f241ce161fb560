//! The egress filter without its host: which of a sandbox's connections and plain HTTP requests may
//! leave, and which live ones must end when the policy changes.
//!
//! [`sandgate_policy::egress`] decides. The modules, in the order in which data meets them:
//!
//! 1. `engine`: the state of one worker. A configuration becomes active, and schedules all live
//!    streams for re-evaluation.
//! 2. `connection`: a connection arrives with its original destination, and with the server name if
//!    Envoy's listener filters saw one. Without a server name, its first bytes are inspected.
//! 3. `request`: the same for an HTTP request, whose name is its Host.
//! 4. `decision`: a decision as access logs and metrics show it.
//! 5. `live`: the facts behind each permit, kept until the stream ends.

mod engine;

mod connection;
mod request;

mod decision;
mod live;

pub use connection::{Connection, DataEffect, NewConnectionEffect};
pub use decision::{Decision, FilterKind, Outcome};
pub use engine::{Engine, Update};
pub use request::{Forward, RequestEffect, is_websocket_handshake};
