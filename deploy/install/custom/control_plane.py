#!/usr/bin/env python3
"""The gateway API on a platform of your own, as small as it can be, in Python 3.9: an example to start from.

usage: control_plane.py STATE TOKENS GATEWAY_PORT PLATFORM_PORT      STATE: like state.json; TOKENS: a gateway token on each line

Put your platform in the place of `Platform`. `Feed` has the rules that every implementation has to keep: see docs/install.md.
"""

import collections
import hashlib
import hmac
import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MAX_BODY, MAX_WAIT, LOG, ACKNOWLEDGE_WITHIN, FORGOTTEN_AFTER = 65536, 60.0, 10_000, 0.5, 5.0


class Refusal(Exception):
    """An error response: status, code, message."""


class Feed:
    """The changes in their order, and what each watcher has applied. The whole state of the server is used under `turn`."""

    def __init__(self):
        # A revision of an earlier start is unknown here, so that its watcher gets a reset.
        self.epoch, self.newest, self.log = uuid.uuid4().hex, 0, collections.deque(maxlen=LOG)
        self.turn, self.watchers = threading.Condition(), {}

    def publish(self, change):
        """Call it in the same `turn` as the change itself: who sees the revision must see the change."""
        self.newest = revision = self.newest + 1
        self.log.append(change)
        self.turn.notify_all()
        # The owner is answered when every watcher has applied the change. A watcher that is gone costs 500 ms.
        is_live = lambda it: it["polls"] or time.monotonic() - it["seen"] < FORGOTTEN_AFTER
        is_applied = lambda: all(it["applied"] >= revision for it in self.watchers.values() if is_live(it))
        self.turn.wait_for(is_applied, ACKNOWLEDGE_WITHIN)
        self.watchers = {name: it for name, it in self.watchers.items() if is_live(it)}

    def poll(self, since, wait, name):
        epoch, _, number = since.partition(".")
        known = int(number) if epoch == self.epoch and number.isdecimal() and int(number) <= self.newest else None
        watcher = self.watchers.setdefault(name, {"polls": 0}) if name else {"polls": 0}
        # `since` confirms that the watcher has applied everything up to it.
        watcher.update(applied=known or 0, polls=watcher["polls"] + 1)
        self.turn.notify_all()
        if known is not None:
            self.turn.wait_for(lambda: self.newest > known, wait)
        watcher.update(polls=watcher["polls"] - 1, seen=time.monotonic())
        reset = known is None or self.newest - known > len(self.log)  # a gap: the watcher must forget everything
        changes = [] if reset or known == self.newest else list(self.log)[known - self.newest:]
        return {"revision": f"{self.epoch}.{self.newest}", "reset": reset, "changes": changes}


class Platform:
    """Sandboxes and credentials in memory. Yours are in a database."""

    def __init__(self, state, feed):
        self.feed, self.credentials = feed, state["credentials"]
        self.sandboxes = [{"generation": 1, **one} for one in state["sandboxes"]]
        self.policies = {one["id"]: (1, {"allow_internet_access": True, "allow_out": [], "deny_out": []}) for one in self.sandboxes}

    def find(self, which):
        found = [one for one in self.sandboxes if which in (one["id"], one.get("name")) and one["state"] != "terminated"]
        if not found:
            raise Refusal(404, "SANDBOX_NOT_FOUND", "there is no such sandbox")
        return found[0]

    def change(self, one, fields):
        before, (number, policy) = dict(one), self.policies[one["id"]]
        self.policies[one["id"]] = (number + ("network_policy" in fields), fields.pop("network_policy", policy))
        one.update(fields)
        one["exposed_ports"] = sorted(set(one.get("exposed_ports", [])) - {9501})
        # Another address, or the same one after a pause, is another generation: connections are never shared between two.
        moved = before["state"] != "running" or before.get("address") != one.get("address")
        one["generation"] += one["state"] == "running" and moved
        self.feed.publish({"kind": "sandbox", "refs": sorted({one["id"], one.get("name"), before.get("name")} - {None})})
        return one

    def revoke(self, principal):
        self.credentials = [one for one in self.credentials if one["principal"] != principal]
        self.feed.publish({"kind": "principal", "id": principal})

    def identify(self, ask):
        kind, secret, context = ask.get("kind"), ask.get("secret"), (ask.get("organization_id"), ask.get("project_id"))
        is_user = kind in ("personal_access_token", "session")
        if not isinstance(secret, str) or not (kind == "api_key" or is_user and all(context)):
            raise Refusal(400, "INVALID_REQUEST", "`kind` and `secret` are required, and for users the organization and project")
        for one in self.credentials:
            is_it = hmac.compare_digest(one["sha256"], hashlib.sha256(secret.encode()).hexdigest()) and one["kind"] == kind
            if is_it and time.time() < one.get("expires_at", 2**53):
                projects = [it for it in one["project_ids"] if not is_user or context == (one["organization_id"], it)]
                return {"identity": {**{key: one[key] for key in one if key not in ("kind", "sha256")}, "project_ids": projects}}
        return {}

    def resume(self, one):
        if one["state"] == "suspended" and not (one.get("name") and one.get("auto_resume", True)):
            raise Refusal(409, "SANDBOX_NOT_RUNNING", "this sandbox can't be resumed by a request")
        # Here your platform starts the sandbox: once for all calls, outside of `turn`, for at most `wait_ms`.
        return self.change(one, {"state": "running"}) if one["state"] == "suspended" else one


class GatewayApi(BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", MAX_WAIT + 15

    def answer(self):
        try:
            size, url, given = self.headers.get("Content-Length", "0"), urlsplit(self.path), self.headers.get_all("Authorization", [])
            if not size.isdecimal() or int(size) > MAX_BODY or "Transfer-Encoding" in self.headers:
                self.close_connection = True
                raise Refusal(413, "TOO_LARGE", f"send a Content-Length of at most {MAX_BODY} bytes")
            body, query = self.rfile.read(int(size)), {key: values[-1] for key, values in parse_qs(url.query).items()}
            if len(given) != 1 or not any(hmac.compare_digest(given[0].encode(), b"Bearer " + it) for it in self.server.tokens):
                raise Refusal(401, "UNAUTHENTICATED", "send `Authorization: Bearer <gateway token>`")
            try:
                ask, wait = dict(json.loads(body or b"{}")), min(max(int(query.get("wait_ms", 0)) / 1000, 0), MAX_WAIT)
            except (ValueError, TypeError):
                raise Refusal(400, "INVALID_REQUEST", "the body must be a JSON object, and `wait_ms` a number") from None
            with self.server.feed.turn:
                status, content = 200, json.dumps(self.route((self.command, *url.path.strip("/").split("/")), query, ask, wait)).encode()
        except Refusal as refusal:
            status, content = refusal.args[0], json.dumps({"code": refusal.args[1], "error": refusal.args[2]}).encode()
        self.send_response(status)
        # On every response: the filter takes a response without it for one of a proxy.
        self.send_header("x-sandgate-control-plane", "v1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = answer
    log_message = lambda *_: None

    def route(self, call, query, ask, wait):
        feed, platform = self.server.feed, self.server.platform
        if call == ("GET", "gateway", "v1", "changes"):
            return feed.poll(query.get("since", ""), wait, query.get("watcher"))
        if call == ("POST", "gateway", "v1", "credentials", "introspect"):
            return platform.identify(ask)
        one = platform.find(call[4]) if call[1:4] == ("gateway", "v1", "sandboxes") and len(call) > 4 else None
        if one and (call[0], *call[5:]) == ("GET",):
            return one
        if one and (call[0], *call[5:]) == ("POST", "resume"):
            return platform.resume(one)
        if one and (call[0], *call[5:]) == ("GET", "network-policy"):
            revision = lambda: f"{feed.epoch}.{platform.policies[one['id']][0]}"
            feed.turn.wait_for(lambda: query.get("since") != revision() or one["state"] == "terminated", wait)
            return {"sandbox_id": platform.find(one["id"])["id"], "revision": revision(), "network_policy": platform.policies[one["id"]][1]}
        raise Refusal(404, "NOT_FOUND", "there is no such call")


class PlatformApi(GatewayApi):
    """How the owners of this example change something, with a gateway token. Yours is another API, with credentials of owners."""

    def route(self, call, query, ask, wait):
        if call[:2] == ("DELETE", "principals"):
            return self.server.platform.revoke(call[-1])
        if call[:2] == ("PATCH", "sandboxes"):
            return self.server.platform.change(self.server.platform.find(call[-1]), ask)
        raise Refusal(404, "NOT_FOUND", "there is no such call")


if __name__ == "__main__":
    with open(sys.argv[1]) as state, open(sys.argv[2], "rb") as lines:
        feed, tokens = Feed(), [line for line in map(bytes.strip, lines) if line and not line.startswith(b"#")]
        shared = {"feed": feed, "tokens": tokens, "platform": Platform(json.load(state), feed)}
    if not tokens or min(map(len, tokens)) < 16:
        sys.exit("TOKENS must have a token, and each at least 16 characters; make one with `openssl rand -hex 32`")
    for port, handler in zip(sys.argv[3:], (GatewayApi, PlatformApi)):
        server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
        vars(server).update(shared)
        threading.Thread(target=server.serve_forever).start()
        print(f"ready: {handler.__name__} http://127.0.0.1:{server.server_address[1]}", flush=True)
