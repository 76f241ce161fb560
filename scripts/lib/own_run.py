"""A separate `scripts/run` for tests: on unused ports, with its own state folder."""

import os
import signal
import subprocess
import time
from pathlib import Path

from ports import PORTS, cannot_listen, free_port
from tell import ROOT, Failure


class OwnRun:
    """A `scripts/run` on unused ports."""

    def __init__(self, state):
        self.state = state
        self.ports = {name: free_port() for name in PORTS}
        # Differs from the network of a local run that a developer may have started.
        self.network = "127.65.0.0"
        self.output = state / "run.log"

    def start(self):
        """Starts the run and waits until it is ready. Returns the duration in seconds."""
        begun = time.monotonic()
        environment = {f"SANDGATE_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [ROOT / "scripts" / "run"], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "SANDGATE_STATE_DIR": str(self.state),
                     "SANDGATE_SANDBOX_NETWORK": self.network})
        while "Sandgate is ready." not in self.output.read_text():
            if self.process.poll() is not None:
                raise Failure(f"`scripts/run` ended before it was ready:\n{self.output.read_text()}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def stop(self):
        """Stops the run as Ctrl-C does. Returns sentences about processes and listeners that still exist."""
        if self.process.poll() is not None:
            return [f"`scripts/run` ended on its own with status {self.process.returncode}"]
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return ["`scripts/run` did not stop within 30 s"]
        left = [f"it ended with status {status}"] if status else []
        left += [f"port {port} is still in use" for port in self.ports.values() if cannot_listen("127.0.0.1", port)]
        prefix = self.network.rsplit(".", 2)[0]
        left += [f"process {process} is still there"
                 for process in running(str(self.state), prefix)]
        return left


def running(*words):
    """The processes, except this one, whose command line contains one of the words."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(word in line for word in words):
            yield f"{process.name} ({line.strip()[:120]})"
