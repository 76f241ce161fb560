#!/usr/bin/env python3
"""Tries a network policy from inside of a sandbox, with the Python SDK.

Start `make run` as root, `source .sandgate/env` in another terminal, and run `scripts/python docs/examples/try_a_policy.py` there, or
this program after `pip install tensorlake`. It creates a sandbox that reaches one name only, looks at it from inside and from outside,
and deletes it at the end.
"""

import json
import os
import time
import urllib.error
import urllib.request

from tensorlake.sandbox import NetworkConfig, Sandbox

API, EDGE, KEY = (os.environ[f"TENSORLAKE_{name}"] for name in ("API_URL", "SANDBOX_PROXY_URL", "API_KEY"))
# The internet of the sandboxes of `make run` has these two names.
ONE, OTHER = "packages.test", "elsewhere.test"


def get(url, **headers):
    """The status and the body of a response. urllib knows the proxy of the environment, which can't reach this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def outside(sandbox, **headers):
    """Requests port 8080 of the sandbox. The host name is in the header, because not every resolver knows `*.localhost`."""
    status, _ = get(f"{EDGE}/health", Host=f"8080-{sandbox.sandbox_id}.sandbox.localhost", **headers)
    return status


def inside(sandbox, name):
    """Runs curl in the sandbox."""
    ran = sandbox.run("curl", ["-sS", "--max-time", "10", f"http://{name}/hello"])
    print(f"  curl http://{name}/hello: {(ran.stdout or ran.stderr).strip()}")
    return ran.exit_code == 0


def events(sandbox):
    """The events of the sandbox, newest first. The SDK has no call for them."""
    status, body = get(f"{API}/sandboxes/{sandbox.sandbox_id}/events", Authorization=f"Bearer {KEY}")
    if status != 200:
        raise SystemExit(f"the events were answered by {status}: {body}")
    return json.loads(body)["events"]


def wait_until(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within a minute: {what}")
        time.sleep(0.5)


def show_events(sandbox, kind, **denied):
    """Prints the events, after a denial. The sidecar or the edge reports it after some seconds."""
    def is_there():
        denials = [event for event in events(sandbox) if event["type"] == kind]
        return any(denied.items() <= event.items() for event in denials)

    wait_until(f"{kind} {denied} is an event", is_there)
    print("  its events, newest first (an allowed request is none):")
    for event in events(sandbox):
        details = ""
        if event["type"] == "outbound_denied":
            # What a connection or request calls its destination (`name`) is chosen by the sandbox.
            shown = f" (as {event['name']})" if "name" in event else ""
            details = f"{event['destination']}{shown} by the rule `{event['rule']}`"
        elif event["type"] == "inbound_denied":
            details = f"port {event['port']} by the rule `{event['rule']}`"
        elif event["type"] == "network_policy_changed":
            names = event["difference"]["allow_out"]
            details = f"allow_out: {names['added']} instead of {names['removed']}"
        print(f"    {event['type']} {details}".rstrip())


def look_around(sandbox):
    print(f"\nThe sandbox has no internet access, and {ONE} is allowed:")
    wait_until(f"{ONE} is reached", lambda: inside(sandbox, ONE))
    wait_until(f"{OTHER} is denied", lambda: not inside(sandbox, OTHER))
    show_events(sandbox, "outbound_denied", destination=OTHER)

    print(f"\nThe policy changes: {OTHER} is allowed instead:")
    sandbox.update(network=NetworkConfig(allow_internet_access=False, allow_out=[OTHER], deny_out=[]))
    wait_until(f"{OTHER} is reached", lambda: inside(sandbox, OTHER))
    wait_until(f"{ONE} is denied", lambda: not inside(sandbox, ONE))
    show_events(sandbox, "outbound_denied", destination=ONE)

    print("\nPort 8080 is exposed, and needs a credential:")
    sandbox.update(exposed_ports=[8080], allow_unauthenticated_access=False)
    print(f"  without: {outside(sandbox)}, with the API key: {outside(sandbox, Authorization=f'Bearer {KEY}')}")
    show_events(sandbox, "inbound_denied", port=8080)

    print("\nThe sandbox is suspended, and a request resumes it:")
    sandbox.suspend()
    print(f"  status: {sandbox.status.value}")
    print(f"  with the API key: {outside(sandbox, Authorization=f'Bearer {KEY}')}")
    print(f"  status: {sandbox.status.value}")
    inside(sandbox, OTHER)


def main():
    name = f"try-{int(time.time())}"
    sandbox = Sandbox.create(name=name, allow_internet_access=False, allow_out=[ONE])
    try:
        print(f"created {name}")
        look_around(sandbox)
    finally:
        sandbox.terminate()
    print(f"\ndeleted {name}")


if __name__ == "__main__":
    main()
