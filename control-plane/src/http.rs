//! What both HTTP APIs share: errors, bodies, bounds, and the listener.

mod body;
mod bounds;
mod common_routes;
mod error;
mod held;
mod json;
mod listener;
mod places;

pub use body::{read_bytes, read_empty, read_json};
pub use bounds::{Bounds, Slot, bounded};
pub use common_routes::with_common_routes;
pub use error::ApiError;
pub use json::{MAX_WHOLE_NUMBER, parse_json};
pub use listener::{ListenError, Listener};
pub use places::{Connection, Full, Places};
