//! The process: its version, its age, its memory and its open files.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;

use super::now::gauge;

#[derive(Debug)]
pub(super) struct Process {
    started: u64,
}

impl Process {
    /// A process that starts now.
    pub(super) fn starting() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { started: now.unwrap_or(Duration::ZERO).as_secs() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let help = "The version of the program.";
        version.encode(encoder.encode_descriptor("build", help, None, MetricType::Info)?)?;
        let help = "When the server started, in seconds since 1970.";
        gauge(encoder, "process_start_time_seconds", help, self.started)?;
        // Without `/proc`, nobody gets a wrong number.
        if let Some(bytes) = resident_bytes() {
            gauge(encoder, "process_resident_memory_bytes", "Memory of the process.", bytes)?;
        }
        if let Some(files) = open_files() {
            gauge(encoder, "process_open_fds", "Open files of the process.", files)?;
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            gauge(encoder, "process_max_fds", "Files that the process may have open.", soft)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

fn open_files() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
