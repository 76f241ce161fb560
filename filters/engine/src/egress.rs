//! The egress filter without its host: which of a sandbox's connections and plain HTTP requests may
//! leave, and which live ones must end when the policy changes.
//!
//! [`sandgate_policy::egress`] decides. The modules, in the order in which data meets them:
//!
//! 1. `configurations`: what Envoy has passed to the two filters, and which configuration is active.
//! 2. `engine`: the state of one worker. A configuration becomes active, and schedules all live
//!    streams for re-evaluation.
//! 3. `connection`: a connection arrives with its original destination, and with the server name if
//!    Envoy's listener filters saw one. Without a server name, its first bytes are inspected.
//! 4. `request`: the same for an HTTP request, whose name is its Host.
//! 5. `upstream`: how the host sets the upstream of a permitted stream.
//! 6. `reply`: the response to a denied request, and to the agent's probe.
//! 7. `decision`: a decision as access logs and metrics show it; `metrics`: the counters.
//! 8. `live`: the facts behind each permit, kept until the stream ends.

mod configurations;
mod engine;

mod connection;
mod request;
pub mod upstream;

mod decision;
mod live;
mod metrics;
mod reply;

pub use configurations::{Configurations, Update};
pub use connection::{Connection, DataEffect, NewConnectionEffect};
pub use decision::{Decision, FilterKind, Outcome};
pub use engine::Engine;
pub use metrics::{GENERATION_GAUGE, Metrics};
pub use reply::Reply;
pub use request::{Forward, RequestEffect, is_websocket_handshake};
