"""A control plane and Envoy for programs in Python. `sandgate-stack start` starts them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tell import ROOT, Failure

PROGRAMS = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target") / "debug"
FILTERS = ROOT / "target" / "filters"


def egress_filter():
    """The egress filter in the form that the sidecar uses."""
    is_native = os.environ.get("SANDGATE_FILTERS") == "native"
    return FILTERS / ("libsandgate_native.so" if is_native else "sandgate_egress.wasm")


class Stack:
    """Context manager. The fields of the JSON that the program prints are attributes, such as `api_port`."""

    def __init__(self, folder, *options):
        self.folder = Path(folder)
        # It ends when this pipe does, so it ends with this program.
        self.process = subprocess.Popen([PROGRAMS / "sandgate-stack", "start", "--folder", self.folder, *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise Failure("the stack did not start (the reason is above)")
        self.__dict__ |= json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def require_running(self):
        if self.process.poll() is not None:
            raise Failure("a part of the stack has ended (the reason is above)")

    def sandgate(self, *arguments):
        """The result of a management command."""
        done = subprocess.run([PROGRAMS / "sandgate", *arguments, "--data-dir", self.folder / "data", "--json"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        if done.returncode:
            raise Failure(f"`sandgate {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return json.loads(done.stdout)


def build(*command):
    """Runs a build step. Its output is shown on stderr."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if done.returncode:
        raise Failure(f"`{' '.join(map(str, command))}` failed; its output is above")


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
