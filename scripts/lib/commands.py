"""The commands that `make run` prints. scripts/try runs the same commands."""

import json
import os
import shlex
from dataclasses import dataclass

import sidecar_demo
from tell import ROOT


@dataclass(frozen=True)
class Command:
    """A command line, a description, and a regular expression that its output must match."""

    shows: str
    line: str
    expect: str
    # The exit status. curl reports denials by its exit status.
    status: int = 0
    # The number of seconds for which the command is repeated, if it follows a change that takes effect with a delay.
    patience: float = 0


KEY = '-H "Authorization: Bearer $TENSORLAKE_API_KEY"'
HEADER = '--header "Authorization: Bearer $TENSORLAKE_API_KEY"'
PROJECT = ('-H "X-Forwarded-Organization-Id: $TENSORLAKE_ORGANIZATION_ID" '
           '-H "X-Forwarded-Project-Id: $TENSORLAKE_PROJECT_ID"')
STATUS = r"-w '\n%{http_code}\n'"
HTTP_STATUS = r"-w '\n%{http_code} HTTP/%{http_version}\n'"


def printed(ports, demo, my_env_id):
    """The commands, in the order in which users run them after `source`."""
    edge, tls = ports["edge"], ports["edge_tls"]
    # Not every system resolves `*.localhost`, so curl gets the address.
    curl = f"curl -sS {STATUS} --resolve '*:{edge}:127.0.0.1'"
    secure = f"curl -sS {HTTP_STATUS} --cacert $SANDGATE_CA --resolve '*:{tls}:127.0.0.1'"
    trusting = f"--connect 127.0.0.1:{tls} --cacert $SANDGATE_CA"
    api = "$TENSORLAKE_API_URL/sandboxes/my-env"

    def host(label, port=edge):
        return f"{label}.$SANDGATE_DOMAIN:{port}"

    def patch(exposed):
        return f"""curl -sS {STATUS} -X PATCH {api} {KEY} -H "Content-Type: application/json" -d '{{"exposed_ports": {exposed}}}'"""

    return [
        Command("a port by the sandbox's name, with an API key",
                f"{curl} http://{host('8080-my-env')}/health {KEY}", r"\n200$"),
        Command("the same by its id",
                f"{curl} http://{host(f'8080-{my_env_id}')}/health {KEY}", r"\n200$"),
        Command("with a personal access token, which says for which project",
                f'{curl} http://{host("8080-my-env")}/health -H "Authorization: Bearer $TENSORLAKE_PAT" {PROJECT}',
                r"\n200$"),
        Command("with a browser's session cookie",
                f'{curl} http://{host("8080-my-env")}/health -H "Cookie: tl.session_token=$TENSORLAKE_SESSION_TOKEN" {PROJECT}',
                r"\n200$"),
        Command("no credential: denied, 401",
                f"{curl} http://{host('8080-my-env')}/health", r'"UNAUTHENTICATED"[\s\S]*\n401$'),
        Command("a public port needs none",
                f"{curl} http://{host('8080-my-public-sandbox')}/health", r"\n200$"),
        Command("the management API, on port 9501 of every sandbox",
                f"{curl} http://{host('my-env')}/api/v1/info {KEY}", r"\n200$"),
        Command("the same at the URL that the owners' API shows",
                f"{curl} $(curl -sS {api} {KEY} | grep -o '\"sandbox_url\":\"[^\"]*' | cut -d'\"' -f4)/api/v1/info {KEY}", r"\n200$"),
        Command("a port that is not exposed: denied, 403",
                f"{curl} http://{host('5000-my-env')}/ {KEY}", r'"PORT_NOT_EXPOSED"[\s\S]*\n403$'),
        Command("unexpose port 3000",
                patch("[8080, 50051]"), r"\n200$"),
        Command("it is denied at once",
                f"{curl} http://{host('3000-my-env')}/socket {KEY}", r'"PORT_NOT_EXPOSED"[\s\S]*\n403$'),
        Command("expose it again",
                patch("[3000, 8080, 50051]"), r"\n200$"),
        Command("and use it, as a WebSocket (the client comes with Sandgate)",
                f"{demo} ws --connect 127.0.0.1:{edge} {HEADER} --message hello ws://{host('3000-my-env')}/socket", r"^hello$"),
        Command("gRPC",
                f"{demo} grpc echo --connect 127.0.0.1:{edge} {HEADER} --message hello http://{host('50051-my-env')}", r'"message": "hello"'),
        Command("all of it by TLS, and HTTP/2",
                f"{secure} https://{host('8080-my-env', tls)}/health {KEY}", r"\n200 HTTP/2$"),
        Command("or HTTP/1.1",
                f"{secure} --http1.1 https://{host('8080-my-env', tls)}/health {KEY}", r"\n200 HTTP/1.1$"),
        Command("a WebSocket by TLS",
                f"{demo} ws {trusting} {HEADER} --message hello wss://{host('3000-my-env', tls)}/socket", r"^hello$"),
        Command("and over HTTP/2",
                f"{demo} ws --http2 {trusting} {HEADER} --message hello wss://{host('3000-my-env', tls)}/socket", r"^hello$"),
        Command("gRPC by TLS",
                f"{demo} grpc echo {trusting} {HEADER} --message hello https://{host('50051-my-env', tls)}", r'"message": "hello"'),
        Command("suspend the sandbox",
                f"curl -sS {STATUS} -X POST {api}/suspend {KEY}", r"\n20[02]$"),
        Command("a request wakes it up",
                f"{curl} http://{host('8080-my-env')}/health {KEY}", r"\n200$"),
    ]


# curl's exit statuses (curl(1)).
NO_SUCH_HOST, NO_TLS = 6, 35


def printed_for_sidecar(demo):
    """The commands for the sandbox behind a sidecar (sidecar_demo.py). They need root."""
    sandbox = " ".join(demo.inside("sandbox"))
    curl = f"{sandbox} curl -sS --max-time 10 {STATUS}"
    secure = f"{curl} --cacert {shown(demo.authority)}"
    denied = sidecar_demo.PLACES[sidecar_demo.DENIED]

    def set_policy(*names):
        # A change takes effect within a second. The pause lets users paste all commands at once.
        return f"echo '{json.dumps(sidecar_demo.policy(*names))}' > {shown(demo.policy_file)}; sleep 2"

    def banner(place):
        return f"{sandbox} bash -c 'cat < /dev/tcp/{place}/25'"

    return [
        Command("an allowed name, by HTTP",
                f"{curl} http://{sidecar_demo.ALLOWED}/hello", rf"^{sidecar_demo.ALLOWED} answers GET /hello[\s\S]*\n200$"),
        Command("by HTTPS",
                f"{secure} https://{sidecar_demo.ALLOWED}/hello", rf"^{sidecar_demo.ALLOWED} answers GET /hello[\s\S]*\n200$"),
        Command("and by a protocol that says no names (this one is like SMTP)",
                banner(sidecar_demo.ALLOWED), rf"^220 {sidecar_demo.ALLOWED} ready"),
        Command("another name: does not exist for this sandbox",
                f"{curl} http://{sidecar_demo.DENIED}/hello", r"Could not resolve host", NO_SUCH_HOST),
        Command("its address, by HTTP: denied, 403, with the rule",
                f"{curl} http://{denied}/hello", r'"EGRESS_DENIED"[\s\S]*"rule":"default deny"[\s\S]*\n403$'),
        Command("by HTTPS: reset",
                f"{secure} --connect-to {sidecar_demo.DENIED}:443:{denied}:443 https://{sidecar_demo.DENIED}/hello",
                r"[Rr]eset by peer", NO_TLS),
        Command("by that other protocol: reset",
                banner(denied), r"reset by peer", 1),
        Command("the other way: the edge gets in, to any port",
                f"{' '.join(demo.inside('internet'))} curl -sS {STATUS} --interface {sidecar_demo.EDGE} "
                f"http://{sidecar_demo.SANDBOX}:8080/health", r"\n200$"),
        Command("change the policy: the other name instead",
                set_policy(sidecar_demo.DENIED), r"^$"),
        Command("it answers now",
                f"{curl} http://{sidecar_demo.DENIED}/hello", rf"^{sidecar_demo.DENIED} answers[\s\S]*\n200$", patience=30),
        Command("and the first one is denied",
                f"{curl} http://{sidecar_demo.ALLOWED}/hello", r"Could not resolve host", NO_SUCH_HOST, patience=30),
        Command("change it back",
                set_policy(sidecar_demo.ALLOWED), r"^$"),
        Command("the first one answers again",
                f"{curl} http://{sidecar_demo.ALLOWED}/hello", rf"^{sidecar_demo.ALLOWED} answers[\s\S]*\n200$", patience=30),
    ]


def shown(path):
    """A path relative to the root of the tree, quoted for the shell."""
    return shlex.quote(os.path.relpath(path, ROOT))
