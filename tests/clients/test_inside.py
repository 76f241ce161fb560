"""Commands and files inside a sandbox, by each client."""

import json
import os
import random
import unittest

import world
from http_json import call
from inside import CurlInside, PythonInside, TlInside, TypeScriptInside


class Inside:
    """The tests. A subclass names a client and is also a TestCase."""

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.inside = cls.client()
        cls.addClassCleanup(cls.inside.close)
        cls.name = f"inside-{cls.client.__name__.lower()}-{random.randrange(10**6)}"
        cls.id = cls.here.sandbox(cls.name)

    def shell(self, script, **options):
        return self.inside.run(self.name, "sh", "-c", script, **options)

    def test_a_command_gives_its_output_and_its_status(self):
        for sandbox in (self.name, self.id):
            ran = self.inside.run(sandbox, "sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
            self.assertEqual((ran.status, ran.output, ran.error.splitlines()[:1]), (3, "to stdout", ["to stderr"]))

    def test_a_command_has_the_variables_and_the_folder_of_the_call(self):
        ran = self.shell("echo $NAME; pwd", env={"NAME": "a value"}, working_dir="/usr")
        self.assertEqual((ran.status, ran.output), (0, "a value\n/usr"))

    def test_a_command_gets_no_secret_of_the_platform(self):
        seen = self.shell("env; cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/$PPID/cmdline").output
        for secret in (self.here.api_key, self.here.pat, self.here.session):
            self.assertNotIn(secret, seen)

    def test_a_command_ends_after_its_time(self):
        ran = self.inside.run(self.name, "sleep", "600", timeout=0.5)
        # `tl` adds the signal to 128, as a shell does.
        self.assertIn(ran.status, (-9, 137), ran)

    def test_a_file_is_written_read_and_deleted(self):
        content = os.urandom(1 << 20)
        path = f"/tmp/{self.name} +%&?#ü.bin"
        self.inside.write(self.name, path, content)
        self.assertEqual(self.inside.read(self.name, path), content)
        # A command sees the same file.
        ran = self.inside.run(self.name, "stat", "-c", "%s", path)
        self.assertEqual(ran.output, str(1 << 20))
        if hasattr(self.inside, "names"):
            self.assertEqual(self.inside.names(self.name, "/tmp")[os.path.basename(path)], 1 << 20)
            self.inside.delete(self.name, path)
        else:
            self.inside.run(self.name, "rm", path)
        self.assertNotEqual(self.inside.run(self.name, "stat", path).status, 0)

    def test_a_process_in_the_background_is_listed_and_killed(self):
        pid = self.inside.start(self.name, "sleep", "600")
        self.assertEqual(self.inside.processes(self.name)[pid], "running")
        self.inside.kill(self.name, pid)
        world.eventually(lambda: self.inside.processes(self.name)[pid] == "signaled", "the process is killed")

    def test_a_command_resumes_a_suspended_sandbox(self):
        name = f"{self.name}-b"
        self.here.sandbox(name)
        self.here.api("POST", f"/sandboxes/{name}/suspend")
        world.eventually(lambda: self.here.status(name) == "suspended", "the sandbox is suspended")
        self.assertEqual(self.inside.run(name, "echo", "awake").output, "awake")
        self.assertEqual(self.here.status(name), "running")


class Streams:
    """The tests of what only the SDKs have."""

    def test_the_output_of_a_process_is_followed_until_its_end(self):
        pid = self.inside.start(self.name, "sh", "-c", "trap 'echo asked; exit' TERM; echo one; while :; do sleep 0.05; done")
        world.eventually(lambda: self.inside.signal(self.name, pid, 15), "the signal is sent")
        self.assertEqual(self.inside.follow(self.name, pid)[-1:], ["asked"])
        self.assertEqual(self.inside.processes(self.name)[pid], "exited")

    def test_standard_input_is_written_and_closed(self):
        pid = self.inside.start(self.name, "sort", stdin=True)
        self.inside.feed(self.name, pid, b"two\none\n")
        self.assertEqual(self.inside.follow(self.name, pid), ["one", "two"])


class PythonInsideTest(Inside, Streams, unittest.TestCase):
    """Python SDK"""

    client = PythonInside
    # It trusts only the authorities that it contains.
    modes = ("local", "cloud")


class TypeScriptInsideTest(Inside, Streams, unittest.TestCase):
    """TypeScript SDK"""

    client = TypeScriptInside


class TlInsideTest(Inside, unittest.TestCase):
    """tl"""

    client = TlInside

    def test_run_creates_a_sandbox_for_one_command(self):
        done = self.inside.tl("sbx", "run", "--", "sh", "-c", "echo in a new sandbox; exit 4")
        self.assertEqual(done.status, 4, done)
        self.assertIn("in a new sandbox", done.output)


class CurlInsideTest(Inside, unittest.TestCase):
    """curl"""

    client = CurlInside
    SPEC = json.dumps({"command": "id"}).encode()

    def test_commands_need_a_credential_of_the_project(self):
        # The edge denies before the body has arrived. Over HTTP/2, curl 7.88 may then report an error instead of the response.
        http1 = ["--http1.1"]
        status, _ = self.inside.call(self.name, "POST", "/processes/run", self.SPEC, False, options=http1)
        self.assertEqual(status, 401)
        project = self.here.sandgate("projects", "create", f"{self.name}-o", "--organization", self.here.organization)["id"]
        mine, self.here.api_key = self.here.api_key, self.here.sandgate("keys", "create", "--project", project)["secret"]
        try:
            status, _ = self.inside.call(self.name, "POST", "/processes/run", self.SPEC, options=http1)
        finally:
            self.here.api_key = mine
        self.assertEqual(status, 404)

    def test_the_port_of_the_sandbox_refuses_what_did_not_pass_the_edge(self):
        address = f"http://{self.here.address(self.name)}:9501"
        for path, method, body in (("/processes/run", "POST", self.SPEC), ("/files?path=/etc/hostname", "GET", None)):
            status, answer = self.inside.call(self.name, method, path, body, url=address)
            self.assertEqual((status, json.loads(answer)["code"]), (403, "FORBIDDEN"))

    def test_the_project_that_a_client_names_is_replaced_by_the_one_of_its_key(self):
        status, info = call("GET", f"http://127.0.0.1:{self.here.ports['edge']}/api/v1/info", Host=self.here.host(self.name),
                            **{"Authorization": f"Bearer {self.here.api_key}", "X-Forwarded-Project-Id": "project_other"})
        projects = [value for name, value in info["request"]["headers"] if name == "x-forwarded-project-id"]
        self.assertEqual((status, projects), (200, [self.here.project]))

    def test_info_says_that_it_is_no_isolation_boundary(self):
        info = json.loads(self.inside.good(self.name, "GET", "/info"))
        self.assertIn("not an isolation boundary", info["note"])
