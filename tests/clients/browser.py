"""A headless Chromium, controlled by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

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
    # All names resolve to this machine.
    "--host-resolver-rules=MAP * 127.0.0.1",
    # Chromium chooses the port and writes it to a file.
    "--remote-debugging-port=0",
]
# Debian's Chromium blocks third-party cookies by default, other browsers don't. The tests show what the gateway does with
# such cookies.
PREFERENCES = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
SECONDS = 20


def program():
    """The path of a browser that starts, or None."""
    for name in PROGRAMS:
        path = shutil.which(name)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if path and subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
                return path
    return None


class Browser:
    """A Chromium with a separate profile."""

    def __init__(self, path, folder, certificate_hash=None):
        profile = folder / "chromium"
        (profile / "Default").mkdir(parents=True)
        (profile / "Default" / "Preferences").write_text(json.dumps(PREFERENCES))
        # It trusts only the certificate with this key.
        trust = [f"--ignore-certificate-errors-spki-list={certificate_hash}"] if certificate_hash else []
        # Mostly warnings about a missing desktop, so the name does not end in `.log`.
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
        # With all processes that it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def command(self, method, session=None, **parameters):
        """The result of a command. Events that arrive before it are kept."""
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
        # A separate browser context would be a private window, which blocks third-party cookies.
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
        """Loads a URL, as the address bar does. `_` in a header's name becomes `-`. The headers are sent with this page only."""
        self.command("Network.setExtraHTTPHeaders",
                     headers={name.replace("_", "-"): value for name, value in headers.items()})
        went = self.command("Page.navigate", url=url)
        if "errorText" in went:
            raise AssertionError(f"{url}: {went['errorText']}")
        self.browser.event(self.session, "Page.loadEventFired")
        self.command("Network.setExtraHTTPHeaders", headers={})

    def run(self, script):
        """The value of an expression in the page, or of the promise that it returns."""
        done = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise AssertionError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def refusal(self):
        """The browser's message why the last WebSocket was not opened."""
        return self.browser.event(self.session, "Network.webSocketFrameError")["errorMessage"]
