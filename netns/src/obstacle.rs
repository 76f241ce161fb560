//! Whether this machine permits network namespaces with a firewall.

use std::io;
use std::process::Output;

use crate::ip::output_of;

const PROGRAMS: [&str; 8] =
    ["ip", "nft", "setpriv", "setsid", "prlimit", "unshare", "mount", "sysctl"];
const ENTER: &str = "mount -t sysfs probe /sys && exec nft -f -";
/// Kernel features that the sidecar needs, and that some kernels don't have.
const PROBE: &str = "
table inet sandgate_probe {
  chain names { type filter hook prerouting priority mangle; udp dport 53 tproxy to :53 meta mark set 1 accept; }
  chain connections { type nat hook prerouting priority dstnat; meta l4proto tcp redirect to :1; }
  chain refused { type filter hook forward priority filter; reject with icmpx type admin-prohibited; }
}
";

/// The reason why this machine can't run a sandbox behind a sidecar in network namespaces, as a part of a sentence, or `None`.
#[must_use]
pub fn obstacle() -> Option<String> {
    find_obstacle(nix::unistd::geteuid().is_root(), &is_on_path, &output_of)
}

fn find_obstacle(
    is_root: bool,
    is_installed: &dyn Fn(&str) -> bool,
    run: &dyn Fn(&[&str], &str) -> io::Result<Output>,
) -> Option<String> {
    if !is_root {
        return Some("network namespaces need root".to_owned());
    }
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !is_installed(program)) {
        return Some(format!("`{missing}` is missing; install it with: scripts/setup sidecar"));
    }
    // As `ip netns exec` does, but without a name, which would be left after a kill.
    let probe = ["unshare", "--net", "--mount", "--", "sh", "-c", ENTER];
    let reason = match run(&probe, PROBE) {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let reason = reason.trim().lines().next().unwrap_or("no reason given");
    Some(format!("this machine permits no network namespace with a firewall ({reason})"))
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn output(status: i32, stderr: &str) -> Output {
        let status = ExitStatus::from_raw(status << 8);
        Output { status, stdout: Vec::new(), stderr: stderr.into() }
    }

    #[test]
    fn without_root_there_is_no_sidecar() {
        let obstacle = find_obstacle(false, &|_| true, &|_, _| Ok(output(0, "")));
        assert_eq!(obstacle.unwrap(), "network namespaces need root");
    }

    #[test]
    fn a_missing_program_is_named_with_the_command_that_installs_it() {
        let obstacle = find_obstacle(true, &|program| program != "nft", &|_, _| Ok(output(0, "")));
        assert_eq!(obstacle.unwrap(), "`nft` is missing; install it with: scripts/setup sidecar");
    }

    #[test]
    fn a_refused_namespace_is_reported_with_the_first_line_of_the_reason() {
        let refuse = |_: &[&str], _: &str| Ok(output(1, "mount: Operation not permitted\nmore"));
        let obstacle = find_obstacle(true, &|_| true, &refuse).unwrap();
        assert!(obstacle.ends_with("(mount: Operation not permitted)"), "{obstacle}");
    }

    #[test]
    fn where_nothing_is_refused_there_can_be_a_sidecar() {
        assert_eq!(find_obstacle(true, &|_| true, &|_, _| Ok(output(0, ""))), None);
    }
}
