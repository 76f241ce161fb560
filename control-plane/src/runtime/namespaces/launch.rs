//! Starts a program in the network namespace and the cgroup of a sandbox or a gateway.

use sandgate_netns::Namespace;
use tokio::process::Command;

use super::cgroups::Cgroup;

/// Joins the cgroup. It comes first, because `ip netns exec` mounts another `/sys`, without cgroups.
const JOIN: &str = r#"[ -z "$0" ] || echo 0 >"$0/cgroup.procs" && exec "$@""#;

/// A command that runs a script in a namespace and a cgroup, in a session of its own. In this server's session, whose terminal may be
/// root's, it could type into that terminal. The script's first argument is the next one of the command.
///
/// If this server is killed, the kernel kills the process. The thread that starts it must live as long as the server, as workers
/// of the asynchronous runtime do.
pub(super) fn script(namespace: &Namespace, cgroup: Option<&Cgroup>, script: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "setsid", "sh", "-c", JOIN]);
    match cgroup {
        Some(cgroup) => command.arg(cgroup.path()),
        None => command.arg(""),
    };
    command.args(["ip", "netns", "exec", namespace.name(), "sh", "-c", script, "sandgate"]);
    // The server's environment holds its operator's secrets.
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command.kill_on_drop(true);
    command
}
