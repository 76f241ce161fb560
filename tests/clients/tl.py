"""The `tl` command. Each call runs it with the settings of an owner and a separate home folder."""

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass

import stack
import world


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    output: str
    error: str


class Tl:
    def __init__(self, credential="api key"):
        here = world.current
        self.program = here.clients / "tl"
        # It reads settings from its home, and from the parents of its working folder.
        self.home = here.folder / "tl-home"
        self.home.mkdir(exist_ok=True)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TENSORLAKE_API_URL": here.api_url} | here.trust
        if not here.names_resolve:
            # With a local API it never asks the server where the proxy is.
            self.environment["TENSORLAKE_SANDBOX_PROXY_URL"] = here.proxy_url
        if credential == "api key":
            self.environment["TENSORLAKE_API_KEY"] = here.api_key
        else:
            self.environment |= {"TENSORLAKE_PAT": here.pat, "TENSORLAKE_ORGANIZATION_ID": here.organization,
                                 "TENSORLAKE_PROJECT_ID": here.project}

    def at(self, api_url, api_key):
        """The same command for an owner of another control plane."""
        self.environment |= {"TENSORLAKE_API_URL": api_url, "TENSORLAKE_API_KEY": api_key}
        for name in ("TENSORLAKE_PAT", "TENSORLAKE_ORGANIZATION_ID", "TENSORLAKE_PROJECT_ID"):
            self.environment.pop(name, None)
        return self

    def __call__(self, *arguments):
        done = subprocess.run([self.program, *arguments], env=self.environment, cwd=self.home, timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, *arguments):
        """The output of a command that must succeed."""
        done = self(*arguments)
        if done.status:
            raise AssertionError(f"`tl {' '.join(arguments)}` ended with status {done.status}:\n{done.output}{done.error}")
        return done.output

    @contextlib.contextmanager
    def tunnel(self, sandbox, port):
        """Opens a tunnel for as long as the block runs; returns its local port."""
        local = stack.free_port()
        process = subprocess.Popen(
            [self.program, "sbx", "tunnel", sandbox, str(port), "--listen-port", str(local)], env=self.environment,
            cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            line = process.stdout.readline()
            if not re.match(rf"Listening on 127\.0\.0\.1:{local} ", line):
                raise AssertionError(f"`tl sbx tunnel` said: {line}{process.stdout.read() if process.poll() else ''}")
            yield local
        finally:
            # It stops on Ctrl-C.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            process.stdout.close()
