"""A demo sandbox behind a real sidecar, in network namespaces of its own. Part of a local run by root.

    sandbox 192.0.2.2 ── gateway: `sandgate-sidecar` ── internet: far_side.py, TEST-NET addresses

It is apart from the sandboxes of the local run's control plane. Those are processes on this machine's
loopback, without a sidecar, so that control plane runs with `--egress none` and takes no network policy:
with `enforced` it would promise for them what nothing keeps. The policy of this sandbox is a file instead, which the
sidecar reads again when it changes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import certificate
from envoy_config import EGRESS_FILTER, write_private
from tell import say

LIB = Path(__file__).resolve().parent
PROGRAMS = ("ip", "nft", "setpriv", "sysctl")
RESOLVER = "203.0.113.53"
# What there is on the far side; the first is what the policy allows to begin with.
ALLOWED, DENIED = "packages.test", "elsewhere.test"
PLACES = {ALLOWED: "203.0.113.10", DENIED: "203.0.113.20"}
# The last one is that of which the authority may speak, with all below it.
CERTIFICATE_NAMES = (*PLACES, "test")
SANDBOX, EDGE = "192.0.2.2", "198.51.100.1"
# The far side's addresses are documentation's, and no part of the internet unless these settings say so.
OPERATOR = {"also_global": ["203.0.113.0/24"], "protected": ["192.0.2.0/30"]}
# Some of what the sidecar asks of the kernel that not all kernels have.
PROBE = """
table inet sandgate_probe {
  chain names { type filter hook prerouting priority mangle; udp dport 53 tproxy to :53 meta mark set 1 accept; }
  chain connections { type nat hook prerouting priority dstnat; meta l4proto tcp redirect to :1; }
  chain refused { type filter hook forward priority filter; reject with icmpx type admin-prohibited; }
}
"""


def policy(*names):
    """No internet but these names."""
    return {"allow_internet_access": False, "allow_out": list(names)}


def prefix(state):
    """What the namespaces' names begin with: the state folder's own, so that runs do not meet."""
    return f"sandgate-{hashlib.sha256(str(Path(state).absolute()).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Demo:
    """The sandbox behind a sidecar, as the printed commands need it."""

    prefix: str
    folder: Path

    def inside(self, namespace, *command):
        return ["ip", "netns", "exec", f"{self.prefix}-{namespace}", *map(str, command)]

    @property
    def policy_file(self):
        return self.folder / "policy.json"

    @property
    def authority(self):
        return certificate.authority_file(self.folder)


def obstacle():
    """Why there can be no sidecar here, as a part of a sentence; None where there can."""
    if os.geteuid() != 0:
        return "network namespaces take root, and this is not root"
    for program in PROGRAMS:
        if not shutil.which(program):
            return f"`{program}` is missing; install it with: scripts/setup sidecar"
    name = f"sandgate-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
        try:
            run("ip", "netns", "exec", name, "nft", "-f", "-", text=PROBE)
        finally:
            run("ip", "netns", "del", name)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
        return f"this machine permits no network namespace with a firewall (`{' '.join(error.cmd)}`: {reason})"
    return None


def run(*command, text=None):
    subprocess.run(command, check=True, capture_output=True, text=True, input=text or "")


def start(stack, state, programs, envoy):
    """Starts all of it and waits until the policy is enforced."""
    say("starting a sandbox behind a sidecar")
    demo = Demo(prefix(state), state / "sidecar")
    demo.folder.mkdir(mode=0o700, exist_ok=True)
    certificate.ensure(demo.folder, CERTIFICATE_NAMES)
    write_private(demo.policy_file, json.dumps(policy(ALLOWED)) + "\n")
    write_private(demo.folder / "operator.json", json.dumps(OPERATOR) + "\n")

    def launch(name, log, says, *command):
        part = stack.start(name, list(map(str, command)), state / log)
        stack.wait_until(lambda: says in part.log.read_text(errors="replace").split(), part, "was not ready", 30)

    launch("the sidecar's network", "sidecar-network.log", "built",
           LIB / "namespaces.sh", demo.prefix, RESOLVER, *PLACES.values())
    tls = certificate.directory(demo.folder)
    launch("the far side", "sidecar-far-side.log", "ready",
           *demo.inside("internet", sys.executable, LIB / "far_side.py", RESOLVER, tls / "tls.crt", tls / "tls.key",
                        *(f"{name}={address}" for name, address in PLACES.items())))
    launch("the sandbox behind the sidecar", "sidecar-sandbox.log", "ready",
           *demo.inside("sandbox", programs / "sandgate-demo", "serve", "--address", SANDBOX, "--id", "behind-a-sidecar"))
    start_sidecar(stack, demo, state, programs, envoy)
    return demo


def start_sidecar(stack, demo, state, programs, envoy):
    ready = demo.folder / "ready"
    # One that was killed may have left it.
    ready.unlink(missing_ok=True)
    # Envoy runs as a user who may not be able to reach the place where it is. It gets one that is there in this
    # mount namespace alone (`ip netns exec` has made it), and takes no room.
    reachable = Path("/run") / demo.prefix / "envoy"
    reachable.touch(mode=0o755)
    part = stack.start("the sidecar", demo.inside(
        "gateway", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', envoy, reachable,
        programs / "sandgate-sidecar", "--sandbox-interface", "sandbox0", "--policy-file", demo.policy_file,
        "--operator-file", demo.folder / "operator.json", "--edge", f"{EDGE}/32", "--resolver", RESOLVER,
        "--envoy", reachable, "--filter", EGRESS_FILTER, "--run-dir", reachable.with_name("sidecar"),
        "--ready-file", ready, "--status-file", demo.folder / "status.json"), state / "sidecar.log")
    stack.wait_until(ready.exists, part, "was not ready", 60)


def left_behind(state):
    """What a run that has ended should have taken away and did not."""
    names = [Path("/run/netns") / f"{prefix(state)}-{name}" for name in ("sandbox", "gateway", "internet")]
    names += [Path("/etc/netns") / f"{prefix(state)}-sandbox", Path("/run") / prefix(state)]
    return [str(name) for name in names if os.path.lexists(name)]
