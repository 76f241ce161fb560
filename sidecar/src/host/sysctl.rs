//! Kernel settings of the namespace.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// Settings that were changed, with what they were.
#[derive(Debug, Default)]
pub struct Sysctls {
    changed: Vec<(Setting, String)>,
}

/// One setting and the value that it needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    key: Cow<'static, str>,
    value: Cow<'static, str>,
}

/// The kernel is not as the agent needs it.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// A setting can't be made.
    #[error(
        "`{key}` can't be set to {value}: {source}; the agent needs CAP_NET_ADMIN and a writable /proc/sys"
    )]
    Unwritable {
        /// Its path under `/proc/sys`.
        key: String,
        /// What it should be.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A setting can't be read.
    #[error("`{key}` can't be read: {source}; the agent needs /proc/sys")]
    Unreadable {
        /// Its path under `/proc/sys`.
        key: String,
        /// Why not.
        source: io::Error,
    },
    /// A setting has a form that is not known.
    #[error("`{key}` is `{value}`, where three numbers are expected")]
    Unknown {
        /// Its path under `/proc/sys`.
        key: String,
        /// What it is.
        value: String,
    },
    /// What the sandbox advertised as a router is still believed.
    #[error(
        "what was advertised on {interface} can't be forgotten: {source}; install Debian's iproute2, or take it \
         away by hand"
    )]
    Forgotten {
        /// The sandbox's interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
}

/// Passing packets on, for UDP and ICMP. Made only once nftables judges them.
pub const FORWARDING: [Setting; 2] = [
    Setting::fixed("net/ipv4/ip_forward", "1"),
    Setting::fixed("net/ipv6/conf/all/forwarding", "1"),
];
/// What the kernel sets of its own accord when it begins or ceases to pass packets on.
pub const WITH_FORWARDING: &str = "net/ipv4/conf/all/accept_redirects";
/// Refusals are answers: none may be held back, or clients would wait.
pub const PROMPT_REFUSALS: [Setting; 2] = [
    Setting::fixed("net/ipv4/icmp_ratelimit", "0"),
    Setting::fixed("net/ipv6/icmp/ratelimit", "0"),
];
/// Many connections of one sandbox at a time.
pub const QUEUES: [Setting; 1] = [Setting::fixed("net/core/somaxconn", "8192")];

/// The kernel's bounds on what it holds of a TCP connection in one direction (least, usual, most), none over
/// `most`: a peer that does not read makes it hold the most.
///
/// # Errors
///
/// Where the settings can't be read.
pub fn tcp_buffers(most: u32) -> Result<Vec<Setting>, SysctlError> {
    let mut settings = Vec::new();
    for key in ["net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"] {
        let Some(text) = read(key)? else { continue };
        let numbers: Result<Vec<u32>, _> = text.split_ascii_whitespace().map(str::parse).collect();
        let unknown = || SysctlError::Unknown { key: key.to_owned(), value: text.clone() };
        let numbers: [u32; 3] =
            numbers.ok().and_then(|numbers| numbers.try_into().ok()).ok_or_else(unknown)?;
        let [least, usual, most] = numbers.map(|number| number.min(most));
        settings.push(Setting::new(key, format!("{least}\t{usual}\t{most}")));
    }
    Ok(settings)
}

impl Setting {
    /// A setting by its path under `/proc/sys`.
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    const fn fixed(key: &'static str, value: &'static str) -> Self {
        Self { key: Cow::Borrowed(key), value: Cow::Borrowed(value) }
    }
}

impl SysctlError {
    /// Whether there is no such setting.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Unwritable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Sysctls {
    /// Makes settings, and remembers what they were.
    ///
    /// # Errors
    ///
    /// Where one can't be made; those before it are, and are remembered.
    pub fn make(&mut self, settings: &[Setting]) -> Result<(), SysctlError> {
        for setting in settings {
            // A kernel without IPv6 has nothing to let through; an interface may have gone.
            let Some(before) = read(&setting.key)? else { continue };
            if before != setting.value {
                write(&setting.key, &setting.value)?;
                self.changed.push((setting.clone(), before));
            }
        }
        Ok(())
    }

    /// Remembers what a setting is, which the kernel will change by itself.
    ///
    /// # Errors
    ///
    /// Where it can't be read.
    pub fn remember(&mut self, key: &'static str) -> Result<(), SysctlError> {
        if let Some(before) = read(key)? {
            self.changed.push((Setting::new(key, before.clone()), before));
        }
        Ok(())
    }

    /// Whether the namespace passed packets on before.
    #[must_use]
    pub fn was_forwarding(&self) -> bool {
        FORWARDING.iter().any(|setting| {
            let changed = self.changed.iter().any(|(other, _)| other == setting);
            let is_set = read(&setting.key).is_ok_and(|is| is.as_deref() == Some(&*setting.value));
            is_set && !changed
        })
    }

    /// Puts all back as it was, in reverse order. What can't be is left, and named.
    pub fn restore(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some((setting, before)) = self.changed.pop() {
            match std::fs::write(path(&setting.key), &before) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => left
                    .push(format!("`{}` could not be set back to {before}: {error}", setting.key)),
                // Put back, or gone with its interface.
                _ => {}
            }
        }
        left
    }
}

/// What a setting is; none where there is no such setting.
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
