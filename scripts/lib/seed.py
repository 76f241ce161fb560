"""The initial data of a local run: an organization, a project, a user, credentials and two sandboxes.

A later run reuses existing data and creates missing data again, for example after the env file or the
store was deleted. Secrets are only in the env file, which only its owner can read.
"""

import json
import shlex
import subprocess
import time

from certificate import authority_file
from envoy_config import DOMAIN, write_private
from http_json import call
from tell import Failure, say

NAME = "demo"
USER = "demo@example.com"
# The demo sandbox serves HTTP on port 8080, WebSocket on port 3000, and gRPC on port 50051.
SANDBOXES = {
    "my-env": {"exposed_ports": [3000, 8080, 50051], "allow_unauthenticated_access": False},
    "my-public-sandbox": {"exposed_ports": [8080], "allow_unauthenticated_access": True},
}
# The variable, the kind in the gateway API, and the arguments of `sandgate keys create`.
CREDENTIALS = [
    ("TENSORLAKE_API_KEY", "api_key", lambda project: ["--project", project, "--name", NAME]),
    ("TENSORLAKE_PAT", "personal_access_token", lambda _: ["--kind", "pat", "--user", USER]),
    ("TENSORLAKE_SESSION_TOKEN", "session", lambda _: ["--kind", "session", "--user", USER, "--expires-in", "30d"]),
]


class Seed:
    def __init__(self, program, state, ports, gateway_token):
        self.program = program
        self.data = state / "data"
        self.state = state
        self.env_file = state / "env"
        self.api = f"http://127.0.0.1:{ports['api']}"
        self.gateway = f"http://127.0.0.1:{ports['gateway']}"
        self.ports = ports
        self.gateway_token = gateway_token

    def sandgate(self, *arguments):
        """Runs a management command and returns its result."""
        done = subprocess.run([self.program, *arguments, "--data-dir", self.data, "--json"], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise Failure(f"`sandgate {' '.join(arguments)}` failed: {reason}")
        return json.loads(done.stdout)

    def find_or_create(self, what, *scope):
        """The id of the organization or project with the name `demo`, which is created if necessary."""
        for found in listed(self.sandgate(what, "list")):
            if found["name"] == NAME and (not scope or found["organization_id"] == scope[-1]):
                return found["id"]
        return self.sandgate(what, "create", NAME, *scope)["id"]

    def environment(self):
        """Returns the variables of the env file, and writes the file if they have changed."""
        organization = self.find_or_create("orgs")
        project = self.find_or_create("projects", "--organization", organization)
        # Adding an existing member changes nothing.
        self.sandgate("members", "add", "--user", USER, "--project", project)
        before = read_env(self.env_file)
        variables = {
            "TENSORLAKE_API_URL": f"http://localhost:{self.ports['api']}",
            "TENSORLAKE_SANDBOX_PROXY_URL": f"http://localhost:{self.ports['edge']}",
            "TENSORLAKE_ORGANIZATION_ID": organization,
            "TENSORLAKE_PROJECT_ID": project,
            "SANDGATE_DOMAIN": DOMAIN,
            "SANDGATE_CA": str(authority_file(self.state)),
        }
        made = []
        for variable, kind, how in CREDENTIALS:
            secret = before.get(variable)
            if not (secret and self.is_good(kind, secret, organization, project)):
                secret = self.sandgate("keys", "create", *how(project))["secret"]
                made.append(variable)
            variables[variable] = secret
        if variables != before:
            say(f"writing {self.env_file.name}" + (f" (new: {', '.join(made)})" if made else ""))
            text = "# Written by `make run`; `source` it. It holds secrets of the local run.\n"
            text += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))
            write_private(self.env_file, text)
        return variables

    def is_good(self, kind, secret, organization, project):
        """Whether the control plane still accepts this credential for this project."""
        body = {"kind": kind, "secret": secret}
        if kind != "api_key":
            body.update(organization_id=organization, project_id=project)
        status, answer = call("POST", f"{self.gateway}/gateway/v1/credentials/introspect", body,
                              Authorization=f"Bearer {self.gateway_token}")
        if status != 200:
            raise Failure(f"the control plane did not say whether a credential is good: {status} {answer}")
        identity = answer.get("identity")
        return bool(identity) and project in identity["project_ids"]

    def sandboxes(self, api_key):
        """Starts both sandboxes with the ports that the printed commands use. Returns {name: id}."""
        return {name: self.sandbox(name, wanted, api_key) for name, wanted in SANDBOXES.items()}

    def sandbox(self, name, wanted, api_key):
        def api(method, path, body=None):
            status, answer = call(method, self.api + path, body, timeout=40, Authorization=f"Bearer {api_key}")
            return status, answer

        def required(method, path, body=None):
            status, answer = api(method, path, body)
            if status is None or status >= 300:
                raise Failure(f"{method} {path} of the API answered {status}: {answer}")
            return answer

        status, found = api("GET", f"/sandboxes/{name}")
        if status == 404:
            say(f"creating sandbox {name}")
            required("POST", "/sandboxes", {"name": name})
        elif status != 200:
            raise Failure(f"GET /sandboxes/{name} of the API answered {status}: {found}")
        found = required("GET", f"/sandboxes/{name}")
        if any(found.get(key) != value for key, value in wanted.items()):
            required("PATCH", f"/sandboxes/{name}", wanted)
        deadline = time.monotonic() + 30
        while found["status"] != "running":
            if found["status"] == "suspended":
                required("POST", f"/sandboxes/{name}/resume")
            if time.monotonic() > deadline:
                raise Failure(f"sandbox {name} is still {found['status']} after 30 s; see .sandgate/control-plane.log")
            time.sleep(0.1)
            found = required("GET", f"/sandboxes/{name}")
        return found["id"]


def listed(answer):
    """The items of a list command's result, which is an object that contains one list."""
    lists = [value for value in answer.values() if isinstance(value, list)] if isinstance(answer, dict) else [answer]
    if len(lists) != 1:
        raise Failure(f"a list command of `sandgate` answered something else: {answer}")
    return lists[0]


def read_env(path):
    """The variables of an env file. Empty if the file does not exist or can't be parsed."""
    try:
        words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    except (OSError, ValueError):
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)
