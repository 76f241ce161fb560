"""The Python SDK behind the interface of owners.py."""

import contextlib

import owners
import world
from tensorlake.sandbox import CLEAR_NETWORK_POLICY, NetworkConfig, SandboxClient

KEPT = ("name", "exposed_ports", "allow_unauthenticated_access", "sandbox_url", "auto_resume")


class PythonSdk(owners.Client):
    def __init__(self, credential="api key"):
        here = world.current
        who = {"api_key": here.api_key}
        if credential != "api key":
            who = {"api_key": here.pat, "organization_id": here.organization, "project_id": here.project}
        # The public constructor of the SDK, which warns that it is deprecated.
        self.client = SandboxClient(api_url=here.api_url, **who, _internal=True)

    def close(self):
        self.client.close()

    def create(self, **options):
        return self.client.create(**options).value.sandbox_id

    def get(self, sandbox):
        return seen(self.client.get(sandbox).value)

    def list(self):
        return [seen(sandbox) for sandbox in self.client.list()]

    def expose(self, sandbox, ports, public):
        return seen(self.client.expose_ports(sandbox, ports, allow_unauthenticated_access=public))

    def unexpose(self, sandbox, ports):
        return seen(self.client.unexpose_ports(sandbox, ports))

    def network(self, sandbox):
        """The network policy of a sandbox, as the SDK returns it."""
        return self.client.get(sandbox).value.network_policy.model_dump()

    def set_network(self, sandbox, network):
        """Replaces the network policy of a sandbox; None is the default policy."""
        wanted = CLEAR_NETWORK_POLICY if network is None else NetworkConfig(**network)
        self.client.update_sandbox(sandbox, network=wanted)

    def suspend(self, sandbox):
        self.client.suspend(sandbox)

    def resume(self, sandbox):
        self.client.resume(sandbox)

    def delete(self, sandbox):
        self.client.delete(sandbox)

    def health(self, sandbox):
        with contextlib.closing(self.client.connect(sandbox)) as connected:
            return connected.health().value.healthy

    def snapshot(self, sandbox):
        self.client.snapshot(sandbox)

    @contextlib.contextmanager
    def tunnel(self, sandbox, port):
        with contextlib.closing(self.client.connect(sandbox)) as connected:
            with connected.create_tunnel(port, local_port=0) as tunnel:
                yield tunnel.local_port


def seen(info):
    # Some calls return the sandbox, others return the sandbox and a trace id.
    info = getattr(info, "value", info)
    return {"id": info.sandbox_id, "status": getattr(info.status, "value", info.status),
            **{key: getattr(info, key) for key in KEPT}}
