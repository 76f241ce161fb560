"""The tests of owners.py with each SDK, and tests of single SDKs."""

import json
import os
import random
import socket
import subprocess
import unittest

import owners
import service
import world
from owners import Owners
from python_sdk import PythonSdk
from typescript_sdk import TypeScriptSdk


class PythonSdkTest(Owners, unittest.TestCase):
    """Python SDK"""

    sdk = PythonSdk
    # It trusts only the authorities that it contains.
    modes = ("local", "cloud")

    # The other SDK can't set ports at creation.
    def test_ports_given_at_creation_are_exposed_from_the_start(self):
        name = self.name("born")
        made = self.client.create(name=name, exposed_ports=[8080, 3000], allow_unauthenticated_access=True)
        found = self.client.get(made)
        self.assertEqual((found["exposed_ports"], found["allow_unauthenticated_access"]), ([3000, 8080], True))
        self.assertEqual(self.codes(name), (200, 200))

    # The other SDK closes the local connection as soon as either side closes its direction.
    def test_a_connection_through_a_tunnel_can_be_half_closed(self):
        name = self.name("tunnel-half")
        self.here.sandbox(name)
        sent = os.urandom(1 << 20)
        with service.Echo(self.here.address(name)) as echo, self.client.tunnel(name, echo.port) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                received = service.exchange(connection, sent)
                connection.sendall(b"the end")
                connection.shutdown(socket.SHUT_WR)
                received += service.read_to_end(connection)
            said = f"{len(received)} of {len(sent) + 7} bytes came back"
            self.assertEqual(owners.digest(received), owners.digest(sent + b"the end"), said)

    # The other SDK ends its process in this case.
    def test_a_tunnel_to_a_closed_port_ends_the_connection(self):
        name = self.name("tunnel-nobody")
        self.here.sandbox(name)
        with self.client.tunnel(name, 9) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                self.assertEqual(service.read_to_end(connection), b"")


class PythonSdkWithPatTest(PythonSdkTest):
    """Python SDK with a personal access token"""

    credential = "personal access token"


class TypeScriptSdkTest(Owners, unittest.TestCase):
    """TypeScript SDK"""

    sdk = TypeScriptSdk


class TypeScriptSdkWithPatTest(TypeScriptSdkTest):
    """TypeScript SDK with a personal access token"""

    credential = "personal access token"


class SandboxObjectsTest(unittest.TestCase):
    """Sandbox.create and Sandbox.connect"""

    # The newer interface of the SDKs. It is configured by the environment only.
    PYTHON = """
import json, sys
from tensorlake.sandbox import Sandbox
made = Sandbox.create(name=sys.argv[1])
before = made.status.value
made.suspend()
asleep = made.status.value
healthy = Sandbox.connect(sys.argv[1]).health().value.healthy
after = made.status.value
made.terminate()
print(json.dumps([before, asleep, healthy, after, made.sandbox_id]))
"""
    TYPESCRIPT = """
import { createRequire } from "node:module";
const { Sandbox } = createRequire(`${process.env.CLIENTS}/package.json`)("tensorlake");
const name = process.argv[1];
const made = await Sandbox.create({ name });
const before = await made.status();
await made.suspend();
const asleep = await made.status();
const { healthy } = await (await Sandbox.connect({ sandboxId: name })).health();
const after = await made.status();
await made.terminate();
process.stdout.write(JSON.stringify([before, asleep, healthy, after, made.sandboxId]));
"""

    def check(self, *command):
        here = world.current
        name = f"objects-{random.randrange(10**9)}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(here.folder), "CLIENTS": str(here.clients),
                       "TENSORLAKE_API_URL": here.api_url, "TENSORLAKE_API_KEY": here.api_key} | here.trust
        done = subprocess.run([*command, name], env=environment, stdin=subprocess.DEVNULL, timeout=60, capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        *states, made = json.loads(done.stdout)
        self.assertEqual(states, ["running", "suspended", True, "running"])
        self.assertIn(here.status(made), (None, "terminated"))

    def test_python(self):
        self.check(world.current.clients / "venv" / "bin" / "python", "-c", self.PYTHON)

    test_python.modes = PythonSdkTest.modes

    def test_typescript(self):
        self.check(world.current.clients / "node", "--input-type=module", "--eval", self.TYPESCRIPT)
