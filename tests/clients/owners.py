"""The tests of what an owner does with an SDK. They run with each SDK and in each mode."""

import abc
import hashlib
import os
import random
import socket

import service
import world

class Client(abc.ABC):
    """An SDK. Arguments are ids or names of sandboxes, and results are dictionaries with the keys of the API."""

    def close(self):
        """Releases the resources of the client."""

    @abc.abstractmethod
    def create(self, **options): ...
    @abc.abstractmethod
    def get(self, sandbox): ...
    @abc.abstractmethod
    def list(self): ...
    @abc.abstractmethod
    def expose(self, sandbox, ports, public): ...
    @abc.abstractmethod
    def unexpose(self, sandbox, ports): ...
    @abc.abstractmethod
    def suspend(self, sandbox): ...
    @abc.abstractmethod
    def resume(self, sandbox): ...
    @abc.abstractmethod
    def delete(self, sandbox): ...
    @abc.abstractmethod
    def health(self, sandbox): ...
    @abc.abstractmethod
    def snapshot(self, sandbox): ...
    @abc.abstractmethod
    def tunnel(self, sandbox, port): ...


class Owners:
    """The tests. A subclass names an SDK and is also a TestCase."""

    sdk: type[Client]
    credential = "api key"

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.client = cls.sdk(cls.credential)
        cls.addClassCleanup(cls.client.close)

    def name(self, what):
        """A name that no other test uses."""
        return f"{what}-{self.sdk.__name__.lower()}-{random.randrange(10**6)}"

    def codes(self, sandbox, port=8080):
        """The statuses that a request without a credential and a request of the owner get from a port."""
        label = f"{port}-{sandbox}"
        return self.here.ask(label)[0], self.here.ask_as_owner(label)[0]

    def test_what_was_created_is_found_by_id_by_name_and_in_the_list(self):
        name = self.name("find")
        made = self.client.create(name=name)
        self.assertRegex(made, r"^[a-z0-9]{21}$")
        for key in (made, name):
            found = self.client.get(key)
            self.assertEqual((found["id"], found["name"], found["status"]), (made, name, "running"))
        self.assertIn(made, [sandbox["id"] for sandbox in self.client.list()])
        self.client.delete(name)
        self.assertNotIn(made, [sandbox["id"] for sandbox in self.client.list() if sandbox["status"] != "terminated"])

    def test_a_sandbox_without_a_name_is_reached_by_its_id(self):
        made = self.client.create()
        self.client.expose(made, [8080], public=False)
        self.assertEqual(self.codes(made), (401, 200))
        self.client.delete(made)
        self.assertEqual(self.codes(made), (401, 404))

    def test_a_port_exposed_privately_needs_a_credential_until_it_is_unexposed(self):
        name = self.name("private")
        self.here.sandbox(name)
        self.assertEqual(self.codes(name), (401, 403))
        after = self.client.expose(name, [8080], public=False)
        self.assertEqual((after["exposed_ports"], after["allow_unauthenticated_access"]), ([8080], False))
        self.assertEqual(self.codes(name), (401, 200))
        after = self.client.unexpose(name, [8080])
        self.assertEqual(after["exposed_ports"] or [], [])
        self.assertEqual(self.codes(name), (401, 403))

    def test_a_port_exposed_publicly_needs_no_credential_until_it_is_unexposed(self):
        name = self.name("public")
        self.here.sandbox(name)
        after = self.client.expose(name, [8080], public=True)
        self.assertEqual((after["exposed_ports"], after["allow_unauthenticated_access"]), ([8080], True))
        self.assertEqual(self.codes(name), (200, 200))
        after = self.client.unexpose(name, [8080])
        # The SDKs remove the flag together with the last port.
        self.assertEqual((after["exposed_ports"] or [], after["allow_unauthenticated_access"]), ([], False))
        self.assertEqual(self.codes(name), (401, 403))

    def test_ports_are_added_to_those_that_are_exposed(self):
        name = self.name("more")
        self.here.sandbox(name, exposed_ports=[3000])
        self.assertEqual(self.client.expose(name, [8080], public=False)["exposed_ports"], [3000, 8080])
        self.assertEqual(self.client.unexpose(name, [3000])["exposed_ports"], [8080])

    def test_the_management_port_can_not_be_exposed(self):
        name = self.name("reserved")
        self.here.sandbox(name)
        with self.assertRaisesRegex(Exception, "9501"):
            self.client.expose(name, [9501], public=True)
        self.assertEqual(self.here.ask(name, "/api/v1/health")[0], 401)

    def test_suspend_and_resume_end_in_the_state_that_they_promise(self):
        name = self.name("sleep")
        self.here.sandbox(name)
        self.client.suspend(name)
        self.assertEqual(self.client.get(name)["status"], "suspended")
        self.client.resume(name)
        self.assertEqual(self.client.get(name)["status"], "running")

    def test_health_answers_through_the_proxy(self):
        name = self.name("well")
        made = self.here.sandbox(name)
        for key in (name, made):
            self.assertIs(self.client.health(key), True)

    def test_health_of_a_suspended_sandbox_resumes_it_in_time(self):
        name = self.name("wake")
        self.here.sandbox(name)
        self.client.suspend(name)
        with self.here.carried() as requests:
            self.assertIs(self.client.health(name), True)
        # A client that timed out (the Python SDK does after 3 s) would have sent another request.
        self.assertEqual(statuses(requests, "/api/v1/health"), [200])
        self.assertEqual(self.client.get(name)["status"], "running")

    def test_a_sandbox_of_another_owner_is_not_found(self):
        project = self.here.sandgate("projects", "create", self.name("other"), "--organization", self.here.organization)["id"]
        other = self.here.sandgate("keys", "create", "--project", project)["secret"]
        name = self.name("foreign")
        mine, self.here.api_key = self.here.api_key, other
        try:
            self.here.sandbox(name, exposed_ports=[8080])
        finally:
            self.here.api_key = mine
        with self.assertRaisesRegex(Exception, "(?i)404|not found"):
            self.client.get(name)
        with self.assertRaisesRegex(Exception, "(?i)404|not found"):
            self.client.health(name)

    def test_ten_megabytes_go_through_a_tunnel_both_ways_unchanged(self):
        name = self.name("tunnel")
        self.here.sandbox(name)
        sent = os.urandom(10 << 20)
        with service.Echo(self.here.address(name)) as echo, self.client.tunnel(name, echo.port) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                received = service.exchange(connection, sent)
            self.assertEqual(digest(received), digest(sent), f"{len(received)} of {len(sent)} bytes came back")
            self.assertEqual(digest(echo.received()), digest(sent))

    def test_a_tunnel_to_a_suspended_sandbox_resumes_it(self):
        name = self.name("tunnel-wake")
        self.here.sandbox(name)
        self.client.suspend(name)
        with self.client.tunnel(name, 8080) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n")
                self.assertTrue(service.read_to_end(connection).startswith(b"HTTP/1.1 200"))
        self.assertEqual(self.client.get(name)["status"], "running")

    def test_a_network_policy_that_nobody_would_enforce_is_refused(self):
        name = self.name("network")
        with self.assertRaisesRegex(Exception, "network"):
            self.client.create(name=name, allow_internet_access=False)
        self.assertIsNone(self.here.status(name))

    def test_a_call_that_is_not_supported_is_not_taken_for_a_missing_sandbox(self):
        name = self.name("no-snapshots")
        self.here.sandbox(name)
        with self.assertRaises(Exception) as raised:
            self.client.snapshot(name)
        said = f"{type(raised.exception).__name__}: {raised.exception}"
        self.assertRegex(said, rf"POST \S*/sandboxes/{name}/snapshot` is not supported")
        self.assertNotRegex(said.lower(), r"not ?found")


def statuses(requests, path):
    """The statuses of the requests for that path, in order."""
    return [request["status"] for request in requests if request["path"] == path]


def digest(data):
    return hashlib.sha256(data).hexdigest()
