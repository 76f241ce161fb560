"""Chromium without a window, spoken to by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ has its words.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-proxy-server",
    # No name leads out of this machine, and every one leads to this machine.
    "--host-resolver-rules=MAP * 127.0.0.1",
    # The one on 127.0.0.1 that is ours: it tells which port it took.
    "--remote-debugging-port=0",
]
# Debian's keeps third parties' cookies back by itself, other browsers do not: what the gate does then is to be seen.
PREFERENCES = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
SECONDS = 20


def program():
    """The browser's path, or None where there is none that starts."""
    for name in PROGRAMS:
        path = shutil.which(name)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if path and subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
                return path
    return None


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, path, folder, certificate_hash=None):
        profile = folder / "chromium"
        (profile / "Default").mkdir(parents=True)
        (profile / "Default" / "Preferences").write_text(json.dumps(PREFERENCES))
        # That one certificate of ours is trusted by its key; every other stays an error.
        trust = [f"--ignore-certificate-errors-spki-list={certificate_hash}"] if certificate_hash else []
        # Mostly complaints about what a machine without a desktop lacks: not among the logs.
        self.log = folder / "chromium.txt"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [path, *FLAGS, *trust, f"--user-data-dir={profile}", "about:blank"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"})
        try:
            port, path = self._address(profile / "DevToolsActivePort")
            self.socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, open_timeout=SECONDS)
        except BaseException:
            self.kill()
            raise
        self.numbers = itertools.count(1)
        self.events = []

    def _address(self, file):
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, ValueError):
                port, path = file.read_text().split()
                return port, path
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Chromium did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def close(self):
        with contextlib.suppress(Exception):
            self.command("Browser.close")
            self.process.wait(10)
        self.socket.close()
        self.kill()

    def kill(self):
        # All that it started, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def command(self, method, session=None, **parameters):
        """The result of a command; what happens meanwhile is kept as events."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.recv(SECONDS))
            if answer.get("id") != number:
                self.events.append(answer)
            elif "error" in answer:
                raise AssertionError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def event(self, session, method):
        """The next event of that kind in a page."""
        while True:
            for event in self.events:
                if (event.get("sessionId"), event.get("method")) == (session, method):
                    self.events.remove(event)
                    return event["params"]
            self.events.append(json.loads(self.socket.recv(SECONDS)))

    def page(self):
        """An empty page in a browser without cookies."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        # Not in a context of its own: that would be a private window, which keeps third parties' cookies back.
        self.command("Storage.clearCookies")
        return Page(self, session)


class Page:
    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        for domain in ("Page", "Network", "Runtime"):
            self.command(f"{domain}.enable")

    def command(self, method, **parameters):
        return self.browser.command(method, self.session, **parameters)

    def visit(self, url, **headers):
        """Goes there by the address bar. `_` in a header's name is `-`; headers are for this visit alone."""
        self.command("Network.setExtraHTTPHeaders",
                     headers={name.replace("_", "-"): value for name, value in headers.items()})
        went = self.command("Page.navigate", url=url)
        if "errorText" in went:
            raise AssertionError(f"{url}: {went['errorText']}")
        self.browser.event(self.session, "Page.loadEventFired")
        self.command("Network.setExtraHTTPHeaders", headers={})

    def run(self, script):
        """The value of an expression in the page; of a promise, what it comes to."""
        done = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise AssertionError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def refusal(self):
        """Why the last WebSocket was not opened, in the browser's words."""
        return self.browser.event(self.session, "Network.webSocketFrameError")["errorMessage"]
