"""A second control plane, whose operator requires a confirmation before private ports become public. It has an owner and
data of its own, and no edge: its tests look at the API's responses."""

import contextlib

from http_json import call
from stack import Stack


class Confirming:
    """The control plane's URL, and an owner's key."""

    def __init__(self, stack):
        self.api_url = f"http://127.0.0.1:{stack.api_port}"
        self.api_key = stack.api_key
        self.sandgate = stack.sandgate

    def api(self, method, path, body=None):
        """(status, answer) of a call of the public API."""
        return call(method, self.api_url + path, body, Authorization=f"Bearer {self.api_key}")


@contextlib.contextmanager
def control_plane(folder):
    """Starts one, for as long as it is needed."""
    with Stack(folder, "--no-envoy", "--confirm-public-ports") as stack:
        yield Confirming(stack)
