"""Sandgate as the clients meet it: a control plane and a real Envoy, started for one mode.

| mode | API | sandboxes |
|---|---|---|
| `local` | `http://localhost:PORT` | behind `http://localhost:PORT`, named in `Host: ID.local` |
| `cloud` | `http://api.gate.test`, which clients turn into `http://sandbox.gate.test` | `http://ID.sandbox.gate.test` |
| `tls` | the same with `https`, and a certificate of our own authority | |
| `egress` | as in `cloud`; network policies are accepted, and sidecars enforce them: see outbound.py | |

All but the first need ports 80 and 443, and names that resolve: see private_network.py.
"""

import base64
import contextlib
import hashlib
import json
import os
import random
import secrets
import ssl
import subprocess
import time
from pathlib import Path

import certificate
import envoy_config
from http_json import call
from parts import Stack
from ports import PORTS, SANDBOX_PORTS, cannot_listen, free_port
from tell import ROOT, Failure

PROGRAMS = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target") / "debug"
USER = "owner@example.com"
# What the parent domain of the sandboxes is in cloud mode: the clients' rule is that the API of
# `sandbox.X` is at `api.X`.
CLOUD = "gate.test"


class World:
    """What the tests know of the run that they are in."""

    def __init__(self, mode, folder, clients, envoy, browser):
        self.mode = mode
        self.folder = Path(folder)
        self.clients = Path(clients)
        self.envoy = envoy
        # Chromium's path, or None.
        self.browser = browser
        self.ports = {name: free_port() for name in PORTS}
        self.network = free_network()
        self.gateway_token = secrets.token_urlsafe(32)
        # `http` and `https`, `ws` and `wss`.
        self.s = "s" if mode == "tls" else ""
        # Whether names lead here by the system's resolver.
        self.names_resolve = mode != "local"
        # Whether there are sidecars, which have to reach the control plane.
        self.egress = mode == "egress"
        if self.names_resolve:
            self.ports |= {"edge": 80, "edge_tls": 443}
            self.domain, self.second_domain = f"sandbox.{CLOUD}", "local"
            self.api_url, self.proxy_url = f"http{self.s}://api.{CLOUD}", f"http{self.s}://sandbox.{CLOUD}"
        else:
            self.domain, self.second_domain = "sandbox.localhost", "local"
            self.api_url = f"http://localhost:{self.ports['api']}"
            self.proxy_url = f"http://localhost:{self.ports['edge']}"
        # The platform's own web pages, whose scripts are trusted.
        self.ports["dashboard"] = free_port()
        self.dashboard = f"http{self.s}://dashboard.{self.domain}:{self.ports['dashboard']}"

    def start(self, stack: Stack):
        """Starts all of it, and makes the owner's credentials."""
        token = self.folder / "gateway-token"
        envoy_config.write_private(token, self.gateway_token + "\n")
        self.control_plane = stack.start(
            "the control plane",
            [PROGRAMS / "sandgate", "serve", "--data-dir", self.folder / "data",
             "--api-listen", f"127.0.0.1:{self.ports['api']}",
             "--gateway-listen", f"{'0.0.0.0' if self.egress else '127.0.0.1'}:{self.ports['gateway']}",
             "--gateway-token-file", token, "--domain", self.domain, "--proxy-url", self.proxy_url,
             "--egress", "enforced" if self.egress else "none",
             "--runtime", "local", "--local-program", PROGRAMS / "sandgate-demo", "--local-cidr", f"{self.network}/16"],
            self.folder / "control-plane.log")
        stack.wait_until(lambda: "ready: api" in self.log(), self.control_plane, "was not ready", 30)
        self.edge = stack.start(
            "Envoy", [self.envoy, "--config-path", self.bootstrap(), "--disable-hot-restart", "--concurrency", "1",
                      "--log-level", "warning", "--file-flush-interval-msec", "50"], self.folder / "envoy.log")
        ready = f"http://127.0.0.1:{self.ports['admin']}/ready"
        stack.wait_until(lambda: call("GET", ready, timeout=2)[0] == 200, self.edge, "was not ready", 30)
        self.organization = self.sandgate("orgs", "create", "clients")["id"]
        self.project = self.sandgate("projects", "create", "clients", "--organization", self.organization)["id"]
        self.sandgate("members", "add", "--user", USER, "--project", self.project)
        self.api_key = self.sandgate("keys", "create", "--project", self.project)["secret"]
        self.pat = self.sandgate("keys", "create", "--kind", "pat", "--user", USER)["secret"]
        self.session = self.sandgate("keys", "create", "--kind", "session", "--user", USER, "--expires-in", "1d")["secret"]

    def bootstrap(self):
        """Envoy's configuration, written; the path of the file to start it with."""
        names = (self.domain, f"*.{self.domain}", f"api.{CLOUD}", CLOUD) if self.names_resolve else certificate.NAMES
        return envoy_config.render_all(self.folder, self.gateway_token, self.ports, names, **{
            "SANDGATE_DOMAIN": self.domain,
            "SANDGATE_SECOND_DOMAIN": self.second_domain,
            "SANDGATE_API_HOST": f"api.{CLOUD}",
            "SANDGATE_SANDBOX_NETWORK": self.network,
            "SANDGATE_TRUSTED_ORIGINS": json.dumps([self.dashboard]),
        })

    def sandgate(self, *arguments):
        """A management command's answer."""
        done = subprocess.run([PROGRAMS / "sandgate", *arguments, "--data-dir", self.folder / "data", "--json"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        if done.returncode:
            raise Failure(f"`sandgate {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def log(self):
        """What the control plane has logged."""
        return self.control_plane.log.read_text(errors="replace")

    @contextlib.contextmanager
    def carried(self):
        """A list that is filled at the end: the lines of Envoy's access log about what came meanwhile."""
        lines = []
        before = self._mark()
        yield lines
        after = self._mark()
        log = self.edge.log.read_text(errors="replace")
        between = log[log.index(before):log.index(after)].splitlines()[1:-1]
        lines.extend(json.loads(line) for line in between if line.startswith("{"))

    def _mark(self):
        """A request of ours, the path of which is in the log now; all that ended before it is, too."""
        path = f"/mark-{random.randrange(10**12)}"
        self.ask("mark", path)
        eventually(lambda: path in self.edge.log.read_text(errors="replace"), "the access log is written")
        return path

    def host(self, label):
        """The authority of a sandbox, or of one of its ports: `8080-my-env`."""
        return f"{label}.{self.domain}" + ("" if self.names_resolve else f":{self.ports['edge']}")

    @property
    def authority(self):
        """The certificate of the authority that clients have to trust, as a file."""
        return certificate.authority_file(self.folder)

    def certificate_hash(self):
        """SHA-256 of the edge's public key, as browsers name it; None without TLS."""
        if not self.s:
            return None
        pem = certificate.openssl("x509", "-in", certificate.directory(self.folder) / "tls.crt", "-noout", "-pubkey").stdout
        return base64.b64encode(hashlib.sha256(base64.b64decode("".join(pem.splitlines()[1:-1]))).digest()).decode()

    def server_tls(self):
        """TLS for a server of ours, with the edge's certificate; None without TLS."""
        return self.certified() if self.s else None

    def certified(self):
        """TLS for a server, with the edge's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = certificate.directory(self.folder)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context

    @property
    def trust(self):
        """The environment in which a client trusts it, and nobody else."""
        names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
        return {name: str(self.authority) for name in names} if self.s else {}

    def ask(self, label, path="/health", method="GET", body=None, **headers):
        """(status, answer) of a request through Envoy; without a credential unless a header has one."""
        return call(method, f"http://127.0.0.1:{self.ports['edge']}{path}", body, Host=self.host(label), **headers)

    def ask_as_owner(self, label, path="/health"):
        return self.ask(label, path, Authorization=f"Bearer {self.api_key}")

    def api(self, method, path, body=None):
        """(status, answer) of a call of the owners' API, for what a test prepares or looks up."""
        return call(method, f"http://127.0.0.1:{self.ports['api']}{path}", body,
                    Authorization=f"Bearer {self.api_key}")

    def sandbox(self, name, **wanted):
        """A running sandbox that a test needs and isn't about; its id."""
        status, made = self.api("POST", "/sandboxes", {"name": name, **wanted})
        if status not in (200, 201):
            raise AssertionError(f"sandbox {name} was not created: {status} {made}")
        eventually(lambda: self.status(name) == "running", f"sandbox {name} runs")
        return made["sandbox_id"]

    def status(self, name):
        """What the API says of a sandbox, or None."""
        return (self.api("GET", f"/sandboxes/{name}")[1] or {}).get("status")

    def address(self, name):
        """The loopback address on which the demo sandbox listens: what its own 127.0.0.1 stands for."""
        _, info = self.ask_as_owner(name, "/api/v1/info")
        return info["addresses"]["management"].rsplit(":", 1)[0]


def eventually(holds, what, seconds=20):
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def free_network():
    """A part of loopback for the sandboxes where nobody listens, away from those of other runs."""
    for second in random.sample(range(128, 255), 127):
        if not any(cannot_listen(f"127.{second}.0.{host}", port) for host in (1, 2) for port in SANDBOX_PORTS):
            return f"127.{second}.0.0"
    raise Failure("all of loopback is in use on the ports of the demo sandboxes; stop what listens on all addresses")


# Set by main.py before the tests are run.
current: World | None = None
