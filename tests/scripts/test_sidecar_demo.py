"""The sandbox behind a sidecar: what is said where there can be none, and that its network leaves nothing behind.

Run by `make test`; alone: python3 -m unittest discover --start-directory tests/scripts
"""

import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
import far_side  # noqa: E402
import sidecar_demo  # noqa: E402

HERE = sidecar_demo.obstacle()
# A run of its own that is killed: what stays must go by itself.
OWNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from parts import Part
part = Part("network", [sys.argv[1] + "/namespaces.sh", sys.argv[2], "203.0.113.53", "203.0.113.10"], Path(sys.argv[3]))
print(part.process.pid, flush=True)
time.sleep(1000)
"""


def session(leader):
    """The processes of a session (field 6 of proc(5)'s stat)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            yield int(process.name)


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not, after {seconds} s")
        time.sleep(0.05)


class Obstacles(unittest.TestCase):
    def test_who_is_not_root_is_told(self):
        with mock.patch("os.geteuid", return_value=65534):
            self.assertIn("root", sidecar_demo.obstacle())

    def test_a_missing_program_comes_with_what_installs_it(self):
        with mock.patch("os.geteuid", return_value=0), mock.patch("shutil.which", lambda name: name != "nft" or None):
            self.assertEqual(sidecar_demo.obstacle(), "`nft` is missing; install it with: scripts/setup sidecar")

    def test_namespaces_that_are_not_permitted_are_said_with_the_reason(self):
        refused = subprocess.CalledProcessError(1, ("ip", "netns", "add", "x"), stderr="mount: Operation not permitted\nmore")
        with mock.patch("os.geteuid", return_value=0), mock.patch("shutil.which", lambda name: name), \
                mock.patch.object(sidecar_demo, "run", side_effect=refused):
            reason = sidecar_demo.obstacle()
        self.assertIn("(`ip netns add x`: mount: Operation not permitted)", reason)
        self.assertNotIn("\n", reason)


class FarSide(unittest.TestCase):
    ZONE = {"packages.test": far_side.ipaddress.IPv4Address("203.0.113.10")}

    def ask(self, name, kind):
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", kind, 1)
        answer = far_side.answer(query, self.ZONE)
        identifier, flags, questions, answers, *_ = struct.unpack_from("!6H", answer)
        self.assertEqual((identifier, questions, flags & 0x8100), (7, 1, 0x8100))
        return flags & 0xF, answers, answer

    def test_a_name_that_is_there_has_its_address(self):
        code, answers, answer = self.ask("Packages.TEST", 1)
        self.assertEqual((code, answers, answer[-4:]), (0, 1, socket.inet_aton("203.0.113.10")))

    def test_a_name_that_is_there_has_no_other_type(self):
        self.assertEqual(self.ask("packages.test", 28)[:2], (0, 0))

    def test_a_name_that_is_not_there_does_not_exist(self):
        self.assertEqual(self.ask("elsewhere.test", 1)[:2], (3, 0))


@unittest.skipIf(HERE, f"no network namespaces: {HERE}")
class Network(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sandgate-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def build(self, name):
        """The network of the run with that state folder, and the process in whose hands it is."""
        state, log = self.folder / name, self.folder / f"{name}.log"
        owner = subprocess.Popen([sys.executable, "-c", OWNER, str(ROOT / "scripts" / "lib"), sidecar_demo.prefix(state), str(log)],
                                 stdout=subprocess.PIPE, text=True)
        self.addCleanup(owner.stdout.close)
        self.addCleanup(owner.wait)
        self.addCleanup(owner.kill)
        wait_for(lambda: log.exists() and "built" in log.read_text())
        return state, owner

    def test_two_runs_do_not_meet_and_a_killed_one_leaves_nothing(self):
        one, owner = self.build("one")
        other, other_owner = self.build("other")
        self.assertEqual(len(sidecar_demo.left_behind(one)), 5)
        leader = int(owner.stdout.readline())
        self.assertTrue(list(session(leader)))
        owner.kill()
        wait_for(lambda: not sidecar_demo.left_behind(one) and not list(session(leader)))
        self.assertEqual(len(sidecar_demo.left_behind(other)), 5)
        other_owner.kill()
        wait_for(lambda: not sidecar_demo.left_behind(other))

    def test_what_was_left_is_taken_away_by_the_next_start(self):
        prefix = sidecar_demo.prefix(self.folder / "again")
        subprocess.run(["ip", "netns", "add", f"{prefix}-gateway"], check=True)
        left = subprocess.Popen(["ip", "netns", "exec", f"{prefix}-gateway", "sleep", "1000"])
        self.addCleanup(left.kill)
        wait_for(lambda: subprocess.run(["ip", "netns", "pids", f"{prefix}-gateway"], capture_output=True).stdout.strip())
        state, owner = self.build("again")
        self.assertEqual(left.wait(60), -signal.SIGKILL)
        owner.kill()
        wait_for(lambda: not sidecar_demo.left_behind(state))

    def test_nothing_joins_it_to_this_machine(self):
        state, owner = self.build("apart")
        prefix = sidecar_demo.prefix(state)
        for name in ("sandbox", "gateway", "internet"):
            links = subprocess.run(["ip", "-n", f"{prefix}-{name}", "-o", "link"], capture_output=True, text=True, check=True)
            # A link's other end is in a namespace that has an id here, or it is in the machine's own.
            for line in links.stdout.splitlines():
                if "link/ether" in line:
                    self.assertRegex(line, r"eth0@|sandbox0@")
                    self.assertIn("link-netns", line)
                    self.assertIn(f"link-netns {prefix}-", line)
        owner.kill()
        wait_for(lambda: not sidecar_demo.left_behind(state))


if __name__ == "__main__":
    unittest.main()
