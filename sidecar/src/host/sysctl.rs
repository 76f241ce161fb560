//! Kernel settings of the namespace.

use std::io;
use std::path::PathBuf;

use crate::nftables::layout::Interface;

/// Settings that were changed, with what they were.
#[derive(Debug, Default)]
pub struct Sysctls {
    changed: Vec<(Setting, String)>,
}

/// One setting and the value that it needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    key: &'static str,
    value: &'static str,
}

/// A setting can't be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{key}` can't be set to {value}: {source}; the agent needs CAP_NET_ADMIN and a writable /proc/sys"
)]
pub struct SysctlError {
    key: String,
    value: &'static str,
    source: io::Error,
}

/// Passing packets on, for UDP and ICMP. Made only once nftables judges them.
pub const FORWARDING: [Setting; 2] = [
    Setting { key: "net/ipv4/ip_forward", value: "1" },
    Setting { key: "net/ipv6/conf/all/forwarding", value: "1" },
];
/// Refusals are answers: none may be held back, or clients would wait.
pub const PROMPT_REFUSALS: [Setting; 2] = [
    Setting { key: "net/ipv4/icmp_ratelimit", value: "0" },
    Setting { key: "net/ipv6/icmp/ratelimit", value: "0" },
];
/// Many connections of one sandbox at a time.
pub const QUEUES: [Setting; 1] = [Setting { key: "net/core/somaxconn", value: "8192" }];

/// Has this namespace believe nothing that a neighbour on the sandbox's interface says about routes: the
/// neighbour is the sandbox. Stays so, for an agent that ends takes its rules away.
///
/// # Errors
///
/// Where a setting can't be made.
pub fn distrust(interface: &Interface) -> Result<(), SysctlError> {
    for (family, setting) in [
        ("ipv6", "accept_ra"),
        ("ipv6", "autoconf"),
        ("ipv6", "accept_redirects"),
        ("ipv4", "accept_redirects"),
    ] {
        let key = format!("net/{family}/conf/{interface}/{setting}");
        match std::fs::write(path(&key), "0") {
            // A kernel without IPv6 is told nothing by it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => {}
            Err(source) => return Err(SysctlError { key, value: "0", source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

impl Sysctls {
    /// Makes settings, and remembers what they were.
    ///
    /// # Errors
    ///
    /// Where one can't be made; those before it are, and are remembered.
    pub fn make(&mut self, settings: &[Setting]) -> Result<(), SysctlError> {
        for setting in settings {
            let Setting { key, value } = *setting;
            let failed = |source| SysctlError { key: key.to_owned(), value, source };
            let before = match std::fs::read_to_string(path(key)) {
                Ok(before) => before.trim().to_owned(),
                // A kernel without IPv6 has nothing to let through.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if before != value {
                std::fs::write(path(key), value).map_err(failed)?;
                self.changed.push((*setting, before));
            }
        }
        Ok(())
    }

    /// Whether the namespace passed packets on before.
    #[must_use]
    pub fn was_forwarding(&self) -> bool {
        FORWARDING.iter().any(|setting| {
            let changed = self.changed.iter().any(|(other, _)| other == setting);
            let is_set = std::fs::read_to_string(path(setting.key))
                .is_ok_and(|text| text.trim() == setting.value);
            is_set && !changed
        })
    }

    /// Puts all back as it was, in reverse order. What can't be is left, and named.
    pub fn restore(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some((setting, before)) = self.changed.pop() {
            if let Err(error) = std::fs::write(path(setting.key), &before) {
                left.push(format!("`{}` could not be set back to {before}: {error}", setting.key));
            }
        }
        left
    }
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
