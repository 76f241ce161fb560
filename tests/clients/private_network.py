"""A private network for all modes except `local`. Port 80 is free in it, and all names resolve to it.

The clients ask the system's resolver for `api.X`, `sandbox.X` and `ID.sandbox.X`, and one client ignores the port in the
API's URL. So the tests run in a network namespace with only a loopback interface, from which no client can reach the
outside, and in a mount namespace whose /etc/resolv.conf names the DNS server of this module.
"""

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

from tell import Failure

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MS_BIND = 4096
# The first way needs root, the second one a user who may create user namespaces.
AS_ROOT = ["unshare", "--net", "--mount"]
WAYS = (AS_ROOT, ["unshare", "--user", "--map-root-user", "--net", "--mount"])
# The programs that a sidecar and its tests run.
EGRESS_PROGRAMS = ("ip", "nft", "setpriv", "curl")


def entrance(mode):
    """(the start of a command that runs in such namespaces, None), or (None, the reason why there can be none)."""
    if not shutil.which("unshare"):
        return None, "there is no `unshare` (util-linux)"
    ways = WAYS
    if mode == "egress":
        # A sidecar starts Envoy as another user, and a user namespace has only one user.
        if os.geteuid():
            return None, "sidecars need root"
        for program in EGRESS_PROGRAMS:
            if not shutil.which(program):
                return None, f"there is no `{program}`; install it with: scripts/setup network"
        ways = (AS_ROOT,)
    reasons = []
    for way in ways:
        # Tries what `enter` does.
        tried = subprocess.run([*way, "sh", "-c", "mount --bind /etc/hosts /etc/hosts"], capture_output=True, text=True)
        if tried.returncode == 0:
            return way, None
        reasons.append(tried.stderr.strip().replace("\n", "; ") or f"status {tried.returncode}")
    return None, f"no network and mount namespace can be made here: {'; as a user of its own: '.join(reasons)}"


def enter(domain, folder):
    """Runs inside the namespaces: enables the loopback interface, and resolves the names of the domain until the end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    configuration = Path(folder) / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    # /etc/resolv.conf may be a symbolic link.
    mount(str(configuration), os.path.realpath("/etc/resolv.conf"), flags=MS_BIND)
    answer_names("127.0.0.1", lambda name: "127.0.0.1" if name == domain or name.endswith(f".{domain}") else None)


def mount(source, target, kind="", flags=0):
    """mount(2) in this mount namespace, which ends with this process."""
    if ctypes.CDLL(None, use_errno=True).mount(source.encode(), target.encode(), kind.encode(), flags, None):
        raise Failure(f"{target} can't be replaced in a mount namespace: {os.strerror(ctypes.get_errno())}")


def answer_names(address, address_of):
    """Starts a DNS server. `address_of` returns the address of a name in lower case, or None."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    threading.Thread(target=serve, args=(server, address_of), daemon=True).start()


def serve(server, address_of):
    while True:
        query, client = server.recvfrom(4096)
        try:
            server.sendto(answer(query, address_of), client)
        except (IndexError, struct.error):
            # An invalid query gets no response.
            continue


def answer(query, address_of):
    """The response (RFC 1035 section 4): the name's address, or "no such name"."""
    number, flags = struct.unpack("!HH", query[:4])
    labels, position = [], 12
    while query[position]:
        labels.append(query[position + 1:position + 1 + query[position]].lower())
        position += 1 + query[position]
    question = query[12:position + 5]
    kind = struct.unpack("!H", query[position + 1:position + 3])[0]
    address = address_of(b".".join(labels).decode("ascii", "replace"))
    # A known name has only an A record. A query for another type gets an empty response.
    records = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(address) if address and kind == 1 else b""
    # An authoritative response that copies "recursion desired"; NXDOMAIN for unknown names.
    flags = 0x8480 | (flags & 0x0100) | (0 if address else 3)
    return struct.pack("!HHHHHH", number, flags, 1, 1 if records else 0, 0, 0) + question + records
