//! The range of addresses of a server, which no other server of this machine uses, and which leads nowhere but to sandboxes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use sandgate_netns::{NetnsError, Prefix, ip_batch};

use super::{UnusableNamespaces, folder};

/// Held while a server looks for a free range and takes it.
const LOCK: &str = "/run/sandgate.lock";

/// The file that names the range, so that a later server can release it.
fn file(prefix: &Prefix) -> PathBuf {
    folder(prefix).join("range")
}

/// Reserves the range by a route that leads nowhere. Sandboxes have more specific routes. Without it, requests for a sandbox
/// that has just ended would leave this machine by the default route.
pub(super) fn reserve(prefix: &Prefix, range: Ipv4Net) -> Result<(), UnusableNamespaces> {
    let failed = |path: &Path, source| UnusableNamespaces::Folder { path: path.to_owned(), source };
    let lock = File::create(LOCK).map_err(|error| failed(Path::new(LOCK), error))?;
    lock.lock().map_err(|error| failed(Path::new(LOCK), error))?;
    if let Some(conflict) = sandgate_netns::conflict(range)? {
        return Err(UnusableNamespaces::Conflict(range, conflict));
    }
    let file = file(prefix);
    std::fs::write(&file, range.to_string()).map_err(|error| failed(&file, error))?;
    Ok(ip_batch(&format!("route add unreachable {range}\n"))?)
}

/// Releases the range. Succeeds if none is reserved.
pub(super) fn release(prefix: &Prefix) -> Result<(), NetnsError> {
    let failed = |path: PathBuf, error: &dyn std::fmt::Display| NetnsError::Command {
        command: format!("cat {}", path.display()),
        reason: error.to_string(),
    };
    let text = match std::fs::read_to_string(file(prefix)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| failed(file(prefix), &error))?,
    };
    let range: Ipv4Net = text.parse().map_err(|error| failed(file(prefix), &error))?;
    let command = format!("route del unreachable {range}\n");
    // The server may have been killed before it made the route.
    if sandgate_netns::is_reserved(range)? { ip_batch(&command) } else { Ok(()) }
}
