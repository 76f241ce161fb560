"""JSON over HTTP to loopback addresses. Ignores proxies of the environment."""

import json
import urllib.error
import urllib.request

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(method, url, body=None, timeout=10, **headers):
    """Returns (status, response), or (None, reason) if there is no response. `_` in a header's name becomes `-`."""
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
    if body is not None:
        request.add_header("Content-Type", "application/json")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with _DIRECT.open(request, timeout=timeout) as response:
            return response.status, _parsed(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _parsed(error.read())
    except OSError as error:
        return None, str(getattr(error, "reason", error))


def _parsed(data):
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")
