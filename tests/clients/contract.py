"""The commands and code snippets of the contract. Only the names of hosts differ, and without TLS `https://` is `http://`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Curl:
    """A command, and the status and the JSON fields that the response must have."""

    shows: str
    line: str
    status: int
    answer: dict


API = "https://api.tensorlake.ai/sandboxes"
HEALTH = "curl https://8080-<sandbox-id-or-name>.sandbox.tensorlake.ai/health"
KEY = '-H "Authorization: Bearer $TENSORLAKE_API_KEY"'
JSON = '-H "Content-Type: application/json"'
PROJECT = ('-H "X-Forwarded-Organization-Id: $TENSORLAKE_ORGANIZATION_ID" \\\n'
           '-H "X-Forwarded-Project-Id: $TENSORLAKE_PROJECT_ID"')


def patch(body):
    return f"curl -X PATCH {API}/<sandbox-id-or-name> \\\n{KEY} \\\n{JSON} \\\n-d '{body}'"


def create(network):
    return f"curl -X POST {API} \\\n{KEY} \\\n{JSON} \\\n-d '{{\n\"network\": {network}\n}}'"


# They run in this order, with one sandbox.
CURLS = [
    Curl("expose a port to authenticated callers",
         patch('{\n"allow_unauthenticated_access": false,\n"exposed_ports": [8080]\n}'),
         200, {"allow_unauthenticated_access": False, "exposed_ports": [8080]}),
    Curl("no credential, no access", HEALTH, 401, {"code": "UNAUTHENTICATED"}),
    Curl("an API key", f"{HEALTH} \\\n{KEY}", 200, {"status": "ok"}),
    Curl("a personal access token",
         f'{HEALTH} \\\n-H "Authorization: Bearer $TENSORLAKE_PAT" \\\n{PROJECT}', 200, {"status": "ok"}),
    Curl("a session cookie",
         f'{HEALTH} \\\n-H "Cookie: tl.session_token=$TENSORLAKE_SESSION_TOKEN" \\\n{PROJECT}', 200, {"status": "ok"}),
    Curl("the legacy cookie",
         f'{HEALTH} \\\n-H "Cookie: tl-session=$TENSORLAKE_SESSION_TOKEN" \\\n{PROJECT}', 200, {"status": "ok"}),
    Curl("make the port public",
         patch('{\n"allow_unauthenticated_access": true,\n"exposed_ports": [8080]\n}'),
         200, {"allow_unauthenticated_access": True, "exposed_ports": [8080]}),
    Curl("no credential, but public", HEALTH, 200, {"status": "ok"}),
    Curl("unexpose it",
         patch('{\n"allow_unauthenticated_access": false,\n"exposed_ports": []\n}'),
         200, {"allow_unauthenticated_access": False, "exposed_ports": []}),
    Curl("unexposed for its owner, too", f"{HEALTH} \\\n{KEY}", 403, {"code": "PORT_NOT_EXPOSED"}),
]

# The network policies with which sandboxes are created.
NETWORKS = [
    '{"allow_internet_access": false}',
    '{\n"allow_internet_access": false,\n"allow_out": ["10.0.0.0/8", "8.8.8.8"]\n}',
    '{"deny_out": ["example.com"]}',
]
# Without sidecars, nothing enforces a policy, so it is refused.
REFUSED = [Curl(f"network {network}", create(network), 400, {"code": "NETWORK_POLICY_UNSUPPORTED"}) for network in NETWORKS]

PYTHON = """\
from tensorlake.sandbox import SandboxClient
client = SandboxClient()
sandbox = client.expose_ports(
    "my-env",
    [8080],
    allow_unauthenticated_access=False,
)
print(sandbox.exposed_ports)
sandbox = client.unexpose_ports("my-env", [8080])
print(sandbox.exposed_ports)
sandbox = client.expose_ports(
    "my-public-sandbox",
    [8080],
    allow_unauthenticated_access=True,
)
print(sandbox.allow_unauthenticated_access, sandbox.exposed_ports)
sandbox = client.unexpose_ports("my-public-sandbox", [8080])
print(sandbox.allow_unauthenticated_access, sandbox.exposed_ports)
"""
# The output.
PYTHON_SAYS = "[8080]\n[]\nTrue [8080]\nFalse []\n"

TYPESCRIPT = """\
const sandbox = await client.exposePorts(
  "my-env",
  [8080],
  { allowUnauthenticatedAccess: false },
);
console.log(sandbox.exposedPorts);
const updated = await client.unexposePorts("my-env", [8080]);
console.log(updated.exposedPorts);
"""
TYPESCRIPT_PUBLIC = """\
const sandbox = await client.exposePorts(
  "my-public-sandbox",
  [8080],
  { allowUnauthenticatedAccess: true },
);
console.log(sandbox.allowUnauthenticatedAccess, sandbox.exposedPorts);
const updated = await client.unexposePorts("my-public-sandbox", [8080]);
console.log(updated.allowUnauthenticatedAccess, updated.exposedPorts);
"""
# It prints no `client`: this is how its settings reach it.
TYPESCRIPT_CLIENT = """\
import { createRequire } from "node:module";
const { SandboxClient } = createRequire(`${process.env.CLIENTS}/package.json`)("tensorlake");
const client = new SandboxClient();
"""
TYPESCRIPT_SAYS = "[ 8080 ]\n[]\ntrue [ 8080 ]\nfalse []\n"

# How sandboxes are created with a network policy, and the policy that each of them has then.
OFF = {"allow_internet_access": False, "allow_out": [], "deny_out": []}
LISTED = {"allow_internet_access": False, "allow_out": ["10.0.0.0/8", "8.8.8.8"], "deny_out": []}
DENIED = {"allow_internet_access": True, "allow_out": [], "deny_out": ["example.com"]}
PYTHON_NETWORKS = """\
from tensorlake.sandbox import SandboxClient
client = SandboxClient()
sandbox = client.create(
    allow_internet_access=False
)
sandbox = client.create(
    allow_internet_access=False,
    allow_out=["10.0.0.0/8", "8.8.8.8"],
)
sandbox = client.create(
    deny_out=["example.com"]
)
"""
TYPESCRIPT_NETWORKS = [
    ("""\
const sandbox = await client.create({
  allowInternetAccess: false,
});
console.log(sandbox.sandboxId);
""", OFF),
    ("""\
const sandbox = await client.create({
  allowInternetAccess: false,
  allowOut: ["10.0.0.0/8", "8.8.8.8"],
});
console.log(sandbox.sandboxId);
""", LISTED),
    ("""\
const sandbox = await client.create({
  denyOut: ["example.com"],
});
console.log(sandbox.sandboxId);
""", DENIED),
]

FETCH = """\
const response = await fetch(
  "https://8080-my-env.sandbox.tensorlake.ai/health",
  {
    headers: {
      Authorization: `Bearer ${process.env.TENSORLAKE_API_KEY}`,
    },
  },
);
console.log(await response.text());
"""
FETCH_PUBLIC = """\
const response = await fetch(
  "https://8080-my-public-sandbox.sandbox.tensorlake.ai/health",
);
console.log(await response.text());
"""
