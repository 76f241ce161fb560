"""What each client does inside a sandbox: it runs commands, and reads and writes files."""

import base64
import contextlib
import json
import subprocess
import urllib.parse
from dataclasses import dataclass

import world
from python_sdk import PythonSdk
from tensorlake.sandbox import StdinMode
from tl import Tl
from typescript_sdk import TypeScriptSdk


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed. The SDKs keep no line feed at the end."""

    status: int
    output: str
    error: str

    @staticmethod
    def of(status, output, error):
        return Ran(status, output.rstrip("\n"), error.rstrip("\n"))


class PythonInside:
    def __init__(self):
        self.sdk = PythonSdk()
        self.close = self.sdk.close

    @contextlib.contextmanager
    def at(self, sandbox):
        with contextlib.closing(self.sdk.client.connect(sandbox)) as connected:
            yield connected

    def run(self, sandbox, command, *arguments, env=None, working_dir=None, timeout=None):
        with self.at(sandbox) as at:
            ran = at.run(command, list(arguments), env=env, working_dir=working_dir, timeout=timeout)
        return Ran.of(ran.exit_code, ran.stdout, ran.stderr)

    def write(self, sandbox, path, content):
        with self.at(sandbox) as at:
            at.write_file(path, content)

    def read(self, sandbox, path):
        with self.at(sandbox) as at:
            return bytes(at.read_file(path).value)

    def names(self, sandbox, path):
        with self.at(sandbox) as at:
            return {entry.name: entry.size for entry in at.list_directory(path).value.entries}

    def delete(self, sandbox, path):
        with self.at(sandbox) as at:
            at.delete_file(path)

    def start(self, sandbox, command, *arguments, stdin=False):
        with self.at(sandbox) as at:
            mode = StdinMode.PIPE if stdin else StdinMode.CLOSED
            return at.start_process(command, list(arguments), stdin_mode=mode).value.pid

    def processes(self, sandbox):
        with self.at(sandbox) as at:
            return {process.pid: process.status.value for process in at.list_processes()}

    def kill(self, sandbox, pid):
        with self.at(sandbox) as at:
            at.kill_process(pid)

    def signal(self, sandbox, pid, number):
        with self.at(sandbox) as at:
            return at.send_signal(pid, number).value.success

    def feed(self, sandbox, pid, content):
        with self.at(sandbox) as at:
            at.write_stdin(pid, content)
            at.close_stdin(pid)

    def follow(self, sandbox, pid):
        with self.at(sandbox) as at:
            return [event.line for event in at.follow_output(pid)]


class TypeScriptInside:
    def __init__(self):
        self.sdk = TypeScriptSdk()
        self.close = self.sdk.close

    def call(self, sandbox, method, *arguments):
        return self.sdk.call("inside", sandbox, method, *arguments)

    def run(self, sandbox, command, *arguments, env=None, working_dir=None, timeout=None):
        options = {"args": arguments, "env": env, "workingDir": working_dir, "timeout": timeout}
        ran = self.call(sandbox, "run", command, {key: value for key, value in options.items() if value is not None})
        return Ran.of(ran["exitCode"], ran["stdout"], ran["stderr"])

    def write(self, sandbox, path, content):
        self.call(sandbox, "write", path, base64.b64encode(content).decode())

    def read(self, sandbox, path):
        return base64.b64decode(self.call(sandbox, "read", path))

    def names(self, sandbox, path):
        return {entry["name"]: entry["size"] for entry in self.call(sandbox, "listDirectory", path)["entries"]}

    def delete(self, sandbox, path):
        self.call(sandbox, "deleteFile", path)

    def start(self, sandbox, command, *arguments, stdin=False):
        options = {"args": arguments, "stdinMode": "pipe" if stdin else "closed"}
        return self.call(sandbox, "startProcess", command, options)["pid"]

    def processes(self, sandbox):
        return {process["pid"]: process["status"] for process in self.call(sandbox, "listProcesses")}

    def kill(self, sandbox, pid):
        self.call(sandbox, "killProcess", pid)

    def signal(self, sandbox, pid, number):
        return self.call(sandbox, "sendSignal", pid, number)["success"]

    def feed(self, sandbox, pid, content):
        self.call(sandbox, "feed", pid, base64.b64encode(content).decode())

    def follow(self, sandbox, pid):
        return self.call(sandbox, "follow", pid)


class TlInside:
    def __init__(self):
        self.tl = Tl()

    def close(self):
        """Nothing stays open."""

    def run(self, sandbox, command, *arguments, env=None, working_dir=None, timeout=None):
        flags = [part for name, value in (env or {}).items() for part in ("--env", f"{name}={value}")]
        flags += ["--workdir", working_dir] if working_dir else []
        flags += ["--timeout", str(timeout)] if timeout else []
        done = self.tl("sbx", "exec", *flags, sandbox, "--", command, *arguments)
        return Ran.of(done.status, done.output, done.error)

    def write(self, sandbox, path, content):
        local = self.tl.home / "upload"
        local.write_bytes(content)
        self.tl.good("sbx", "cp", str(local), f"{sandbox}:{path}")

    def read(self, sandbox, path):
        local = self.tl.home / "download"
        local.unlink(missing_ok=True)
        self.tl.good("sbx", "cp", f"{sandbox}:{path}", str(local))
        return local.read_bytes()

    def start(self, sandbox, command, *arguments):
        return int(self.tl.good("sbx", "exec", "--detach", sandbox, "--", command, *arguments))

    def processes(self, sandbox):
        rows = self.tl.good("sbx", "ps", sandbox).splitlines()[1:]
        return {int(row.split("\t")[0]): row.split("\t")[1] for row in rows}

    def kill(self, sandbox, pid):
        self.tl.good("sbx", "kill", sandbox, str(pid))


class CurlInside:
    """The calls as curl sends them to the sandbox's URL."""

    def close(self):
        """Nothing stays open."""

    def call(self, sandbox, method, path, body=None, key=True, url=None, options=()):
        """(status, body) of a call of the management API."""
        here = world.current
        command = ["curl", "-q", "-sS", "-X", method, "-w", r"\n%{http_code}", "--max-time", "30", *options]
        if not here.names_resolve:
            command += ["--resolve", f"*:{here.ports['edge']}:127.0.0.1"]
        if key:
            command += ["-H", f"Authorization: Bearer {here.api_key}"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        url = url or f"http{here.s}://{here.host(sandbox)}"
        done = subprocess.run([*command, f"{url}/api/v1{path}"], input=body, env=here.trust, capture_output=True)
        if done.returncode:
            raise AssertionError(f"curl ended with status {done.returncode}: {done.stderr.decode()}")
        answer, _, status = done.stdout.rpartition(b"\n")
        return int(status), answer

    def api(self, method, path, body):
        """The response of the public API."""
        here = world.current
        command = ["curl", "-q", "-sS", "--fail-with-body", "-X", method, "-H", f"Authorization: Bearer {here.api_key}"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        url = f"{here.api_url}/sandboxes" + (f"/{path}" if path else "")
        done = subprocess.run([*command, url], env=here.trust, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{method} {url}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout or "null")

    def good(self, *arguments):
        status, answer = self.call(*arguments)
        if status not in (200, 204):
            raise AssertionError(f"{arguments} was answered by {status}: {answer.decode(errors='replace')}")
        return answer

    def run(self, sandbox, command, *arguments, env=None, working_dir=None, timeout=None):
        spec = {"command": command, "args": arguments, "env": env or {}, "working_dir": working_dir, "timeout": timeout}
        stream = self.good(sandbox, "POST", "/processes/run", json.dumps(spec).encode()).decode()
        events = [json.loads(event.removeprefix("data: ")) for event in stream.split("\n\n") if event.startswith("data: ")]
        end = events[-1]
        output, error = ("\n".join(event["line"] for event in events if event.get("stream") == stream)
                         for stream in ("stdout", "stderr"))
        return Ran.of(end.get("exit_code", -end.get("signal", 0)), output, error)

    def write(self, sandbox, path, content):
        self.good(sandbox, "PUT", "/files?path=" + urllib.parse.quote(path), content)

    def read(self, sandbox, path):
        return self.good(sandbox, "GET", "/files?path=" + urllib.parse.quote(path))

    def names(self, sandbox, path):
        listed = json.loads(self.good(sandbox, "GET", "/files/list?path=" + urllib.parse.quote(path)))
        return {entry["name"]: entry["size"] for entry in listed["entries"]}

    def delete(self, sandbox, path):
        self.good(sandbox, "DELETE", "/files?path=" + urllib.parse.quote(path))

    def start(self, sandbox, command, *arguments):
        spec = json.dumps({"command": command, "args": arguments}).encode()
        return json.loads(self.good(sandbox, "POST", "/processes", spec))["pid"]

    def processes(self, sandbox):
        listed = json.loads(self.good(sandbox, "GET", "/processes"))["processes"]
        return {process["pid"]: process["status"] for process in listed}

    def kill(self, sandbox, pid):
        self.good(sandbox, "DELETE", f"/processes/{pid}")
