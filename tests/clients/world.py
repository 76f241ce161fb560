"""Sandgate as the clients see it: a control plane and a real Envoy, started for one mode.

| mode | API | sandboxes |
|---|---|---|
| `local` | `http://localhost:PORT` | behind `http://localhost:PORT`, named in `Host: ID.local` |
| `cloud` | `http://api.gate.test`, which clients turn into `http://sandbox.gate.test` | `http://ID.sandbox.gate.test` |
| `tls` | the same with `https`, and a certificate of our own authority | |
| `egress` | as in `cloud`; network policies are accepted, and sidecars enforce them: see outbound.py | |
| `namespaces` | as in `local`; each sandbox is in a network namespace behind a sidecar, which enforces its policy | |

The modes `cloud`, `tls` and `egress` need ports 80 and 443, and names that resolve: see private_network.py.
"""

import base64
import contextlib
import hashlib
import json
import random
import ssl
import subprocess
import time
from pathlib import Path

from http_json import call
from stack import Stack, free_port

# The parent of the sandboxes' domain in cloud mode. Clients expect the API of `sandbox.X` at `api.X`.
CLOUD = "gate.test"


class World:
    """The control plane and Envoy of the tests that run now."""

    def __init__(self, mode, folder, clients, envoy, browser):
        self.mode = mode
        self.folder = Path(folder)
        self.clients = Path(clients)
        self.envoy = envoy
        # Chromium's path, or None.
        self.browser = browser
        # The end of the schemes `http` and `https`, `ws` and `wss`.
        self.s = "s" if mode == "tls" else ""
        # Whether the system's resolver resolves the names of the sandboxes.
        self.names_resolve = mode not in ("local", "namespaces")
        # Whether there are sidecars, which must reach the control plane.
        self.egress = mode == "egress"
        if self.names_resolve:
            self.domain = f"sandbox.{CLOUD}"
        else:
            self.domain = "sandbox.localhost"
        # A trusted origin: the web pages of the platform.
        self.ports = {"dashboard": free_port()}
        self.dashboard = f"http{self.s}://dashboard.{self.domain}:{self.ports['dashboard']}"

    @contextlib.contextmanager
    def started(self):
        """Starts a control plane with an owner, and Envoy, for as long as the tests run."""
        options = ["--domain", self.domain, "--api-host", f"api.{CLOUD}", "--trusted-origin", self.dashboard, "--workers", "1"]
        if self.names_resolve:
            options += ["--edge-port", "80", "--edge-tls-port", "443", "--proxy-url", f"http{self.s}://sandbox.{CLOUD}"]
            for name in (self.domain, f"*.{self.domain}", f"api.{CLOUD}", CLOUD):
                options += ["--certificate-name", name]
        # The other modes use files, as the image of the edge does.
        if not self.names_resolve:
            options += ["--xds"]
        if self.mode == "namespaces":
            options += ["--namespaces"]
        if self.egress:
            options += ["--enforce-egress", "--gateway-address", "0.0.0.0"]
        with Stack(self.folder, *options) as stack:
            self.ports |= {name: getattr(stack, f"{name}_port") for name in ("edge", "edge_tls", "api", "gateway", "admin")}
            if self.names_resolve:
                self.api_url, self.proxy_url = f"http{self.s}://api.{CLOUD}", f"http{self.s}://sandbox.{CLOUD}"
            else:
                self.api_url = f"http://localhost:{self.ports['api']}"
                self.proxy_url = f"http://localhost:{self.ports['edge']}"
            self.organization, self.project = stack.organization, stack.project
            self.api_key, self.pat, self.session = stack.api_key, stack.pat, stack.session
            # The file of the certificate that clients must trust.
            self.authority = Path(stack.authority)
            self.certificate_folder = Path(stack.certificate_folder)
            self.gateway_token_file = stack.gateway_token_file
            self.control_plane_log, self.envoy_log = Path(stack.control_plane_log), Path(stack.envoy_log)
            self.sandgate = stack.sandgate
            self.stack = stack
            yield

    def log(self):
        """The log of the control plane."""
        return self.control_plane_log.read_text(errors="replace")

    @contextlib.contextmanager
    def carried(self):
        """A list that contains, after the block, the lines that Envoy's access log got during the block."""
        lines = []
        before = self._mark()
        yield lines
        after = self._mark()
        log = self.envoy_log.read_text(errors="replace")
        between = log[log.index(before):log.index(after)].splitlines()[1:-1]
        lines.extend(json.loads(line) for line in between if line.startswith("{"))

    def _mark(self):
        """Sends a request, and waits until its path is in the access log, after all requests that ended before."""
        path = f"/mark-{random.randrange(10**12)}"
        self.ask("mark", path)
        eventually(lambda: path in self.envoy_log.read_text(errors="replace"), "the access log is written")
        return path

    def host(self, label):
        """The authority of a sandbox, or of one of its ports: `8080-my-env`."""
        return f"{label}.{self.domain}" + ("" if self.names_resolve else f":{self.ports['edge']}")

    def certificate_hash(self):
        """SHA-256 of the edge's public key in Base64, or None without TLS."""
        if not self.s:
            return None
        pem = subprocess.run(["openssl", "x509", "-in", self.certificate_folder / "tls.crt", "-noout", "-pubkey"],
                             capture_output=True, text=True, check=True).stdout
        return base64.b64encode(hashlib.sha256(base64.b64decode("".join(pem.splitlines()[1:-1]))).digest()).decode()

    def server_tls(self):
        """The TLS context of a server with the edge's certificate, or None without TLS."""
        return self.certified() if self.s else None

    def certified(self):
        """The TLS context of a server with the edge's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_folder / "tls.crt", self.certificate_folder / "tls.key")
        return context

    @property
    def trust(self):
        """Environment variables that make a client trust only this authority."""
        names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
        return {name: str(self.authority) for name in names} if self.s else {}

    def ask(self, label, path="/health", method="GET", body=None, **headers):
        """(status, body) of a request through Envoy. It has no credential unless a header contains one."""
        return call(method, f"http://127.0.0.1:{self.ports['edge']}{path}", body, Host=self.host(label), **headers)

    def ask_as_owner(self, label, path="/health"):
        return self.ask(label, path, Authorization=f"Bearer {self.api_key}")

    def api(self, method, path, body=None):
        """(status, body) of a call of the public API, for the preparation of a test."""
        return call(method, f"http://127.0.0.1:{self.ports['api']}{path}", body,
                    Authorization=f"Bearer {self.api_key}")

    def sandbox(self, name, **wanted):
        """Creates a sandbox and waits until it runs; returns its id."""
        status, made = self.api("POST", "/sandboxes", {"name": name, **wanted})
        if status not in (200, 201):
            raise AssertionError(f"sandbox {name} was not created: {status} {made}")
        eventually(lambda: self.status(name) == "running", f"sandbox {name} runs")
        return made["sandbox_id"]

    def status(self, name):
        """The status of a sandbox in the API, or None."""
        return (self.api("GET", f"/sandboxes/{name}")[1] or {}).get("status")

    def address(self, name):
        """The loopback address on which the demo sandbox listens, which its own 127.0.0.1 stands for."""
        _, info = self.ask_as_owner(name, "/api/v1/info")
        return info["addresses"]["management"].rsplit(":", 1)[0]


def eventually(holds, what, seconds=20):
    """Waits until `holds()` returns a true value. `what` describes the condition."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


# main.py sets it before it runs the tests.
current: World | None = None
