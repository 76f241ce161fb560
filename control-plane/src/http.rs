//! The parts of HTTP that both APIs share.
//!
//! The modules, in the order in which a request meets them: `listener` and `connection_limit`; `request_limits` and
//! `guarded_body`; `common_routes` and `draining`; `bearer`; `body` and `json`; `error`.

mod bearer;
mod body;
mod common_routes;
mod connection_limit;
mod draining;
mod error;
mod guarded_body;
mod json;
mod listener;
mod request_limits;

pub use bearer::bearer;
pub use body::{read_bytes, read_empty, read_json};
pub use common_routes::with_common_routes;
pub use connection_limit::{Connection, ConnectionLimit, LimitReached};
pub use draining::Draining;
pub use error::ApiError;
pub use json::{MAX_WHOLE_NUMBER, parse_json};
pub use listener::{ListenError, Listener};
pub use request_limits::{RequestLimits, RequestPermits, with_request_limits};
