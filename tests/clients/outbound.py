"""The outbound traffic of a sandbox in `egress` mode: a real sidecar between a sandbox and a small internet.

    sandbox 192.0.2.2 ── 192.0.2.1 gateway 198.51.100.2 ── 198.51.100.1 here

`sandbox` and `gateway` are network namespaces. The namespace of the tests (private_network.py) has the servers of the
internet, and the control plane, which no policy opens to sandboxes. The namespaces have names only in the mount namespace of
the tests, so nothing remains of them when the tests end.
"""

import contextlib
import http.server
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import private_network
import world
from stack import PROGRAMS, egress_filter
from tell import Failure

NETNS = "/run/netns"
SANDBOX, GATEWAY, HERE = "192.0.2.2", "192.0.2.1", "198.51.100.1"
RESOLVER = "198.51.100.53"
# The contract's examples name 10.0.0.0/8 and 8.8.8.8.
PRIVATE, PUBLIC = "10.1.2.3", "8.8.8.8"
SITES = {"ok.test": "203.0.113.10", "other.test": "203.0.113.20", "example.com": "203.0.113.66"}
# The addresses are reserved for documentation. Here they are the internet, except for the addresses of the platform.
OPERATOR = {
    "also_global": ["198.51.100.0/24", "203.0.113.0/24"],
    "protected": ["192.0.2.0/30", f"{HERE}/32"],
}
LINKS = f"""\
netns add gateway
netns add sandbox
link add uplink type veth peer name eth0 netns gateway
link add sandbox0 netns gateway type veth peer name eth0 netns sandbox
address add {HERE}/30 dev uplink
link set uplink up
-n gateway address add 198.51.100.2/30 dev eth0
-n gateway address add {GATEWAY}/30 dev sandbox0
-n gateway link set lo up
-n gateway link set eth0 up
-n gateway link set sandbox0 up
-n gateway route add default via {HERE}
-n sandbox address add {SANDBOX}/30 dev eth0
-n sandbox link set lo up
-n sandbox link set eth0 up
-n sandbox route add default via {GATEWAY}
"""
_count = itertools.count(1)


def build(folder):
    """Creates the namespaces, and the addresses and names of the internet."""
    os.makedirs(NETNS, exist_ok=True)
    private_network.mount("tmpfs", NETNS, "tmpfs")
    for line in LINKS.splitlines():
        run("ip", *line.split())
    # A new namespace may inherit this setting. The gateway starts without forwarding; the sidecar enables it.
    run("ip", "netns", "exec", "gateway", "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    for address in (RESOLVER, PRIVATE, PUBLIC, *SITES.values()):
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    private_network.answer_names(RESOLVER, SITES.get)
    (folder / "operator.json").write_text(json.dumps(OPERATOR))
    (folder / "sandbox-resolv.conf").write_text(f"nameserver {RESOLVER}\noptions timeout:5 attempts:1\n")


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def serve_sites(tls):
    """Starts HTTP servers, and HTTPS servers with an `ssl` context. Each answers with its address."""
    for address in (PRIVATE, PUBLIC, *SITES.values()):
        for port in (80, 443):
            server = http.server.ThreadingHTTPServer((address, port), Site)
            if port == 443:
                # The first read performs the handshake, in the connection's own thread.
                server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, daemon=True).start()


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the address that the client connected to."""

    def do_GET(self):
        body = self.server.server_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Logs nothing."""


@dataclass(frozen=True)
class Fetched:
    """The result of a request, and the response or the error message."""

    how: str
    text: str


# The exit statuses of curl that mean a refusal. A time-out is none.
REFUSALS = {6: "no such name", 7: "refused", 35: "refused", 52: "refused", 55: "refused", 56: "refused"}


def fetch(url, *options):
    """Sends a request from the sandbox with curl."""
    resolv = Path("/etc/resolv.conf").resolve()
    done = subprocess.run(
        # `ip netns exec` creates a mount namespace.
        ["ip", "netns", "exec", "sandbox", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"',
         world.current.folder / "sandbox-resolv.conf", resolv,
         "curl", "-q", "-sS", "--insecure", "--max-time", "20", "--write-out", r"\n%{http_code}", *options, url],
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        return Fetched(REFUSALS.get(done.returncode, f"curl ended with status {done.returncode}"), done.stderr.strip())
    text, _, status = done.stdout.rpartition("\n")
    if status == "403" and json.loads(text)["code"] == "EGRESS_DENIED":
        return Fetched("denied", text)
    return Fetched("answered" if status == "200" else status, text)


@contextlib.contextmanager
def sidecar(sandbox):
    """Runs the sidecar of a sandbox, which follows the control plane, for as long as the block runs."""
    here = world.current
    number = next(_count)
    name = f"sidecar-{number}"
    token, ready = here.folder / f"{name}.token", here.folder / f"{name}.ready"
    made = subprocess.run([PROGRAMS / "sandgate", "keys", "sidecar", sandbox, "--gateway-token-file",
                           here.gateway_token_file], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    token.write_text(made.stdout)
    # Envoy's user must be able to read it.
    with open_folder() as files:
        log = here.folder / f"{name}.log"
        # The kernel stops it if this program is killed.
        command = ["setpriv", "--pdeathsig", "TERM", "ip", "netns", "exec", "gateway", PROGRAMS / "sandgate-sidecar",
                   "--sandbox-interface", "sandbox0", "--control-plane", f"http://{HERE}:{here.ports['gateway']}",
                   "--sandbox", sandbox, "--token-file", token, "--operator-file", here.folder / "operator.json",
                   "--resolver", RESOLVER, "--envoy", reachable(here.envoy, files),
                   "--filter", reachable(egress_filter(), files), "--run-dir", files, "--ready-file", ready]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        try:
            world.eventually(lambda: ready.exists() or process.poll() is not None, "the sidecar is ready", 60)
            if process.poll() is not None:
                raise Failure(f"the sidecar ended with status {process.returncode}; its log is:\n{log.read_text()}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def open_folder():
    """A temporary folder that all users may read."""
    with tempfile.TemporaryDirectory(prefix="sandgate-egress-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def reachable(original, folder):
    """The path of a program or a module that other users can load. In a developer's home they may not, so it is a copy there."""
    original = Path(original)
    if all(place.stat().st_mode & 0o001 for place in (original.parent, *original.parent.parents)):
        return original
    copy = folder / original.name
    shutil.copy(original, copy)
    copy.chmod(0o755)
    return copy
