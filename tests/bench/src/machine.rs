//! What the measurements read from this machine: processor time, memory, and a description for the report.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The core of Envoy, and the one of the load and of everything else.
pub(crate) const ENVOY_CORE: usize = 1;
const LOAD_CORE: usize = 0;

/// Whether there is a core for Envoy alone.
pub(crate) fn has_core_for_envoy() -> bool {
    cores() > 1
}

/// The cores of the machine. This process itself may be confined to one of them.
fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// Keeps this process, and those that it starts, off Envoy's core.
pub(crate) fn stay_on_the_core_of_the_load() -> Result<()> {
    if has_core_for_envoy() {
        let mut cores = CpuSet::new();
        cores.set(LOAD_CORE)?;
        sched_setaffinity(Pid::from_raw(0), &cores)?;
    }
    Ok(())
}

/// Allows as many open files as this user may have, here and in all child processes: 1,000 waiting requests take more than
/// the usual 1,024.
pub(crate) fn allow_open_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// The processor time of all threads of a process, in nanoseconds.
pub(crate) fn processor_time(process: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end in the meantime.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let time = text.split(' ').next().context("an empty schedstat")?;
        sum += time.parse::<u64>()?;
    }
    if sum == 0 {
        bail!("this kernel does not count processor time in /proc/…/schedstat");
    }
    Ok(sum)
}

/// The resident memory of a process, in MB.
pub(crate) fn resident_megabytes(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 =
        line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// A description of the machine and of the programs, for the report.
pub(crate) fn describe(envoy: &str) -> Value {
    let first = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let kib: u64 = first("/proc/meminfo", "MemTotal")
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let envoy = output(envoy, &["--version"]);
    let envoy = envoy.split_once("version: ").map_or(envoy.as_str(), |(_, version)| version);
    let words: Vec<&str> = envoy.split('/').collect();
    json!({
        "processor": first("/proc/cpuinfo", "model name"),
        "cores": cores(),
        "memory_gib": kib >> 20,
        "kernel": output("uname", &["-sr"]).split('-').next().unwrap_or_default(),
        "envoy": words.get(1).copied().unwrap_or_default(),
        "nginx": output_of_stderr("nginx", &["-v"]).replace("nginx version: ", ""),
        "rustc": output("rustc", &["--version"]),
        "date": output("date", &["-u", "+%Y-%m-%d"]),
        "commit": output("git", &["rev-parse", "--short", "HEAD"]),
    })
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

fn output_of_stderr(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|it| String::from_utf8_lossy(&it.stderr).trim().to_owned()).unwrap_or_default()
}

/// Whether this process is in a network namespace of its own.
pub(crate) fn has_namespace() -> bool {
    std::env::var_os(INSIDE).is_some()
}

const INSIDE: &str = "SANDGATE_BENCH_INSIDE";

/// Starts this program again in a network namespace of its own, which ends with it. Without root, measures on the
/// machine's loopback.
pub(crate) fn enter_namespace() -> Result<()> {
    if has_namespace() {
        for (program, arguments) in [
            ("ip", "link set lo up"),
            (
                "sysctl",
                "-qw net.ipv4.ip_local_port_range=1024\t65535 net.core.somaxconn=8192 net.ipv4.tcp_tw_reuse=1",
            ),
        ] {
            let status = Command::new(program).args(arguments.split(' ')).status();
            if !status.with_context(|| format!("`{program}` can't be started"))?.success() {
                bail!("`{program} {arguments}` failed");
            }
        }
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(command.env(INSIDE, "1").exec()).context("`unshare` (util-linux) can't be started")
}
