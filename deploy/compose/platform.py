#!/usr/bin/env python3
"""A platform with a fixed number of containers, each for one sandbox at a time, behind Sandgate's `webhook` runtime.

usage: platform.py --secret-file FILE [--listen 0.0.0.0:9700] ADDRESS=PLACEMENT:SHARED ...

Each container is an address and two folders, which deploy/sandbox/sidecar.sh describes. To place a sandbox, the platform writes
its token and id, and waits until it runs. It forgets its sandboxes when it restarts, because it is a demo. Calls, signatures
and repetitions are those of docs/examples/webhook_receiver.py, which is beside this file in the image.
"""

import argparse
import os
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import webhook_receiver as receiver

# Seconds in which a sandbox must run.
RUNNING_WITHIN = 60


class Slot:
    """A container, as the receiver sees a process of a sandbox."""

    def __init__(self, address, placement, shared):
        self.address, self.placement, self.shared = address, Path(placement), Path(shared)
        self.holder = None
        self.empty()

    def empty(self):
        (self.placement / "id").unlink(missing_ok=True)
        (self.placement / "token").unlink(missing_ok=True)

    def place(self, sandbox):
        self.write("token", "".join(f"{token}\n" for token in sandbox["sidecar_tokens"]))
        self.write("id", sandbox["id"] + "\n")

    def write(self, name, text):
        partial = self.placement / f"{name}.new"
        # Only the sidecar reads it.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(self.placement / name)

    def runs(self, sandbox):
        try:
            return (self.shared / "running").read_text(encoding="utf-8").strip() == sandbox
        except FileNotFoundError:
            return False

    def poll(self):
        """None while the sandbox has the container, like `Popen.poll`."""
        return None if self.holder else 0


class Platform:
    """Places sandboxes in containers."""

    def __init__(self, slots):
        self.slots = slots
        self.guard = threading.Lock()

    def run(self, sandbox):
        """(container, address) of a sandbox that can be reached."""
        if sandbox["spec"].get("image"):
            raise receiver.Refusal("this platform has no images; leave `image` out")
        if not sandbox.get("sidecar_tokens"):
            raise receiver.Refusal("the control plane sent no token for the sidecar; start it with --egress enforced")
        with self.guard:
            slot = next((slot for slot in self.slots if not slot.holder and not (slot.shared / "running").exists()), None)
            if slot is None:
                raise receiver.Refusal("every container is in use")
            slot.holder = sandbox["id"]
        slot.place(sandbox)
        deadline = time.monotonic() + RUNNING_WITHIN
        while not slot.runs(sandbox["id"]):
            if time.monotonic() > deadline:
                self.end(slot)
                raise RuntimeError(f"the sandbox at {slot.address} does not run; see the log of its sidecar")
            time.sleep(0.1)
        return slot, slot.address

    def end(self, slot):
        slot.empty()
        slot.holder = None


def main():
    parser = argparse.ArgumentParser(description="A demo platform for `sandgate serve --runtime webhook`.")
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--listen", default="0.0.0.0:9700")
    parser.add_argument("slots", nargs="+", metavar="ADDRESS=PLACEMENT:SHARED")
    arguments = parser.parse_args()
    slots = []
    for text in arguments.slots:
        address, _, folders = text.partition("=")
        slots.append(Slot(address, *folders.split(":")))
    receiver.Receiver.secret = Path(arguments.secret_file).read_bytes().strip()
    receiver.Receiver.fleet = receiver.Fleet(Platform(slots))
    host, _, port = arguments.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), receiver.Receiver)
    print(f"ready: http://{host}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
