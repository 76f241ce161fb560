//! Kernel settings (sysctl) of the namespace.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// The changed settings and their previous values.
#[derive(Debug, Default)]
pub(crate) struct Sysctls {
    changed: Vec<(Setting, String)>,
}

/// A setting and its new value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Setting {
    key: Cow<'static, str>,
    value: Cow<'static, str>,
}

/// The kernel does not have the settings that the agent needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SysctlError {
    /// A setting can't be changed.
    #[error(
        "`{key}` can't be set to {value}: {source}; the agent needs CAP_NET_ADMIN and a writable /proc/sys"
    )]
    Unwritable {
        /// The path under `/proc/sys`.
        key: String,
        /// The new value.
        value: String,
        /// The cause.
        source: io::Error,
    },
    /// A setting can't be read.
    #[error("`{key}` can't be read: {source}; the agent needs /proc/sys")]
    Unreadable {
        /// The path under `/proc/sys`.
        key: String,
        /// The cause.
        source: io::Error,
    },
    /// A setting has an unknown format.
    #[error("`{key}` is `{value}`; expected three numbers")]
    Unknown {
        /// The path under `/proc/sys`.
        key: String,
        value: String,
    },
    /// Routes or addresses from the sandbox's router advertisements still exist.
    #[error(
        "routes and addresses from router advertisements on {interface} can't be removed: {source}; install \
         Debian's iproute2, or remove them by hand"
    )]
    NotRemoved {
        /// The sandbox's interface.
        interface: String,
        /// The cause.
        source: io::Error,
    },
}

/// Packet forwarding, for UDP and ICMP. Enabled only after nftables has its rules.
pub(crate) const FORWARDING: [Setting; 2] = [
    Setting::fixed("net/ipv4/ip_forward", "1"),
    Setting::fixed("net/ipv6/conf/all/forwarding", "1"),
];
/// A setting that the kernel changes by itself when packet forwarding is enabled or disabled.
pub(crate) const CHANGED_WITH_FORWARDING: &str = "net/ipv4/conf/all/accept_redirects";
/// Disables the rate limit of ICMP errors. An ICMP error tells a client immediately that its packet
/// was refused; with a rate limit, some clients would wait for a timeout.
pub(crate) const NO_ICMP_RATE_LIMIT: [Setting; 2] = [
    Setting::fixed("net/ipv4/icmp_ratelimit", "0"),
    Setting::fixed("net/ipv6/icmp/ratelimit", "0"),
];
/// A listen backlog for many simultaneous connections of a sandbox.
pub(crate) const LISTEN_BACKLOG: [Setting; 1] = [Setting::fixed("net/core/somaxconn", "8192")];

/// The kernel's limits for the buffers of a TCP connection (minimum, default, maximum, in bytes per
/// direction), each reduced to `most`. A peer that does not read makes the kernel use the maximum.
///
/// # Errors
///
/// If the current settings can't be read or have an unknown format.
pub(crate) fn tcp_buffers(most: u32) -> Result<Vec<Setting>, SysctlError> {
    let mut settings = Vec::new();
    for key in ["net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"] {
        let Some(text) = read(key)? else { continue };
        let numbers: Result<Vec<u32>, _> = text.split_ascii_whitespace().map(str::parse).collect();
        let unknown = || SysctlError::Unknown { key: key.to_owned(), value: text.clone() };
        let numbers: [u32; 3] =
            numbers.ok().and_then(|numbers| numbers.try_into().ok()).ok_or_else(unknown)?;
        let [min, default, max] = numbers.map(|number| number.min(most));
        settings.push(Setting::new(key, format!("{min}\t{default}\t{max}")));
    }
    Ok(settings)
}

impl Setting {
    /// Creates a setting from its path under `/proc/sys` and its new value.
    pub(crate) fn new(
        key: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    const fn fixed(key: &'static str, value: &'static str) -> Self {
        Self { key: Cow::Borrowed(key), value: Cow::Borrowed(value) }
    }
}

impl SysctlError {
    /// Whether the setting does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Unwritable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Sysctls {
    /// Changes settings, and remembers their previous values.
    ///
    /// # Errors
    ///
    /// If a setting can't be changed. The settings before it are changed and remembered.
    pub(crate) fn set(&mut self, settings: &[Setting]) -> Result<(), SysctlError> {
        for setting in settings {
            // A setting may not exist: the kernel has no IPv6, or the interface was removed.
            let Some(before) = read(&setting.key)? else { continue };
            if before != setting.value {
                write(&setting.key, &setting.value)?;
                self.changed.push((setting.clone(), before));
            }
        }
        Ok(())
    }

    /// Remembers the value of a setting that the kernel will change by itself.
    ///
    /// # Errors
    ///
    /// If the setting can't be read.
    pub(crate) fn remember(&mut self, key: &'static str) -> Result<(), SysctlError> {
        if let Some(before) = read(key)? {
            self.changed.push((Setting::new(key, before.clone()), before));
        }
        Ok(())
    }

    /// Whether packet forwarding was enabled before the agent enabled it.
    #[must_use]
    pub(crate) fn was_forwarding(&self) -> bool {
        FORWARDING.iter().any(|setting| {
            let changed = self.changed.iter().any(|(other, _)| other == setting);
            let is_set = read(&setting.key).is_ok_and(|is| is.as_deref() == Some(&*setting.value));
            is_set && !changed
        })
    }

    /// Restores the previous values in reverse order. Returns an error message for each one that
    /// can't be restored.
    pub(crate) fn restore(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        while let Some((setting, before)) = self.changed.pop() {
            match std::fs::write(path(&setting.key), &before) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    errors.push(format!("`{}` can't be restored to {before}: {error}", setting.key))
                }
                // The setting is restored, or it was removed with its interface.
                _ => {}
            }
        }
        errors
    }
}

/// The value of a setting, or `None` if the setting does not exist.
pub(super) fn read(key: &str) -> Result<Option<String>, SysctlError> {
    match std::fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SysctlError::Unreadable { key: key.to_owned(), source }),
    }
}

pub(super) fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    let failed =
        |source| SysctlError::Unwritable { key: key.to_owned(), value: value.to_owned(), source };
    std::fs::write(path(key), value).map_err(failed)
}

pub(super) fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
