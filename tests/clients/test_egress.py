"""Network policies that clients set, and what a sandbox behind the real sidecar can reach."""

import json
import random
import unittest

import contract
import outbound
import world
from outbound import HERE, PRIVATE, PUBLIC, SITES, fetch
from python_sdk import PythonSdk
from test_contract import Commands
from tl import Tl
from typescript_sdk import TypeScriptSdk

DEFAULT = {"allow_internet_access": True, "allow_out": [], "deny_out": []}
OK, OTHER, EXAMPLE = (f"https://{name}/" for name in SITES)
KNOWN = {port: f"example.com:{port}:{SITES['example.com']}" for port in (80, 443)}

# The expected results of requests, with their options and URL. Denied plain HTTP gets a response that names the rule
# ("denied"), and denied TLS is reset ("refused").
OPEN = [
    *(("answered", url) for url in (OK, OTHER, EXAMPLE, f"http://{PUBLIC}/")),
    ("denied", f"http://{PRIVATE}/"),
]
# The same for a network.
OFF = {"allow_internet_access": False}, [
    ("no such name", OK),
    *((how, f"{scheme}://{address}/") for how, scheme in (("denied", "http"), ("refused", "https"))
      for address in (PRIVATE, PUBLIC, SITES["ok.test"])),
]
LISTED = {"allow_internet_access": False, "allow_out": ["10.0.0.0/8", "8.8.8.8"]}, [
    *(("answered", f"{scheme}://{address}/") for scheme in ("http", "https") for address in (PRIVATE, PUBLIC)),
    ("no such name", OK),
    ("denied", f"http://{SITES['ok.test']}/"),
]
NAMED = {"allow_internet_access": False, "allow_out": ["ok.test"]}, [
    ("answered", OK),
    ("answered", "http://ok.test/"),
    ("no such name", OTHER),
    # The address without the name, and with another's.
    ("refused", f"https://{SITES['ok.test']}/"),
    ("refused", "--connect-to", "other.test:443:ok.test:443", OTHER),
]
PORTS = {"allow_internet_access": False, "allow_out": ["ok.test:443", f"{PUBLIC}:1-80", "[2001:db8::]/32:8000-8100"]}, [
    ("answered", OK),
    ("denied", "http://ok.test/"),
    ("answered", f"http://{PUBLIC}/"),
    ("refused", f"https://{PUBLIC}/"),
]
DENIED = {"deny_out": ["example.com"]}, [
    ("no such name", EXAMPLE),
    ("refused", "--resolve", KNOWN[443], EXAMPLE),
    ("denied", "--resolve", KNOWN[80], "http://example.com/"),
    *(("answered", url) for url in (OK, OTHER, f"http://{PUBLIC}/")),
]
DENIED_ADDRESSES = {"deny_out": ["203.0.113.64/26", "8.8.8.8"]}, [
    ("refused", EXAMPLE),
    ("denied", f"http://{PUBLIC}/"),
    ("answered", OTHER),
]


class Egress:
    """The requests, which are the same for all clients."""

    modes = ("egress",)

    def fares(self, expected):
        """Sends the requests, and checks that each response comes from the site that the request was for."""
        for how, *options, url in expected:
            fetched = fetch(url, *options)
            self.assertEqual(fetched.how, how, f"{options} {url}: {fetched}")
            if how == "answered":
                host = url.split("/")[2]
                self.assertEqual(fetched.text, SITES.get(host, host), f"{options} {url}")
        # No policy allows it.
        platform = fetch(f"http://{HERE}:{world.current.ports['gateway']}/")
        self.assertIn(platform.how, ("refused", "denied"), platform)

    def enforced(self, sandbox, expected):
        with outbound.sidecar(sandbox):
            self.fares(expected)


class Networks(Egress):
    """A client creates sandboxes with a network policy."""

    def check(self, case):
        network, expected = case
        made = self.create(f"net-{random.randrange(10**9)}", **network)
        self.assertEqual(self.network(made), DEFAULT | network)
        self.enforced(made, expected)

    def network(self, sandbox):
        """The policy of a sandbox in the responses of the API."""
        found = world.current.api("GET", f"/sandboxes/{sandbox}")[1]
        self.assertEqual(found["network"], found["network_policy"])
        return found["network_policy"]

    def test_without_internet_access_nothing_is_reached(self):
        self.check(OFF)

    def test_only_listed_addresses_are_reached(self):
        self.check(LISTED)

    def test_only_listed_ports_are_reached(self):
        self.check(PORTS)

    def test_a_denied_name_is_not_reached(self):
        self.check(DENIED)


class PythonSdkEgressTest(Networks, unittest.TestCase):
    """Python SDK"""

    @classmethod
    def setUpClass(cls):
        cls.client = PythonSdk()
        cls.addClassCleanup(cls.client.close)

    def create(self, name, **network):
        return self.client.create(name=name, **network)

    def network(self, sandbox):
        # The type that the SDK returns.
        return self.client.network(sandbox)

    def test_only_listed_names_are_reached(self):
        self.check(NAMED)

    # These versions of the other clients can't change a policy.
    def test_a_change_reaches_the_running_sidecar(self):
        sandbox = self.create(f"net-{random.randrange(10**9)}")
        self.assertEqual(self.network(sandbox), DEFAULT)
        ok, other = (f"http://{SITES[name]}/" for name in ("ok.test", "other.test"))

        def changed(network, *fares):
            self.client.set_network(sandbox, network)
            self.assertEqual(self.network(sandbox), DEFAULT | (network or {}))
            for how, url in fares:
                world.eventually(lambda how=how, url=url: fetch(url).how == how, f"{url} is {how} with {network}", 60)

        with outbound.sidecar(sandbox):
            self.fares(OPEN)
            changed({"allow_internet_access": False}, ("denied", ok), ("denied", other))
            changed({"allow_internet_access": False, "allow_out": [SITES["ok.test"]]}, ("answered", ok))
            self.fares([("denied", other)])
            changed({"deny_out": [SITES["ok.test"]]}, ("denied", ok), ("answered", other))
            changed(None, ("answered", ok))
            self.client.delete(sandbox)
            world.eventually(lambda: fetch(ok).how == "denied", "a deleted sandbox reaches nothing", 60)

    def test_an_invalid_entry_is_refused_and_the_policy_stays(self):
        sandbox = self.create(f"net-{random.randrange(10**9)}", deny_out=["example.com"])
        with self.assertRaisesRegex(Exception, "1.2.3"):
            self.client.set_network(sandbox, {"allow_out": ["1.2.3"]})
        self.assertEqual(self.network(sandbox), DEFAULT | {"deny_out": ["example.com"]})


class TypeScriptSdkEgressTest(Networks, unittest.TestCase):
    """TypeScript SDK"""

    @classmethod
    def setUpClass(cls):
        cls.client = TypeScriptSdk()
        cls.addClassCleanup(cls.client.close)

    def create(self, name, **network):
        return self.client.create(name=name, **network)


class TlEgressTest(Networks, unittest.TestCase):
    """tl"""

    def create(self, name, allow_internet_access=True, allow_out=(), deny_out=()):
        flags = [] if allow_internet_access else ["-N"]
        for flag, entries in (("-A", allow_out), ("-D", deny_out)):
            flags += [part for entry in entries for part in (flag, entry)]
        return Tl().good("sbx", "create", *flags, name).strip()

    def test_denied_addresses_are_not_reached(self):
        self.check(DENIED_ADDRESSES)


class CurlEgressTest(Egress, Commands):
    """curl"""

    def test_the_networks_of_the_contract(self):
        for text in contract.NETWORKS:
            line = self.here_is(contract.create(text), "")
            done = self.shell(line.replace("curl ", "curl -sS --fail-with-body ", 1))
            self.assertEqual(done.returncode, 0, f"{line}\n{done}")
            made = json.loads(done.stdout)["sandbox_id"]
            network = json.loads(text)
            self.assertEqual(self.here.api("GET", f"/sandboxes/{made}")[1]["network_policy"], DEFAULT | network)
            [expected] = [expected for known, expected in (OFF, LISTED, DENIED) if known == network]
            self.enforced(made, expected)
