//! Local replies of the effective stream.

use sandgate_engine::ingress::Reply;
use sandgate_hostcalls::{Result, stream};

/// Sends a local reply. The caller must leave the stream paused.
///
/// # Errors
/// When the host refuses.
pub(crate) fn send(reply: &Reply) -> Result<()> {
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    stream::reply(reply.status, &headers, reply.body.as_bytes())
}
