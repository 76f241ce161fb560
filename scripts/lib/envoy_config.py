"""Renders the Envoy configurations in envoy/ for the local run (envoy/render.sh does the substitution)."""

import ipaddress
import json
import os
import subprocess
from pathlib import Path

import certificate
from tell import ROOT, Failure

FILTER = ROOT / "target" / "filters" / "sandgate_ingress.wasm"
EGRESS_FILTER = ROOT / "target" / "filters" / "sandgate_egress.wasm"
# A part of loopback: each demo sandbox has an address of its own there.
SANDBOX_NETWORK, SANDBOX_PREFIX_LEN = os.environ.get("SANDGATE_SANDBOX_NETWORK") or "127.64.0.0", 16
DOMAIN = "sandbox.localhost"


def sandbox_address():
    """An address that a sandbox may get (the last one, which none has yet)."""
    return str(ipaddress.ip_network(f"{SANDBOX_NETWORK}/{SANDBOX_PREFIX_LEN}")[-2])


def values(folder, ports):
    """What the names in envoy/edge.yaml stand for in the local run."""
    return {
        "SANDGATE_EDGE_ADDRESS": "127.0.0.1",
        "SANDGATE_EDGE_PORT": str(ports["edge"]),
        "SANDGATE_EDGE_TLS_PORT": str(ports["edge_tls"]),
        "SANDGATE_TLS_SDS": str(folder / "tls-certificate.yaml"),
        "SANDGATE_LISTENER_FILTERS": "[]",
        "SANDGATE_TRUSTED_HOPS": "0",
        "SANDGATE_ADMIN_PORT": str(ports["admin"]),
        "SANDGATE_CONTROL_PLANE_ADDRESS": "127.0.0.1",
        "SANDGATE_API_PORT": str(ports["api"]),
        "SANDGATE_GATEWAY_PORT": str(ports["gateway"]),
        "SANDGATE_GATEWAY_TOKEN_SDS": str(folder / "gateway-token.yaml"),
        "SANDGATE_WASM": str(FILTER),
        "SANDGATE_DOMAIN": DOMAIN,
        # What Tensorlake's clients put behind a sandbox's id when they talk to localhost.
        "SANDGATE_SECOND_DOMAIN": "local",
        # Where Tensorlake's clients look for the API of `sandbox.localhost`.
        "SANDGATE_API_HOST": "api.localhost",
        "SANDGATE_SANDBOX_NETWORK": SANDBOX_NETWORK,
        "SANDGATE_SANDBOX_PREFIX_LEN": str(SANDBOX_PREFIX_LEN),
        "SANDGATE_STREAM_IDLE_TIMEOUT": "3600s",
        "SANDGATE_TRUSTED_ORIGINS": "[]",
        "SANDGATE_INGRESS_LIMITS": "{}",
        "SANDGATE_EDGE_HEAP": str(2 << 30),
        "SANDGATE_EDGE_CONNECTIONS": "50000",
        "SANDGATE_EDGE_LOG": str(ROOT / "envoy" / "edge-log.yaml"),
    }


def render(template, table):
    """The template's text with its names replaced; nothing of our own environment gets in."""
    done = subprocess.run(["sh", str(ROOT / "envoy" / "render.sh"), str(template)], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], **table})
    if done.returncode:
        raise Failure(f"the Envoy configuration can't be rendered: {done.stderr.strip()}")
    return done.stdout


def write_private(path, text):
    """Writes a file that only its owner may read, whole or not at all."""
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def render_all(folder, token, ports, names=certificate.NAMES, **changed):
    """Writes Envoy's files into a folder, the certificate too; returns the path of the one to start it with.

    `names` are the certificate's; `changed` are values other than the local run's.
    """
    folder = Path(folder)
    certificate.ensure(folder, names)
    write_private(folder / "tls-certificate.yaml",
                  render(ROOT / "envoy" / "tls-certificate.yaml", {"SANDGATE_TLS_DIR": str(certificate.directory(folder))}))
    write_private(folder / "gateway-token.yaml",
                  render(ROOT / "envoy" / "gateway-token.yaml", {"SANDGATE_GATEWAY_TOKEN": token}))
    bootstrap = folder / "edge.yaml"
    write_private(bootstrap, render(ROOT / "envoy" / "edge.yaml", values(folder, ports) | changed))
    return bootstrap


def sidecar_values(folder, ports):
    """What the names in envoy/sidecar.yaml stand for; `sandgate-sidecar` has its own way to fill it in."""
    return {
        "SANDGATE_SIDECAR_PLAIN_PORT": str(ports["plain"]),
        "SANDGATE_SIDECAR_INSPECTED_PORT": str(ports["inspected"]),
        "SANDGATE_SIDECAR_PROBE_PORT": str(ports["probe"]),
        "SANDGATE_SIDECAR_ADMIN_PORT": str(ports["admin"]),
        "SANDGATE_SIDECAR_RESET_PORT": str(ports["reset"]),
        "SANDGATE_SIDECAR_REFUSED_PORT": str(ports["refused"]),
        "SANDGATE_SIDECAR_RESOLVER_PORT": str(ports["resolver"]),
        "SANDGATE_SIDECAR_INSPECTION": "0.150s",
        "SANDGATE_SIDECAR_REFUSAL": "0.050s",
        "SANDGATE_SIDECAR_CONNECTIONS": "20000",
        "SANDGATE_SIDECAR_HEAP": str(1 << 30),
        "SANDGATE_SIDECAR_BUFFER": str(128 << 10),
        "SANDGATE_EGRESS_TCP_ECDS": str(folder / "egress-tcp.yaml"),
        "SANDGATE_EGRESS_HTTP_ECDS": str(folder / "egress-http.yaml"),
        "SANDGATE_EGRESS_LOG": str(ROOT / "envoy" / "egress-log.yaml"),
    }


def write_egress(folder, config):
    """Writes, or replaces by a rename, the two files that bring the egress filter its configuration."""
    table = {"SANDGATE_EGRESS_WASM": str(EGRESS_FILTER), "SANDGATE_EGRESS_CONFIG": json.dumps(config)}
    for name in ("egress-tcp.yaml", "egress-http.yaml"):
        write_private(Path(folder) / name, render(ROOT / "envoy" / name, table))


def render_sidecar(folder, config, ports):
    """Writes all files of a sidecar's Envoy into a folder; returns the path of the one to start it with."""
    folder = Path(folder)
    write_egress(folder, config)
    bootstrap = folder / "sidecar.yaml"
    write_private(bootstrap, render(ROOT / "envoy" / "sidecar.yaml", sidecar_values(folder, ports)))
    return bootstrap
