#!/usr/bin/env python3
"""A platform behind Sandgate's `webhook` runtime, as small as it can be: an example to start from.

usage: docs/examples/webhook_receiver.py --secret-file FILE --program PROGRAM [--listen 127.0.0.1:9700]
           [--network 127.66.0.0/16]

Each sandbox is a process on this machine with a loopback address of its own; there is no isolation.
Put your platform in the place of `Platform`. What every receiver has to get right is in `Receiver`:
who calls, how old the call is, and that a call which comes twice or late is done once. docs/webhook.md has
the rules. Python 3.9 or newer, nothing else.
"""

import argparse
import hashlib
import hmac
import ipaddress
import itertools
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The most bytes of a call. The fields that owners send take at most 64 KiB of them.
MAX_BODY = 256 * 1024
# The most seconds by which the two clocks may differ. An older call is a replay.
MAX_AGE = 300
# Seconds until a response. A step that takes longer gets `pending`, and the control plane calls again.
ANSWER_WITHIN = 1.0
# Seconds in which a sandbox must print that it is ready.
READY_WITHIN = 20


class Refusal(Exception):
    """The platform refuses a step. The sandbox's owner sees the text."""


class Platform:
    """Sandboxes as processes. `PROGRAM serve --address A --id ID [--name N]` prints `ready` when it is."""

    def __init__(self, program, network):
        self.program = program
        # The first address belongs to the network.
        self.addresses = itertools.islice(ipaddress.ip_network(network).hosts(), 1, None)
        self.guard = threading.Lock()

    def run(self, sandbox):
        """(process, address) of a sandbox that can be reached."""
        if sandbox["spec"].get("image"):
            raise Refusal("this platform has no images; leave `image` out")
        if sandbox.get("sidecar_tokens"):
            # The owner was promised that a network policy holds. A platform that keeps this writes the tokens
            # into a file that only the sidecar reads, one on each line; starts `sandgate-sidecar` with it
            # where all traffic of the sandbox passes; and starts the sandbox when the sidecar is ready.
            raise Refusal("this platform runs no sidecars, so it can't hold a network policy")
        with self.guard:
            address = next(self.addresses, None)
        if address is None:
            raise Refusal("every address is in use")
        command = [self.program, "serve", "--address", str(address), "--id", sandbox["id"], "--exit-with-parent"]
        if sandbox["name"]:
            command += ["--name", sandbox["name"]]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        late = threading.Timer(READY_WITHIN, process.kill)
        late.start()
        ready = any(line.strip() == "ready" for line in iter(process.stdout.readline, ""))
        late.cancel()
        if not ready:
            self.end(process)
            raise RuntimeError(f"{self.program} did not say `ready`")
        # Reads the program's further output, because a full pipe would stop the program.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return process, str(address)

    def end(self, process):
        process.terminate()
        process.wait()
        process.stdin.close()


class Sandbox:
    """The state of one sandbox. Its steps never overlap."""

    def __init__(self):
        self.state = "terminated"
        self.address = None
        self.process = None
        # The newest placement in a call. A report about the sandbox names it.
        self.placement = 0
        self.steps = {}
        self.guard = threading.Lock()


class Step:
    """One step of a sandbox's life. It runs once, however often the control plane calls."""

    def __init__(self, work):
        self.failure = None
        self.thread = threading.Thread(target=self.do, args=(work,), daemon=True)
        self.thread.start()

    def do(self, work):
        try:
            work()
        except Exception as failure:  # Each caller of the step gets it.
            self.failure = failure


class Fleet:
    """All sandboxes and their steps."""

    def __init__(self, platform):
        self.platform = platform
        self.sandboxes = {}
        self.guard = threading.Lock()

    def call(self, action, key, subject):
        """The status and the body of the response to a call."""
        with self.guard:
            known = subject["id"] in self.sandboxes
            if action == "stop" and not known:
                return 404, {"state": "terminated"}
            sandbox = self.sandboxes.setdefault(subject["id"], Sandbox())
            # A repeated call has the same key, even if it comes much later.
            step = sandbox.steps.get(key)
            if step is None and subject["placement"] < sandbox.placement:
                # The call is about an earlier placement: it was repeated or delayed.
                return 200, now(sandbox)
            if step is None:
                sandbox.placement = subject["placement"]
                step = sandbox.steps[key] = Step(lambda: self.take(action, sandbox, subject))
        step.thread.join(ANSWER_WITHIN)
        if step.thread.is_alive():
            return 202, {"state": "pending"}
        if step.failure is not None:
            with self.guard:
                # The next call tries again.
                sandbox.steps.pop(key, None)
            if isinstance(step.failure, Refusal):
                return 422, {"error": str(step.failure)}
            print(f"{action} {subject['id']}: {step.failure}", file=sys.stderr, flush=True)
            return 500, {"error": "see the receiver's log"}
        return 200, now(sandbox)

    def take(self, action, sandbox, subject):
        with sandbox.guard:
            runs = sandbox.process is not None and sandbox.process.poll() is None
            if action in ("start", "resume"):
                if not runs:
                    sandbox.process, sandbox.address = self.platform.run(subject)
                    sandbox.state = "running"
                return
            if sandbox.process is not None:
                self.platform.end(sandbox.process)
            sandbox.process, sandbox.address = None, None
            sandbox.state = "suspended" if action == "suspend" else "terminated"

    def close(self):
        for sandbox in self.sandboxes.values():
            if sandbox.process is not None:
                self.platform.end(sandbox.process)


def now(sandbox):
    """The current state, which may differ from the state at the end of the step."""
    return {"state": sandbox.state, **({"address": sandbox.address} if sandbox.address else {})}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secret = b""
    fleet = None

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            return self.answer(413, {"error": "the body is too long, or of unknown length"})
        body = self.rfile.read(int(length))
        # The signature is checked before the body is parsed.
        problem = unproven(self.secret, self.headers, body, time.time())
        if problem:
            return self.answer(401, {"error": problem})
        try:
            call = json.loads(body)
            action, key, subject = call["action"], call["idempotency_key"], call["sandbox"]
            known = action in ("start", "suspend", "resume", "stop") and isinstance(subject["placement"], int)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            return self.answer(400, {"error": "not a call that this receiver knows"})
        return self.answer(*self.fleet.call(action, key, subject))

    def answer(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def unproven(secret, headers, body, now):
    """Why the call can't be authenticated, or None."""
    timestamp = headers.get("X-Sandgate-Timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()):
        return "no timestamp"
    expected = signature(secret, timestamp, body)
    # Compares in constant time, so that the time does not reveal how much of a guess is right.
    if not hmac.compare_digest(expected.encode(), headers.get("X-Sandgate-Signature", "").encode()):
        return "the signature is wrong"
    if abs(now - int(timestamp)) > MAX_AGE:
        return "the call is too old, or a clock is wrong"
    return None


def signature(secret, timestamp, body):
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def main():
    parser = argparse.ArgumentParser(description="An example platform for `sandgate serve --runtime webhook`.")
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--listen", default="127.0.0.1:9700")
    parser.add_argument("--network", default="127.66.0.0/16")
    arguments = parser.parse_args()
    with open(arguments.secret_file, "rb") as file:
        Receiver.secret = file.read().strip()
    Receiver.fleet = Fleet(Platform(arguments.program, arguments.network))
    host, _, port = arguments.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Receiver)
    print(f"ready: http://{host}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        Receiver.fleet.close()


if __name__ == "__main__":
    main()
