"""WebSockets with the `websockets` library, with credentials in headers and in the forms that browsers send."""

import json
import os
import random
import ssl
import unittest
from socket import create_connection

import world
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

SECONDS = 20


class WebSocketsTest(unittest.TestCase):
    """websockets"""

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.name = f"ws-{random.randrange(10**9)}"
        cls.here.sandbox(cls.name, exposed_ports=[3000])

    def open(self, query="", origin=None, **headers):
        """Opens a WebSocket to the echo in the sandbox. `_` in a header's name becomes `-`."""
        # Without a DNS server, the library gets an open connection.
        where = {} if self.here.names_resolve else {"sock": create_connection(("127.0.0.1", self.here.ports["edge"]))}
        if self.here.s:
            where["ssl"] = ssl.create_default_context(cafile=self.here.authority)
        return connect(f"ws{self.here.s}://{self.here.host(f'3000-{self.name}')}/socket{query}", origin=origin, open_timeout=SECONDS,
                       close_timeout=SECONDS, max_size=None, proxy=None,
                       additional_headers={name.replace("_", "-"): value for name, value in headers.items()}, **where)

    def refusal(self, *arguments, **headers):
        """(status, code) of a refused upgrade."""
        with self.assertRaises(InvalidStatus) as refused:
            self.open(*arguments, **headers)
        response = refused.exception.response
        return response.status_code, json.loads(response.body)["code"]

    def seen(self, socket):
        """The upgrade as the sandbox received it."""
        socket.send("headers?")
        return json.loads(socket.recv(SECONDS))

    def context(self):
        return f"?organizationId={self.here.organization}&projectId={self.here.project}"

    def test_text_and_binary_come_back_with_an_api_key_in_a_header(self):
        with self.open(Authorization=f"Bearer {self.here.api_key}") as socket:
            for message in ("hello", "", "h\u00e9llo", b"\x00\xff", os.urandom(1 << 20)):
                socket.send(message)
                self.assertEqual(socket.recv(SECONDS), message)
            self.assertNotIn(self.here.api_key, json.dumps(self.seen(socket)))

    def test_ten_megabytes_come_back_in_one_message(self):
        with self.open(Authorization=f"Bearer {self.here.api_key}") as socket:
            message = os.urandom(10 << 20)
            socket.send(message)
            self.assertTrue(socket.recv(SECONDS) == message, "the message changed")

    def test_a_personal_access_token_works_with_organization_and_project_in_headers(self):
        with self.open(Authorization=f"Bearer {self.here.pat}", X_Forwarded_Organization_Id=self.here.organization,
                       X_Forwarded_Project_Id=self.here.project) as socket:
            socket.send("hello")
            self.assertEqual(socket.recv(SECONDS), "hello")

    def test_a_browsers_cookie_works_with_organization_and_project_in_the_query(self):
        origin = f"http{self.here.s}://{self.here.host(f'3000-{self.name}')}"
        for cookie in ("tl.session_token", "tl-session"):
            with self.open(self.context() + "&own=1", origin, Cookie=f"own=1; {cookie}={self.here.session}") as socket:
                seen = self.seen(socket)
            self.assertIn("own=1", seen["target"])
            self.assertIn(["cookie", "own=1"], seen["headers"])
            self.assertNotIn(self.here.session, json.dumps(seen))

    def test_a_cookie_from_another_origin_opens_no_socket(self):
        cookie = f"tl.session_token={self.here.session}"
        refused = self.refusal(self.context(), "http://elsewhere.example", Cookie=cookie)
        self.assertEqual(refused, (403, "CROSS_ORIGIN"))

    def test_a_cookie_without_organization_and_project_is_refused_with_what_is_missing(self):
        origin = f"http{self.here.s}://{self.here.host(f'3000-{self.name}')}"
        refused = self.refusal("", origin, Cookie=f"tl.session_token={self.here.session}")
        self.assertEqual(refused, (400, "PROJECT_CONTEXT_REQUIRED"))

    def test_no_credential_and_a_wrong_one_are_refused(self):
        self.assertEqual(self.refusal(), (401, "UNAUTHENTICATED"))
        self.assertEqual(self.refusal(Authorization="Bearer tl_apiKey_wrong"), (401, "INVALID_CREDENTIALS"))

    def test_an_open_socket_is_closed_when_its_port_is_unexposed(self):
        name = f"{self.name}-live"
        self.here.sandbox(name, exposed_ports=[3000])
        here, self.name = self.name, name
        self.addCleanup(setattr, self, "name", here)
        with self.open(Authorization=f"Bearer {self.here.api_key}") as socket:
            socket.send("hello")
            self.assertEqual(socket.recv(SECONDS), "hello")
            self.here.api("PATCH", f"/sandboxes/{name}", {"exposed_ports": []})
            with self.assertRaises(Exception) as ended:
                socket.recv(SECONDS)
            self.assertNotIsInstance(ended.exception, TimeoutError)
