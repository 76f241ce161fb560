"""The TypeScript SDK behind the interface of owners.py: a Node process that executes lines of JSON."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import owners
import world

DRIVER = Path(__file__).with_name("typescript_sdk.mjs")
OPTIONS = {"allow_internet_access": "allowInternetAccess", "allow_out": "allowOut", "deny_out": "denyOut"}


class ClientError(Exception):
    """The SDK threw an error."""


class TypeScriptSdk(owners.Client):
    def __init__(self, credential="api key"):
        here = world.current
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TENSORLAKE_")}
        options = {"apiUrl": here.api_url, "apiKey": here.api_key}
        if credential != "api key":
            options |= {"apiKey": here.pat, "organizationId": here.organization, "projectId": here.project}
        environment |= {"CLIENTS": str(here.clients), "OPTIONS": json.dumps(options)} | here.trust
        self.process = subprocess.Popen([here.clients / "node", DRIVER], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def call(self, method, *arguments):
        self.process.stdin.write(json.dumps({"method": method, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ClientError(f"Node ended during {method}; what it said is above")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer.get("value")

    def create(self, **options):
        return self.call("create", {OPTIONS.get(key, key): value for key, value in options.items()})["sandboxId"]

    def get(self, sandbox):
        return seen(self.call("get", sandbox))

    def list(self):
        return [seen(sandbox) for sandbox in self.call("list")]

    def expose(self, sandbox, ports, public):
        return seen(self.call("exposePorts", sandbox, ports, {"allowUnauthenticatedAccess": public}))

    def unexpose(self, sandbox, ports):
        return seen(self.call("unexposePorts", sandbox, ports))

    def suspend(self, sandbox):
        self.call("suspend", sandbox)

    def resume(self, sandbox):
        self.call("resume", sandbox)

    def delete(self, sandbox):
        self.call("delete", sandbox)

    def health(self, sandbox):
        return self.call("health", sandbox)["healthy"]

    def snapshot(self, sandbox):
        self.call("snapshot", sandbox)

    @contextlib.contextmanager
    def tunnel(self, sandbox, port):
        try:
            yield self.call("openTunnel", sandbox, port)
        finally:
            self.call("closeTunnel")


def seen(info):
    return {"id": info["sandboxId"], "name": info.get("name"), "status": info["status"],
            "exposed_ports": info.get("exposedPorts"), "sandbox_url": info.get("sandboxUrl"),
            "allow_unauthenticated_access": info.get("allowUnauthenticatedAccess")}
