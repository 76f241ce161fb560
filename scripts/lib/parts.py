"""The processes of a local run. Each has a log. They are monitored, and stopped in reverse order."""

import ctypes
import os
import signal
import subprocess
import time

from tell import ROOT, Failure

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_parent():
    """Runs in the child before `exec`: makes the kernel end the child if this process is killed."""
    # A child inherits ignored signals, and a shell can't trap them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Part:
    """A process and its log."""

    # The seconds between SIGTERM and SIGKILL. The control plane stops its sandboxes in this time.
    patience = 10.0

    def __init__(self, name, command, log, **environment):
        self.name = name
        self.log = log
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            # With its own session, the process does not receive Ctrl-C from the terminal. `Stack` stops the parts in order.
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent)

    def ended(self):
        """How the process ended, or None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def failure(self, what):
        """A Failure with this sentence and the end of the log."""
        try:
            place = self.log.relative_to(ROOT)
        except ValueError:
            place = self.log
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        tail = "".join(f"  {line[:400]}\n" for line in lines)
        return Failure(f"{self.name} {what}; its log is {place}" + (f", which ends with:\n{tail.rstrip()}" if lines else ""))

    def stop(self):
        """Sends SIGTERM, waits, and then kills the process and all processes that it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                pass
        try:
            # The whole session, which includes processes that the part has left running.
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()


class Stack:
    """All parts of a run. As a context manager, it stops all of them in any case."""

    def __init__(self):
        self.parts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not interrupt this.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for part in reversed(self.parts):
            part.stop()

    def start(self, *arguments, **environment):
        part = Part(*arguments, **environment)
        self.parts.append(part)
        return part

    def wait_until(self, ready, part, what, seconds):
        """Waits until `ready()` returns a true value. Fails if a part ends before, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            self.require_alive()
            answer = ready()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise part.failure(f"{what} within {seconds} s")
            time.sleep(0.05)

    def require_alive(self):
        for part in self.parts:
            ended = part.ended()
            if ended:
                raise part.failure(ended)


def build(*command):
    """Runs a build step and shows its output. If this process is interrupted, stops the step and all its children."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2,
                               start_new_session=True, preexec_fn=end_with_parent)
    try:
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if status:
        raise Failure(f"`{' '.join(map(str, command))}` failed; its output is above")
