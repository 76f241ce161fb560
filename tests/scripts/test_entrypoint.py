"""The start of the edge's image, with a stand-in for Envoy: where the token and the configuration are written.

Run by `make test`; alone: python3 -m unittest discover --start-directory tests/scripts
"""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-this-test"
# It shows what is where, as Envoy would find it.
ENVOY = """#!/bin/sh
folder=$(dirname "$2")
stat -c '%a %n' "$folder" "$folder"/*
grep -rl "$SHOWN" "$folder" | sed 's/^/token in /'
"""


class Entrypoint(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sandgate-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "envoy").write_text(ENVOY)
        (programs / "envoy").chmod(0o755)
        target = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target")
        shutil.copy(target / "debug" / "sandgate-edge-config", programs)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(self.shared), "SHOWN": TOKEN,
            "SANDGATE_DOMAIN": "sandbox.localhost", "SANDGATE_SANDBOX_NETWORK": "10.64.0.0",
            "SANDGATE_SANDBOX_PREFIX_LEN": "16", "SANDGATE_CONTROL_PLANE_ADDRESS": "127.0.0.1",
            "SANDGATE_GATEWAY_TOKEN": TOKEN}

    def start(self):
        done = subprocess.run(["sh", ROOT / "envoy" / "docker-entrypoint.sh"], env=self.environment, timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_what_it_writes_is_in_a_folder_that_nobody_else_can_open_and_is_gone_at_the_end(self):
        said = self.start()
        self.assertTrue(said[0].startswith(f"700 {self.shared}/sandgate"), said)
        files = [line for line in said[1:] if not line.startswith("token in ")]
        self.assertTrue(files and all(line.startswith("600 ") for line in files), said)
        self.assertTrue(any(line.endswith("/gateway-token.yaml") for line in said if line.startswith("token in ")), said)
        self.assertEqual(list(self.shared.iterdir()), [])

    def test_a_folder_that_somebody_made_before_is_not_used(self):
        theirs = self.folder / "theirs"
        theirs.mkdir()
        (self.shared / "sandgate").symlink_to(theirs)
        first, second = self.start()[0], self.start()[0]
        self.assertEqual(list(theirs.iterdir()), [])
        self.assertNotEqual(first, second, "its name can't be known before")


if __name__ == "__main__":
    unittest.main()
