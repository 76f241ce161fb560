"""Sandboxes behind sidecars: each client sets policies, and observes from inside what they do."""

import glob
import json
import os
import random
import socket
import subprocess
import unittest
from dataclasses import dataclass
from pathlib import Path

import world
from inside import CurlInside, PythonInside, TlInside, TypeScriptInside
from outbound import REFUSALS

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "try_a_policy.py"
# The sites that sandboxes can reach.
PACKAGES, ELSEWHERE = "packages.test", "elsewhere.test"
ADDRESSES = {PACKAGES: "203.0.113.10", ELSEWHERE: "203.0.113.20"}

# Policies, and the expected results of requests from inside.
OPEN = {}, [("answered", f"http://{PACKAGES}/"), ("answered", f"https://{ELSEWHERE}/")]
OFF = {"allow_internet_access": False}, [
    ("no such name", f"http://{PACKAGES}/"),
    ("denied", f"http://{ADDRESSES[PACKAGES]}/"),
]
NAMED = {"allow_internet_access": False, "allow_out": [PACKAGES]}, [
    ("answered", f"http://{PACKAGES}/"),
    ("answered", f"https://{PACKAGES}/"),
    ("no such name", f"http://{ELSEWHERE}/"),
    ("denied", f"http://{ADDRESSES[ELSEWHERE]}/"),
    ("refused", f"https://{ADDRESSES[ELSEWHERE]}/"),
]
LISTED = {"allow_internet_access": False, "allow_out": [f"{ADDRESSES[PACKAGES]}/31"]}, [
    ("answered", f"http://{ADDRESSES[PACKAGES]}/"),
    ("denied", f"http://{ADDRESSES[ELSEWHERE]}/"),
    ("no such name", f"http://{PACKAGES}/"),
]
PORTS = {"allow_internet_access": False, "allow_out": [f"{PACKAGES}:443"]}, [
    ("answered", f"https://{PACKAGES}/"),
    ("denied", f"http://{PACKAGES}/"),
]
DENIED = {"deny_out": [ELSEWHERE]}, [
    ("no such name", f"http://{ELSEWHERE}/"),
    ("denied", f"http://{ADDRESSES[ELSEWHERE]}/"),
    ("answered", f"http://{PACKAGES}/"),
]
SWAPPED = {"allow_internet_access": False, "allow_out": [ELSEWHERE]}, [
    ("answered", f"http://{ELSEWHERE}/"),
    ("no such name", f"http://{PACKAGES}/"),
    ("denied", f"http://{ADDRESSES[PACKAGES]}/"),
]
# A connection that lasts until somebody closes it. TLS, because the sidecar evaluates plain HTTP request by request.
CONNECTION = (f"openssl s_client -quiet -connect {PACKAGES}:443 -servername {PACKAGES} < <(sleep 600) "
              "2>&1; echo closed")


@dataclass(frozen=True)
class Fetched:
    """The result of a request from inside, and the response or the error message."""

    how: str
    text: str


class Namespaces:
    """The tests. A subclass names a client and is also a TestCase."""

    modes = ("namespaces",)

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.inside = cls.client()
        cls.addClassCleanup(cls.inside.close)

    def made(self, **network):
        name = f"net-{random.randrange(10**9)}"
        self.create(name, **network)
        self.addCleanup(self.here.api, "DELETE", f"/sandboxes/{name}")
        return name

    def fetch(self, sandbox, url):
        ran = self.inside.run(sandbox, "curl", "-q", "-sS", "-k", "--max-time", "20", "-w", r"\n%{http_code}", url)
        if ran.status:
            return Fetched(REFUSALS.get(ran.status, f"curl ended with status {ran.status}"), ran.error)
        text, _, status = ran.output.rpartition("\n")
        if status == "403" and json.loads(text)["code"] == "EGRESS_DENIED":
            return Fetched("denied", text)
        return Fetched("answered" if status == "200" else status, text)

    def fares(self, sandbox, expected):
        for how, url in expected:
            fetched = self.fetch(sandbox, url)
            self.assertEqual(fetched.how, how, f"{url}: {fetched}")
            if how == "answered":
                host = url.split("/")[2]
                self.assertIn(f" answers GET / for {host}", fetched.text)
        # No policy allows the platform. The sandbox's default route leads to its gateway.
        ran = self.inside.run(sandbox, "sh", "-c", "awk '$2 == \"00000000\" {print $3}' /proc/net/route")
        gateway = socket.inet_ntoa(bytes.fromhex(ran.output)[::-1])
        platform = self.fetch(sandbox, f"http://{gateway}:{self.here.ports['gateway']}/")
        self.assertIn(platform.how, ("refused", "denied"), platform)

    def changed(self, sandbox, case):
        """Sets a policy, and waits until the sandbox's sidecar applies it."""
        network, expected = case
        self.set_network(sandbox, network)
        how, url = expected[0]
        world.eventually(lambda: self.fetch(sandbox, url).how == how, f"{url} is {how} with {network}", 60)
        self.fares(sandbox, expected)

    def set_network(self, sandbox, network):
        # As the documentation does for clients that can't.
        done = CurlInside().api("PATCH", sandbox, {"network": network})
        self.assertEqual(done["network_policy"]["allow_out"], network.get("allow_out", []))

    def test_each_kind_of_policy_is_enforced_from_the_start(self):
        for network, expected in (OPEN, OFF, NAMED, LISTED, PORTS, DENIED):
            with self.subTest(network=network):
                self.fares(self.made(**network), expected)

    def test_one_sandbox_from_its_policy_to_the_request_that_resumes_it(self):
        here = self.here
        sandbox = self.made(**NAMED[0])
        self.fares(sandbox, NAMED[1])
        # A change reaches live connections.
        pid = self.inside.start(sandbox, "bash", "-c", CONNECTION)
        world.eventually(lambda: self.connections(sandbox) == 1, "the connection is open")
        self.changed(sandbox, SWAPPED)
        world.eventually(lambda: self.inside.processes(sandbox)[pid] == "exited", "the connection is closed")
        output = json.loads(CurlInside().good(sandbox, "GET", f"/processes/{pid}/output"))
        self.assertEqual(output["lines"][-1], "closed", output)
        # A port.
        label = f"8080-{sandbox}"
        self.assertEqual((here.ask(label)[0], here.ask_as_owner(label)[0]), (401, 403))
        public = self.expose(sandbox)
        self.assertEqual((here.ask(label)[0], here.ask_as_owner(label)[0]), (200 if public else 401, 200))
        # A request resumes it, and neither its processes nor its policy are lost.
        pid = self.inside.start(sandbox, "sleep", "600")
        self.suspend(sandbox)
        world.eventually(lambda: here.status(sandbox) == "suspended", "the sandbox is suspended")
        self.assertEqual(here.ask_as_owner(label)[0], 200)
        self.assertEqual(here.status(sandbox), "running")
        # Where no cgroup v2 can be written, it starts anew.
        if glob.glob("/sys/fs/cgroup/sandgate-*") or glob.glob("/sys/fs/cgroup/unified/sandgate-*"):
            self.assertEqual(self.inside.processes(sandbox)[pid], "running")
        self.fares(sandbox, SWAPPED[1])
        # The owner sees all of it in the events.
        expected = {("outbound_denied", ELSEWHERE), ("outbound_denied", PACKAGES), ("inbound_denied", 8080),
                    ("network_policy_changed", None), ("ports_changed", None), ("suspended", None), ("resumed", None)}
        world.eventually(lambda: expected <= self.events(sandbox), "the events have everything", 60)

    def events(self, sandbox):
        """The types of the events of a sandbox, with the denied destination or port."""
        _, listed = self.here.api("GET", f"/sandboxes/{sandbox}/events")
        return {(event["type"], event.get("destination") or event.get("port")) for event in listed["events"]}

    def connections(self, sandbox):
        """The number of connections to the HTTPS port that the sandbox has."""
        # The port in hexadecimal, and the state of an open connection.
        ran = self.inside.run(sandbox, "sh", "-c", "grep -c ':01BB 01 ' /proc/net/tcp")
        return int(ran.output or 0)


class PythonNamespacesTest(Namespaces, unittest.TestCase):
    """Python SDK"""

    client = PythonInside

    def create(self, name, **network):
        self.inside.sdk.create(name=name, **network)

    def set_network(self, sandbox, network):
        self.inside.sdk.set_network(sandbox, network)

    def expose(self, sandbox):
        return self.inside.sdk.expose(sandbox, [8080], public=False)["allow_unauthenticated_access"]

    def suspend(self, sandbox):
        self.inside.sdk.suspend(sandbox)


class TypeScriptNamespacesTest(Namespaces, unittest.TestCase):
    """TypeScript SDK"""

    client = TypeScriptInside

    def create(self, name, **network):
        self.inside.sdk.create(name=name, **network)

    def expose(self, sandbox):
        return self.inside.sdk.expose(sandbox, [8080], public=False)["allow_unauthenticated_access"]

    def suspend(self, sandbox):
        self.inside.sdk.suspend(sandbox)


class TlNamespacesTest(Namespaces, unittest.TestCase):
    """tl"""

    client = TlInside

    def create(self, name, allow_internet_access=True, allow_out=(), deny_out=()):
        flags = [] if allow_internet_access else ["-N"]
        for flag, entries in (("-A", allow_out), ("-D", deny_out)):
            flags += [part for entry in entries for part in (flag, entry)]
        self.inside.tl.good("sbx", "create", *flags, name)

    def expose(self, sandbox):
        self.inside.tl.good("sbx", "port", "expose", sandbox, "8080")
        return True

    def suspend(self, sandbox):
        self.inside.tl.good("sbx", "suspend", sandbox)


class CurlNamespacesTest(Namespaces, unittest.TestCase):
    """curl"""

    client = CurlInside

    def create(self, name, **network):
        self.inside.api("POST", "", {"name": name, "network": network})

    def expose(self, sandbox):
        return self.inside.api("PATCH", sandbox, {"exposed_ports": [8080]})["allow_unauthenticated_access"]

    def suspend(self, sandbox):
        self.inside.api("POST", f"{sandbox}/suspend", None)


class ExampleTest(unittest.TestCase):
    """docs/examples/try_a_policy.py"""

    modes = ("namespaces",)

    def test_it_shows_the_policy_from_inside_its_events_and_a_resume(self):
        here = world.current
        environment = {"PATH": os.environ["PATH"], "TENSORLAKE_API_URL": here.api_url, "TENSORLAKE_API_KEY": here.api_key,
                       "TENSORLAKE_SANDBOX_PROXY_URL": here.proxy_url}
        done = subprocess.run([here.clients / "venv" / "bin" / "python", EXAMPLE], env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for part in (
            rf"is allowed:\n(.*\n)*?  curl http://{PACKAGES}/hello: {PACKAGES} answers GET /hello",
            rf"  curl http://{ELSEWHERE}/hello: curl: \(6\) Could not resolve host",
            rf"allowed instead:\n(.*\n)*?  curl http://{ELSEWHERE}/hello: {ELSEWHERE} answers GET /hello",
            rf"  curl http://{PACKAGES}/hello: curl: \(6\) Could not resolve host",
            rf"newest first.*\n    outbound_denied {ELSEWHERE} by the rule `default deny`\n",
            rf"newest first.*\n    outbound_denied {PACKAGES} by the rule `default deny`\n(    .*\n)*?"
            rf"    network_policy_changed allow_out: \['{ELSEWHERE}'\] instead of \['{PACKAGES}'\]\n(    .*\n)*?"
            rf"    outbound_denied {ELSEWHERE} ",
            r"  without: 401, with the API key: 200\n(.*\n)*?    inbound_denied port 8080 by the rule `UNAUTHENTICATED`\n",
            r"  status: suspended\n  with the API key: 200\n  status: running\n",
            r"\ndeleted try-",
        ):
            self.assertRegex(done.stdout, part)
