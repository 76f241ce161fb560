"""The processes of a local run: started with a log each, watched, and stopped in reverse order."""

import ctypes
import os
import signal
import subprocess
import time

from tell import ROOT, Failure

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_parent():
    """In the child, before it becomes its program: should we be killed outright, it ends too."""
    # What we ignore, it would ignore as well, and a shell could not even trap it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Part:
    """One process with its log."""

    # Seconds between asking and insisting: the control plane stops its sandboxes in that time.
    patience = 10.0

    def __init__(self, name, command, log, **environment):
        self.name = name
        self.log = log
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop the parts in order.
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent)

    def ended(self):
        """How it ended, or None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def failure(self, what):
        """The sentence, preceded by the end of the log."""
        try:
            place = self.log.relative_to(ROOT)
        except ValueError:
            place = self.log
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        tail = "".join(f"  {line[:400]}\n" for line in lines)
        return Failure(f"{self.name} {what}; its log is {place}" + (f", which ends with:\n{tail.rstrip()}" if lines else ""))

    def stop(self):
        """Asks, waits, then insists, with everything that it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                pass
        try:
            # Its session, so also what it may have left behind.
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()


class Stack:
    """All parts of a run. As a context manager: whatever happens, nothing is left running."""

    def __init__(self):
        self.parts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # An impatient Ctrl-C must not cut this short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for part in reversed(self.parts):
            part.stop()

    def start(self, *arguments, **environment):
        part = Part(*arguments, **environment)
        self.parts.append(part)
        return part

    def wait_until(self, ready, part, what, seconds):
        """Waits for `ready()`; a part that ends meanwhile, or the time running out, is a failure."""
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
    """Runs a build step with its output shown. Stopped with all that it started when we are."""
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
