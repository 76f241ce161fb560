"""A second control plane, whose operator wants it confirmed that private ports become public. It has an
owner and data of its own, and no edge: what is tested with it is what the API answers."""

import contextlib
import json
import subprocess

from http_json import call
from parts import Part

import world


class Confirming:
    """The control plane's URL, and an owner's key."""

    def __init__(self, folder):
        here = world.current
        self.data, port = folder / "data", world.free_port()
        self.api_url = f"http://127.0.0.1:{port}"
        self.part = Part(
            "the control plane that wants confirmations",
            [world.PROGRAMS / "sandgate", "serve", "--public-ports", "confirm", "--data-dir", self.data,
             "--api-listen", f"127.0.0.1:{port}", "--gateway-listen", "127.0.0.1:0",
             "--gateway-token-file", here.folder / "gateway-token", "--runtime", "local",
             "--local-program", world.PROGRAMS / "sandgate-demo", "--local-cidr", f"{world.free_network()}/16"],
            folder / "control-plane.log")

    def furnish(self):
        """Waits until it is ready, and makes the owner."""
        world.eventually(lambda: "ready: api" in self.part.log.read_text(errors="replace"), "it is ready", 30)
        organization = self.sandgate("orgs", "create", "confirming")["id"]
        project = self.sandgate("projects", "create", "confirming", "--organization", organization)["id"]
        self.api_key = self.sandgate("keys", "create", "--project", project)["secret"]

    def sandgate(self, *arguments):
        done = subprocess.run([world.PROGRAMS / "sandgate", *arguments, "--data-dir", self.data, "--json"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=True)
        return json.loads(done.stdout)

    def api(self, method, path, body=None):
        """(status, answer) of a call of the owners' API."""
        return call(method, self.api_url + path, body, Authorization=f"Bearer {self.api_key}")


@contextlib.contextmanager
def control_plane(folder):
    """Starts one, for as long as it is needed."""
    folder.mkdir()
    there = Confirming(folder)
    try:
        there.furnish()
        yield there
    finally:
        there.part.stop()
