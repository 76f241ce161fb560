//! The dead man's handle: elements of a set that end by themselves unless the agent renews them.

use std::time::Duration;

/// How often the agent renews it.
pub const RENEWED: Duration = Duration::from_millis(250);
/// After how long without the agent there is no way out.
pub const HELD: Duration = Duration::from_secs(2);

/// The transaction that renews it. One that is gone is new afterwards.
#[must_use]
pub fn renew() -> String {
    // `add` alone would leave the time of an element that is there as it was.
    format!("flush set inet sandgate alive\n{}", elements())
}

pub(super) fn elements() -> String {
    let held = HELD.as_secs();
    format!("add element inet sandgate alive {{ ipv4 timeout {held}s, ipv6 timeout {held}s }}\n")
}
