//! Removes what the sandboxes of a killed server have left.

use std::io;
use std::path::Path;

use sandgate_netns::Prefix;

use super::cgroups::Cgroups;
use super::{UnusableNamespaces, folder, range, uplink};

/// The folder of the files that `ip netns exec` mounts (ip-netns(8)).
pub(super) const ETC: &str = "/etc/netns";

/// Removes all that the sandboxes of a killed server have left: processes, namespaces, links, cgroups, files. No server may
/// run with this data directory, whose path must be canonical.
///
/// # Errors
/// Something can't be removed.
pub fn remove_remains(data_dir: &Path) -> Result<(), UnusableNamespaces> {
    remove_all(&Prefix::of(data_dir))
}

pub(super) fn remove_all(prefix: &Prefix) -> Result<(), UnusableNamespaces> {
    let mut errors = Cgroups::find(prefix).remove_all();
    errors.extend(sandgate_netns::remove_all(prefix));
    errors.extend(uplink::close(prefix).err().map(|error| error.to_string()));
    let released = range::release(prefix).map_err(|error| errors.push(error.to_string()));
    // The folder names the range.
    if released.is_ok() {
        errors.extend(remove_folder(&folder(prefix)).err());
    }
    let start = format!("{prefix}-");
    let entries = std::fs::read_dir(ETC).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    errors.extend(ours.filter_map(|entry| remove_folder(&entry.path()).err()));
    errors.is_empty().then_some(()).ok_or_else(|| UnusableNamespaces::Remains(errors.join("; ")))
}

/// Removes a folder. Succeeds if it does not exist.
pub(super) fn remove_folder(path: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("`{}`: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
