"""The ports of a local run: whether they are free, and which process uses them."""

import errno
import os
import socket
from pathlib import Path

from tell import Failure

# name: (default, what listens there)
PORTS = {
    "edge": (9443, "Envoy, where clients connect"),
    "edge_tls": (9444, "Envoy, where clients connect by TLS"),
    "api": (8900, "the owners' API"),
    "gateway": (8901, "the API that the filter calls"),
    "admin": (9901, "Envoy's admin pages"),
}
# The ports of each demo sandbox, which has its own address.
SANDBOX_PORTS = (8080, 3000, 50051, 9501)


def chosen():
    """The ports of this run. `SANDGATE_EDGE_PORT` and similar variables override the defaults."""
    ports = {}
    for name, (default, _) in PORTS.items():
        variable = f"SANDGATE_{name.upper()}_PORT"
        text = os.environ.get(variable) or str(default)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
            raise Failure(f"{variable} is `{text}`; it takes a port from 1 to 65535")
        if int(text) in ports.values():
            raise Failure(f"port {text} is wanted twice; give {variable} another value")
        ports[name] = int(text)
    return ports


def require_free(ports, sandbox_address):
    """Fails if a port is in use. The error names the port, the process that uses it, and a remedy."""
    for name, port in ports.items():
        refusal = cannot_listen("127.0.0.1", port)
        if refusal == errno.EACCES:
            raise Failure(f"port {port} ({PORTS[name][1]}) needs root; choose one above 1023: "
                          f"SANDGATE_{name.upper()}_PORT={port + 10000} make run")
        if refusal:
            raise Failure(f"port {port} ({PORTS[name][1]}) is in use{holder(port)}; stop that, or choose another port: "
                          f"SANDGATE_{name.upper()}_PORT={free_port()} make run")
    for port in SANDBOX_PORTS:
        if cannot_listen(sandbox_address, port):
            raise Failure(f"port {port} is in use on all addresses{holder(port)}, and the demo sandboxes listen there, "
                          "each on a loopback address of its own; stop that, or have it listen on 127.0.0.1 alone")


def cannot_listen(address, port):
    """Returns 0, or the error number of `bind` or `listen`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return error.errno
    return 0


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def holder(port):
    """The process that uses the port, like ` by nginx (process 123)`, or an empty text if it is unknown."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in map(str.split, rows):
            # 0A is LISTEN.
            if row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{row[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) in inodes for file in (process / "fd").iterdir()):
                return f" by {(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return " by another user's process" if inodes else ""
