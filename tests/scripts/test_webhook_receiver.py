"""The example receiver on a real socket: whom it believes, and that it does each step once.

Run by `make test`; alone: python3 -m unittest discover --start-directory tests/scripts
"""

import http.client
import json
import sys
import threading
import time
import unittest
from http.server import ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "docs" / "examples"))
import webhook_receiver  # noqa: E402

SECRET = b"a-secret-of-this-test"


class Platform:
    """Counts what it is told, and takes as long as it is told to."""

    def __init__(self):
        self.runs = 0
        self.ended = 0
        self.gate = threading.Event()
        self.gate.set()
        self.failure = None

    def run(self, sandbox):
        self.gate.wait(20)
        self.runs += 1
        if self.failure:
            raise self.failure
        return self, f"10.0.0.{self.runs}"

    def poll(self):
        return None

    def end(self, _process):
        self.ended += 1


class Receiver(unittest.TestCase):
    def setUp(self):
        self.platform = Platform()

        class Handler(webhook_receiver.Receiver):
            secret = SECRET
            fleet = webhook_receiver.Fleet(self.platform)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = server.server_address

    def send(self, body, timestamp=None, **headers):
        timestamp = str(int(time.time())) if timestamp is None else timestamp
        sent = {"X-Sandgate-Timestamp": timestamp, "X-Sandgate-Signature": webhook_receiver.signature(SECRET, timestamp, body)}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        self.addCleanup(connection.close)
        connection.request("POST", "/", body, {name: value for name, value in sent.items() if value is not None})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def call(self, action, key, sandbox="a" * 21, placement=1):
        subject = {"id": sandbox, "placement": placement, "name": "my-env", "spec": {}}
        return self.send(json.dumps({"action": action, "idempotency_key": key, "sandbox": subject}).encode())

    def test_only_calls_that_are_signed_and_fresh_are_believed(self):
        body = json.dumps({"action": "start", "idempotency_key": "k", "sandbox": {"id": "a" * 21, "placement": 1, "name": None, "spec": {}}}).encode()
        now = int(time.time())
        other = webhook_receiver.signature(b"another-secret", str(now), body)
        for refused in (
                dict(X_Sandgate_Signature=None), dict(X_Sandgate_Signature=other), dict(X_Sandgate_Signature=other[3:]),
                dict(X_Sandgate_Timestamp=None), dict(X_Sandgate_Timestamp=str(now - 1)), dict(timestamp=str(now - 301)),
                dict(timestamp=str(now + 330)), dict(timestamp=f"{now}.0"), dict(timestamp="\u0661".encode().decode("latin-1"))):
            with self.subTest(refused):
                status, _ = self.send(body, **refused)
                self.assertEqual(status, 401)
        self.assertEqual(self.platform.runs, 0)
        self.assertEqual(self.send(body), (200, {"state": "running", "address": "10.0.0.1"}))

    def test_a_call_that_comes_again_is_not_done_again_even_much_later(self):
        self.assertEqual(self.call("start", "1"), (200, {"state": "running", "address": "10.0.0.1"}))
        self.assertEqual(self.call("start", "1"), (200, {"state": "running", "address": "10.0.0.1"}))
        self.assertEqual(self.call("suspend", "2"), (200, {"state": "suspended"}))
        self.assertEqual(self.call("resume", "3")[1]["address"], "10.0.0.2")
        # The first attempt at the suspension, which was long on its way.
        self.assertEqual(self.call("suspend", "2")[1]["state"], "running")
        self.assertEqual((self.platform.runs, self.platform.ended), (2, 1))

    def test_a_call_about_a_placement_that_has_ended_changes_nothing(self):
        self.call("start", "1")
        self.platform.failure = OSError("broken, on purpose, by this test")
        end, self.platform.end = self.platform.end, self.platform.run
        self.assertEqual(self.call("suspend", "2")[0], 500)
        self.platform.end, self.platform.failure = end, None
        self.call("resume", "3", placement=2)
        # The step failed, so its key tells nothing about it.
        self.assertEqual(self.call("suspend", "2")[1]["state"], "running")
        self.assertEqual(self.call("stop", "4")[1]["state"], "running")
        self.assertEqual(self.platform.ended, 0)
        self.assertEqual(self.call("suspend", "5", placement=2), (200, {"state": "suspended"}))

    def test_what_takes_long_is_pending_and_then_done(self):
        self.platform.gate.clear()
        self.assertEqual(self.call("start", "1"), (202, {"state": "pending"}))
        self.platform.gate.set()
        deadline = time.monotonic() + 20
        while self.call("start", "1")[0] == 202:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(self.call("start", "1"), (200, {"state": "running", "address": "10.0.0.1"}))
        self.assertEqual(self.platform.runs, 1)

    def test_a_refusal_is_said_and_a_failure_can_be_tried_again(self):
        self.platform.failure = webhook_receiver.Refusal("no")
        self.assertEqual(self.call("start", "1"), (422, {"error": "no"}))
        self.platform.failure = OSError("broken, on purpose, by this test")
        self.assertEqual(self.call("start", "1")[0], 500)
        self.platform.failure = None
        self.assertEqual(self.call("start", "1")[0], 200)

    def test_what_is_no_call_is_refused(self):
        for body in (b"", b"{", b"[]", b"{}", b'{"action": "melt", "idempotency_key": "1", "sandbox": {}}',
                     b'{"action": "stop", "idempotency_key": "1", "sandbox": {"id": "a"}}', b"\xff"):
            with self.subTest(body):
                self.assertEqual(self.send(body)[0], 400)
        self.assertEqual(self.send(b" " * 300_000)[0], 413)
        self.assertEqual(self.call("stop", "9")[0], 404)


if __name__ == "__main__":
    unittest.main()
