"""Creates the TLS certificate of the local run, and a certificate authority that signs it (with `openssl`).

The authority is created once. Name constraints limit it to this machine's loopback names, so a client that
trusts the authority trusts only certificates for these names. The edge's certificate is renewed before it expires.
"""

import subprocess
import tempfile
from pathlib import Path

from tell import Failure

# The names of sandboxes, and the name of the machine. The authority is limited to the last name and all names
# below it. The certificate contains no address: gRPC's TLS library does not support name constraints for
# addresses, and refuses a chain with an address.
NAMES = ("sandbox.localhost", "*.sandbox.localhost", "localhost")
AUTHORITY_DAYS, DAYS = 3650, 90
# The certificate is renewed if it expires within this many days.
RENEW_DAYS = 30

REQUEST = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
nameConstraints = critical, permitted;DNS:{within}, permitted;IP:127.0.0.0/255.0.0.0
[edge]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def authority_file(folder):
    """The certificate that clients must trust."""
    return Path(folder) / "ca.crt"


def directory(folder):
    """The folder of the edge's tls.crt and tls.key."""
    return Path(folder) / "tls"


def ensure(folder, names=NAMES):
    """Creates the files that are missing in a state folder, and renews certificates that expire soon."""
    folder = Path(folder)
    directory(folder).mkdir(mode=0o700, exist_ok=True)
    authority, certificate = authority_file(folder), directory(folder) / "tls.crt"
    if not lasts(folder / "ca.key", authority, authority):
        make_authority(folder, names)
    if not lasts(directory(folder) / "tls.key", certificate, authority):
        issue(folder, names)


def lasts(key, certificate, authority):
    """Whether the pair exists, key and certificate match, this authority signed it, and it does not expire soon."""
    if not all(file.exists() for file in (key, certificate, authority)):
        return False
    lasting = openssl("x509", "-in", certificate, "-noout", "-checkend", str(RENEW_DAYS * 86400), required=False)
    signed = openssl("verify", "-CAfile", authority, certificate, required=False)
    public_keys = {openssl("pkey", "-in", key, "-pubout", required=False).stdout,
                   openssl("x509", "-in", certificate, "-noout", "-pubkey", required=False).stdout}
    return lasting.returncode == 0 and signed.returncode == 0 and len(public_keys) == 1


def make_authority(folder, names):
    with tempfile.TemporaryDirectory(dir=folder) as work:
        work = Path(work)
        request = write_request(work, "Sandgate local run", names)
        openssl("req", "-x509", "-config", request, "-extensions", "authority", "-days", str(AUTHORITY_DAYS), *new_key(work),
                "-out", work / "new.crt")
        place(work, folder / "ca.key", folder / "ca.crt")


def issue(folder, names):
    """Creates a new certificate for the edge. A running Envoy reloads it."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        work = Path(work)
        request = write_request(work, "Sandgate edge", names)
        openssl("req", "-new", "-config", request, *new_key(work), "-out", work / "new.csr")
        openssl("x509", "-req", "-in", work / "new.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
                "-CAserial", work / "serial", "-CAcreateserial", "-days", str(DAYS), "-extfile", request, "-extensions", "edge",
                "-out", work / "new.crt")
        place(work, directory(folder) / "tls.key", directory(folder) / "tls.crt")


def new_key(work):
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", work / "new.key"


def write_request(work, name, names):
    path = work / "openssl.cnf"
    listed = ", ".join(f"DNS:{it}" for it in names)
    path.write_text(REQUEST.format(name=name, names=listed, within=names[-1]), encoding="ascii")
    return path


def place(work, key, certificate):
    """Moves a pair to its final place by renames. Only the owner can read the key."""
    (work / "new.key").chmod(0o600)
    (work / "new.key").replace(key)
    (work / "new.crt").replace(certificate)


def openssl(*arguments, required=True):
    try:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise Failure("`openssl` is missing; install it with: scripts/setup build") from None
    if required and done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Failure(f"`openssl {arguments[0]}` failed: {reason}")
    return done
