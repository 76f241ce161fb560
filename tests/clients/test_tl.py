"""The `tl` command as an owner uses it."""

import os
import random
import re
import socket
import unittest

import confirming
import owners
import service
import world
from tl import Tl


class TlTest(unittest.TestCase):
    """tl"""

    credential = "api key"

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.tl = Tl(cls.credential)

    def setUp(self):
        self.name = f"tl-{random.randrange(10**9)}"

    def codes(self, port=8080):
        """The statuses that a request without a credential and a request of the owner get from a port."""
        label = f"{port}-{self.name}"
        return self.here.ask(label)[0], self.here.ask_as_owner(label)[0]

    def ports(self):
        """(the exposed ports of the sandbox, whether they are public) in the API."""
        found = self.here.api("GET", f"/sandboxes/{self.name}")[1]
        return found["exposed_ports"], found["allow_unauthenticated_access"]

    def test_whoami_names_organization_and_project(self):
        output = self.tl.good("whoami")
        self.assertIn(f"clients ({self.here.organization})", output)
        self.assertIn(f"clients ({self.here.project})", output)

    def test_create_describe_name_list_and_terminate(self):
        made = self.tl.good("sbx", "create", self.name).strip()
        self.assertRegex(made, r"^[a-z0-9]{21}$")
        described = self.tl.good("sbx", "describe", self.name)
        for line in (rf"ID: +{made}", rf"Name: +{self.name}", r"Status: +running", r"Proxy auth: +required"):
            self.assertRegex(described, line)
        self.tl.good("sbx", "name", self.name, f"{self.name}-b")
        self.assertRegex(self.tl.good("sbx", "ls", "--running"), rf"{made}\s+{self.name}-b\s+running")
        self.tl.good("sbx", "terminate", f"{self.name}-b")
        self.assertNotIn(made, self.tl.good("sbx", "ls", "--running"))

    def test_create_with_ports_makes_them_public(self):
        self.tl.good("sbx", "create", "--expose", "8080", self.name)
        self.assertEqual(self.codes(), (200, 200))

    def test_port_expose_makes_public_and_port_rm_takes_it_back(self):
        self.here.sandbox(self.name)
        self.assertIn("No user-exposed ports", self.tl.good("sbx", "port", "ls", self.name))
        self.assertIn("Unauthenticated access enabled", self.tl.good("sbx", "port", "expose", self.name, "8080", "3000"))
        self.assertEqual((self.codes(), self.ports()), ((200, 200), ([3000, 8080], True)))
        self.assertRegex(self.tl.good("sbx", "port", "ls", self.name), r"(?s)access: enabled.*3000.*8080")
        self.tl.good("sbx", "port", "rm", self.name, "3000")
        self.assertEqual((self.codes(), self.ports()), ((200, 200), ([8080], True)))
        self.assertIn("Unauthenticated access disabled", self.tl.good("sbx", "port", "rm", self.name, "8080"))
        self.assertEqual((self.codes(), self.ports()), ((401, 403), ([], False)))

    def test_port_rm_makes_the_other_ports_public_and_the_log_warns_of_it(self):
        # It sends the remaining ports with `true`, whatever the flag was.
        made = self.here.sandbox(self.name, exposed_ports=[3000, 8080])
        self.assertEqual(self.codes(), (401, 200))
        before = len(self.here.log())
        self.assertIn("Unauthenticated access enabled", self.tl.good("sbx", "port", "rm", self.name, "3000"))
        self.assertEqual((self.codes(), self.ports()), ((200, 200), ([8080], True)))
        warnings = [line for line in self.here.log()[before:].splitlines() if " WARN " in line]
        self.assertEqual(len(warnings), 1, warnings)
        for part in ("ports that needed a credential are public now", f"sandbox={made}", "[8080]", self.here.project):
            self.assertIn(part, warnings[0])

    def test_port_rm_of_a_port_that_is_not_exposed_makes_the_others_public_and_the_log_warns_of_it(self):
        self.here.sandbox(self.name, exposed_ports=[8080])
        before = len(self.here.log())
        self.tl.good("sbx", "port", "rm", self.name, "9999")
        self.assertEqual((self.codes(), self.ports()), ((200, 200), ([8080], True)))
        self.assertIn("ports that needed a credential are public now", self.here.log()[before:])

    def test_port_rm_that_makes_other_ports_public_is_refused_with_a_remedy_if_it_must_be_confirmed(self):
        with confirming.control_plane(self.here.folder / self.name) as there:
            tl = Tl(self.credential).at(there.api_url, there.api_key)
            body = {"name": self.name, "exposed_ports": [3000, 8080]}
            self.assertEqual(there.api("POST", "/sandboxes", body)[0], 200)

            def ports():
                found = there.api("GET", f"/sandboxes/{self.name}")[1]
                return found["exposed_ports"], found["allow_unauthenticated_access"]

            for command in (("rm", "3000"), ("rm", "9999"), ("expose", "9000")):
                done = tl("sbx", "port", command[0], self.name, command[1])
                self.assertEqual((done.status, ports()), (1, ([3000, 8080], False)), done)
                self.assertRegex(done.error, r'8080 need a credential.*"allow_unauthenticated_access.*alone')
            # After the command that the error names, the same command works.
            there.api("PATCH", f"/sandboxes/{self.name}", {"allow_unauthenticated_access": True})
            tl.good("sbx", "port", "rm", self.name, "3000")
            self.assertEqual(ports(), ([8080], True))

    def test_the_management_port_can_not_be_exposed(self):
        self.here.sandbox(self.name)
        done = self.tl("sbx", "port", "expose", self.name, "9501")
        self.assertEqual((done.status, self.ports()), (2, ([], False)))
        self.assertIn("9501", done.error)

    def test_suspend_and_resume(self):
        self.here.sandbox(self.name)
        self.tl.good("sbx", "suspend", self.name)
        self.assertRegex(self.tl.good("sbx", "describe", self.name), r"Status: +suspended")
        self.tl.good("sbx", "resume", self.name)
        self.assertRegex(self.tl.good("sbx", "describe", self.name), r"Status: +running")

    def test_a_network_policy_that_nobody_would_enforce_is_refused(self):
        done = self.tl("sbx", "create", "--no-internet", self.name)
        self.assertEqual((done.status, self.here.status(self.name)), (1, None))
        self.assertIn("network", done.error)

    def test_a_missing_sandbox_is_reported(self):
        for command in (("terminate",), ("describe",), ("port", "ls"), ("suspend",)):
            done = self.tl("sbx", *command, self.name)
            self.assertEqual(done.status, 1, done)
            self.assertRegex(done.error, r"(?i)not.found|no such sandbox")

    # Its WebSockets trust only the authorities that it contains.
    def test_ten_megabytes_go_through_a_tunnel_both_ways_unchanged(self):
        self.here.sandbox(self.name)
        sent = os.urandom(10 << 20)
        with service.Echo(self.here.address(self.name)) as echo, self.tl.tunnel(self.name, echo.port) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                received = service.exchange(connection, sent)
            self.assertEqual(owners.digest(received), owners.digest(sent), f"{len(received)} of {len(sent)} bytes came back")
            self.assertEqual(owners.digest(echo.received()), owners.digest(sent))

    def test_a_tunnel_to_a_suspended_sandbox_resumes_it_in_time(self):
        self.here.sandbox(self.name)
        self.tl.good("sbx", "suspend", self.name)
        with self.here.carried() as requests, self.tl.tunnel(self.name, 8080) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n")
                answer = service.read_to_end(connection)
        self.assertTrue(re.match(rb"HTTP/1.1 200", answer), answer)
        self.assertEqual(owners.statuses(requests, "/api/v1/tunnels/tcp"), [101])
        self.assertEqual(self.here.status(self.name), "running")

    test_ten_megabytes_go_through_a_tunnel_both_ways_unchanged.modes = ("local", "cloud")
    test_a_tunnel_to_a_suspended_sandbox_resumes_it_in_time.modes = ("local", "cloud")


class TlWithPatTest(TlTest):
    """tl with a personal access token"""

    credential = "personal access token"
