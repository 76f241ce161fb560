//! What a program in a sandbox finds beside its network: terminals, sockets and files of this machine, other processes,
//! and the kernel's memory.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Pid, getsid};
use sandgate_stack::wait::until;

use crate::machine::{LIMIT, Machine, Setup, only, run, run_ip};

/// It writes all that it finds to a file. Each line is an attack that should fail.
const LOOKS_AROUND: &str = r#"
printf 'sandgate::audit forged\033[2J\n' >&2
{
  find /run /var/run/ -type s 2>/dev/null
  ls -A /run /etc/netns /dev/mqueue 2>/dev/null | grep sandgate
  grep '/run/netns' /proc/self/mountinfo
  cat /proc/1/environ && echo 'the environment of the first process'
  ls /proc/1/fd/ && echo 'the open files of the first process'
  [ "$(stat -c %u /proc/1)" = 0 ] || echo 'the first process is not of root'
  kill -TERM 1 2>/dev/null && echo 'a signal to the first process'
  for place in /tmp /var/tmp /dev/shm; do
    [ "$(stat -f -c %c $place)" -le 16384 ] || echo "$place: $(stat -f -c %c $place) files"
  done
  [ "$(cat /proc/self/oom_score_adj)" = 1000 ] || echo 'the kernel ends others first'
  while read -r _ place _ options _; do
    [ "$place" != / ] || [ "${options%%,*}" = ro ] || echo 'the root is writable'
  done </proc/mounts
  ls /run/program >/dev/null || echo 'the program is not where it should be'
  cat /etc/resolv.conf >/dev/null || echo 'no resolver'
} >/tmp/found 2>/dev/null
touch /tmp/done
echo ready
cat
"#;

/// A socket that any user of this machine can use, as those of resolvers and databases are.
struct OpenSocket {
    path: String,
    _listener: UnixListener,
}

impl OpenSocket {
    fn listen() -> Result<Self> {
        let path = format!("/run/of-this-machine-{}.sock", std::process::id());
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { path, _listener: listener })
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

pub(crate) fn a_sandbox_finds_nothing_of_the_machine_and_of_other_sandboxes() -> Result<()> {
    run(async {
        let _socket = OpenSocket::listen()?;
        let setup = Setup { program: Some(LOOKS_AROUND), ..Setup::default() };
        let machine = Machine::start(setup).await?;
        let _other = machine.create("other", only(&[])).await?;
        let sandbox = machine.create("curious", only(&[])).await?;
        let found = std::fs::read_to_string(machine.own_file(&sandbox, "found")?)?;
        ensure!(found.is_empty(), "{found}");
        ensure!(machine.own_file(&sandbox, "done")?.exists());
        let inner = *machine.processes(&sandbox, "sandbox")?.last().context("no process")?;
        for kind in ["ipc", "uts", "mnt", "pid", "net"] {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            ensure!(of(&inner.to_string())? != of("self")?, "the namespace `{kind}` is shared");
        }
        // A terminal belongs to a session, so nothing of a sandbox may be in the server's.
        let ours = getsid(None)?;
        for which in ["sandbox", "gateway"] {
            for pid in machine.processes(&sandbox, which)? {
                let pid = Pid::from_raw(pid);
                ensure!(getsid(Some(pid))? != ours, "{which} {pid}");
            }
        }
        machine.stop()
    })
}

pub(crate) fn a_gateway_opens_no_connection_to_this_machine_and_unused_addresses_lead_nowhere()
-> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        // Nobody has this address yet, so requests for it must not leave by the default route.
        let nobody = machine.range.hosts().nth(1_000).context("a small range")?.to_string();
        let route = run_ip(&["route", "get", &nobody]);
        ensure!(route.is_err(), "{nobody} is looked for elsewhere: {route:?}");
        let sandbox = machine.create("curious", only(&[])).await?;
        let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await?;
        let port = listener.local_addr()?.port();
        let std::net::IpAddr::V4(address) = machine.address(&sandbox)? else {
            anyhow::bail!("not IPv4")
        };
        let edge = std::net::Ipv4Addr::from(u32::from(address) - 6);
        let gateway = machine.namespace(&sandbox, "gateway")?;
        let connect = format!("exec 3<>/dev/tcp/{edge}/{port}");
        let connected =
            run_ip(&["netns", "exec", &gateway, "timeout", "2", "bash", "-c", &connect]);
        ensure!(connected.is_err(), "a gateway reached this machine");
        machine.edge(&sandbox)?.get("curious", "/health").send().await?.ok()?;
        // After the end of its program, requests for the sandbox stay on this machine too.
        machine.owner.delete(machine.control_plane.api(), &sandbox).await?;
        machine.until_gone(&sandbox).await?;
        until("nobody is asked", LIMIT, async || {
            Ok(run_ip(&["route", "get", &address.to_string()]).is_err().then_some(()))
        })
        .await?;
        machine.stop()
    })
}
