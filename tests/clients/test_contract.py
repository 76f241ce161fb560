"""The contract's commands: curl, wscat and fetch."""

import json
import os
import random
import subprocess
import unittest

import contract
import world
from inside import CurlInside
from typescript_sdk import TypeScriptSdk


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.name = f"contract-{random.randrange(10**9)}"
        cls.id = cls.here.sandbox(cls.name)
        cls.environment = {
            "PATH": os.environ["PATH"], "HOME": str(cls.here.folder),
            "TENSORLAKE_API_KEY": cls.here.api_key, "TENSORLAKE_PAT": cls.here.pat,
            "TENSORLAKE_SESSION_TOKEN": cls.here.session,
            "TENSORLAKE_ORGANIZATION_ID": cls.here.organization, "TENSORLAKE_PROJECT_ID": cls.here.project,
        } | cls.here.trust

    def here_is(self, line, sandbox):
        """The command line with the hosts of this run."""
        schemes = () if self.here.s else (("https://", "http://"), ("wss://", "ws://"))
        for printed, ours in (*schemes, ("<sandbox-id-or-name>", sandbox), ("api.tensorlake.ai", self.here.api_url.split("/")[2]),
                              (".sandbox.tensorlake.ai", self.here.host(""))):
            line = line.replace(printed, ours)
        return line

    def shell(self, line, timeout=30):
        # The input stays open, because wscat ends when it ends.
        reader, writer = os.pipe()
        try:
            return subprocess.run(["bash", "-c", line], env=self.environment, stdin=reader, timeout=timeout,
                                  capture_output=True, text=True)
        finally:
            os.close(reader)
            os.close(writer)


class CurlTest(Commands):
    """curl"""

    def test_every_command_of_the_contract_works_by_name_and_by_id(self):
        resolve = "" if self.here.names_resolve else f"--resolve '*:{self.here.ports['edge']}:127.0.0.1' "
        for sandbox in (self.name, self.id):
            for curl in (*contract.CURLS, *contract.REFUSED):
                line = self.here_is(curl.line, sandbox)
                # Without a DNS server, curl gets the address of all hosts.
                line = line.replace("curl ", f"curl -sS -w '\\n%{{http_code}}' {resolve}", 1)
                done = self.shell(line)
                answer, _, status = done.stdout.rpartition("\n")
                said = f"{curl.shows}: {line}\n{done.stdout}{done.stderr}"
                self.assertEqual(status, str(curl.status), said)
                answer = json.loads(answer)
                self.assertEqual({key: answer.get(key) for key in curl.answer}, curl.answer, said)

    def test_an_empty_object_creates_a_sandbox(self):
        line = self.here_is(f"curl -sS -X POST {contract.API} {contract.KEY} {contract.JSON} -d '{{}}'", self.name)
        done = self.shell(line)
        self.assertRegex(json.loads(done.stdout).get("sandbox_id") or "", r"^[a-z0-9]{21}$", done)


class SnippetsTest(Commands):
    """the contract's snippets"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.environment = cls.environment | {"TENSORLAKE_API_URL": cls.here.api_url, "CLIENTS": str(cls.here.clients)}
        for name in ("my-env", "my-public-sandbox"):
            cls.here.sandbox(name)

    def said_by(self, *command):
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, timeout=60, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_python(self):
        self.assertEqual(self.said_by(self.here.clients / "venv" / "bin" / "python", "-c", contract.PYTHON), contract.PYTHON_SAYS)

    # It trusts only the authorities that it contains.
    test_python.modes = ("local", "cloud")

    def test_typescript(self):
        said = ""
        for snippet in (contract.TYPESCRIPT, contract.TYPESCRIPT_PUBLIC):
            script = contract.TYPESCRIPT_CLIENT + snippet
            said += self.said_by(self.here.clients / "node", "--input-type=module", "--eval", script)
        self.assertEqual(said, contract.TYPESCRIPT_SAYS)

    def test_fetch(self):
        for name, public, snippet in (("my-env", False, contract.FETCH), ("my-public-sandbox", True, contract.FETCH_PUBLIC)):
            self.here.api("PATCH", f"/sandboxes/{name}", {"exposed_ports": [8080], "allow_unauthenticated_access": public})
            said = self.said_by(self.here.clients / "node", "--input-type=module", "--eval", self.here_is(snippet, name))
            self.assertEqual(json.loads(said)["status"], "ok", said)
            # Without the credential, only the public port responds.
            self.assertEqual(self.here.ask(f"8080-{name}")[0], 200 if public else 401)
            self.here.api("PATCH", f"/sandboxes/{name}", {"exposed_ports": [], "allow_unauthenticated_access": False})

    # Node uses the system's resolver for the names of the sandboxes.
    test_fetch.modes = ("cloud", "tls")


class NetworkSnippetsTest(Commands):
    """the contract's snippets for networks"""

    modes = ("namespaces",)
    said_by = SnippetsTest.said_by

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.environment = cls.environment | {"TENSORLAKE_API_URL": cls.here.api_url, "CLIENTS": str(cls.here.clients)}

    def sandboxes(self):
        """The network policies by id, in the order of creation."""
        listed = self.here.api("GET", "/sandboxes")[1]["sandboxes"]
        return {found["id"]: found["network_policy"] for found in sorted(listed, key=lambda found: found["created_at"])}

    def test_python(self):
        before = self.sandboxes()
        self.said_by(self.here.clients / "venv" / "bin" / "python", "-c", contract.PYTHON_NETWORKS)
        made = {name: policy for name, policy in self.sandboxes().items() if name not in before}
        self.assertEqual(list(made.values()), [contract.OFF, contract.LISTED, contract.DENIED])
        self.enforced(made)

    def test_typescript(self):
        made = {}
        for snippet, policy in contract.TYPESCRIPT_NETWORKS:
            script = contract.TYPESCRIPT_CLIENT + snippet
            made[self.said_by(self.here.clients / "node", "--input-type=module", "--eval", script).strip()] = policy
        after = self.sandboxes()
        self.assertEqual({name: after[name] for name in made}, made)
        self.enforced(made)

    def enforced(self, made):
        """Without internet access, the small internet of the sandboxes is not reached."""
        for name, policy in made.items():
            ran = CurlInside().run(name, "curl", "-q", "-sS", "-o", "/dev/null", "http://packages.test/")
            # 6: there is no such name.
            self.assertEqual(ran.status, 0 if policy["allow_internet_access"] else 6, ran)
            self.here.api("DELETE", f"/sandboxes/{name}")


class NodeTest(Commands):
    """wscat and fetch"""

    # Both use the system's resolver for the name of the sandbox.
    modes = ("cloud", "tls")

    def access(self, public):
        self.here.api("PATCH", f"/sandboxes/{self.name}",
                      {"exposed_ports": [3000, 8080], "allow_unauthenticated_access": public})

    def test_wscat_sends_and_receives_with_an_api_key(self):
        self.access(public=False)
        line = self.here_is(f'wscat {contract.KEY} -c "wss://3000-<sandbox-id-or-name>.sandbox.tensorlake.ai/socket"', self.name)
        wscat = f"'{self.here.clients}/node' '{self.here.clients}/node_modules/wscat/bin/wscat' --no-color -x hello -w 2 "
        done = self.shell(line.replace("wscat ", wscat, 1))
        self.assertIn("hello", done.stdout, done)
        refused = self.shell(line.replace("wscat ", wscat, 1).replace(contract.KEY, ""))
        self.assertIn("401", refused.stdout + refused.stderr, refused)

    def test_fetch_needs_a_credential_for_a_private_port(self):
        node = TypeScriptSdk()
        self.addCleanup(node.close)
        url = self.here_is("https://8080-<sandbox-id-or-name>.sandbox.tensorlake.ai/health", self.name)
        self.access(public=False)
        answer = node.call("fetch", url, {"Authorization": f"Bearer {self.here.api_key}"})
        self.assertEqual((answer["status"], json.loads(answer["text"])["status"]), (200, "ok"))
        self.assertEqual(node.call("fetch", url, {})["status"], 401)
        self.access(public=True)
        self.assertEqual(node.call("fetch", url, {})["status"], 200)
