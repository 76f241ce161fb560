"""WebSockets from pages in a browser, which always sends its cookies and the `Origin`."""

import http.server
import json
import random
import threading
import unittest

import world
from browser import Browser

# Opens a WebSocket, sends messages to the echo, and returns the result.
SOCKET = """new Promise(done => {
  const socket = new WebSocket(%s), received = [];
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { socket.send("hello"); socket.send(new Uint8Array(1 << 20).fill(7)); socket.send("headers?"); };
  socket.onmessage = ({ data }) => {
    received.push(typeof data === "string" ? data : new Uint8Array(data).filter(byte => byte === 7).length);
    if (received.length === 3) { socket.onclose = null; socket.close(); done({ opened: true, received }); }
  };
  socket.onclose = ({ code }) => done({ opened: false, code });
})"""


class Site:
    """A web server outside of the sandboxes: an empty page, which can set a cookie."""

    def __init__(self, port=0, tls=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                for cookie in site.cookies:
                    self.send_header("Set-Cookie", cookie)
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>elsewhere</title>")

            def log_message(self, *_):
                pass

        site = self
        self.cookies = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class BrowserTest(unittest.TestCase):
    """Chromium"""

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        if not cls.here.browser:
            return
        cls.browser = Browser(cls.here.browser, cls.here.folder, cls.here.certificate_hash())
        cls.addClassCleanup(cls.browser.close)
        cls.name = f"browser-{random.randrange(10**9)}"
        cls.here.sandbox(cls.name, exposed_ports=[3000])
        cls.dashboard = Site(cls.here.ports["dashboard"], cls.here.server_tls())
        cls.addClassCleanup(cls.dashboard.close)

    def setUp(self):
        if not self.here.browser:
            self.skipTest("there is no Chromium or Chrome that starts")
        self.page = self.browser.page()
        self.login("Path=/; HttpOnly; SameSite=Lax")

    def login(self, attributes):
        """Opens the page of the platform, on which the user is logged in."""
        cookies = (f"tl.session_token={self.here.session}", "own=1")
        self.dashboard.cookies = [f"{cookie}; Domain={self.here.domain}; {attributes}" for cookie in cookies]
        self.page.visit(self.here.dashboard + "/")

    def url(self, query=None):
        if query is None:
            query = f"?organizationId={self.here.organization}&projectId={self.here.project}&own=1"
        return f"ws{self.here.s}://{self.here.host(f'3000-{self.name}')}/socket{query}"

    def open(self, *arguments):
        """The result of a WebSocket that a script in the page opens."""
        return self.page.run(SOCKET % json.dumps(self.url(*arguments)))

    def assert_echoes(self, answer):
        self.assertTrue(answer["opened"], answer)
        hello, sevens, seen = answer["received"]
        self.assertEqual((hello, sevens), ("hello", 1 << 20))
        # The query and the cookie of the app arrive in the sandbox, and the session does not.
        seen = json.loads(seen)
        self.assertIn("own=1", seen["target"])
        self.assertIn(["cookie", "own=1"], seen["headers"])
        self.assertNotIn(self.here.session, json.dumps(seen))

    def assert_refused(self, status, *arguments):
        answer = self.open(*arguments)
        self.assertEqual(answer, {"opened": False, "code": 1006})
        said = self.page.refusal()
        self.assertIn("HTTP Authentication failed" if status == 401 else f"Unexpected response code: {status}", said)

    def test_a_page_of_a_trusted_origin_opens_a_socket_with_its_cookie_and_the_query_form(self):
        self.assert_echoes(self.open())

    def test_the_sandboxs_own_page_opens_a_socket_with_its_cookie_and_the_query_form(self):
        # The query form works for WebSockets only, so the page itself needs the headers.
        self.page.visit(f"http{self.here.s}://{self.here.host(f'3000-{self.name}')}/page", X_Forwarded_Organization_Id=self.here.organization,
                        X_Forwarded_Project_Id=self.here.project)
        with self.here.carried() as requests:
            self.assert_echoes(self.open())
        # By TLS the page came over HTTP/2, and the browser opens the socket in the same connection (RFC 8441).
        protocols = [request["protocol"] for request in requests if request["path"] == "/socket"]
        self.assertEqual(protocols, ["HTTP/2" if self.here.s else "HTTP/1.1"])

    def test_without_the_query_form_the_socket_is_refused(self):
        self.assert_refused(400, "")

    def test_another_sandboxs_page_can_not_open_a_socket_though_the_browser_sends_the_cookie(self):
        # The browser regards it as the same site, so only the check of the origin can refuse it.
        attacker = f"{self.name}-b"
        self.here.sandbox(attacker, exposed_ports=[8080], allow_unauthenticated_access=True)
        self.page.visit(f"http{self.here.s}://{self.here.host(f'8080-{attacker}')}/")
        # 401 would mean that the browser sent no cookie.
        self.assert_refused(403)

    def elsewhere(self):
        """Opens a page of another site."""
        site = Site()
        self.addCleanup(site.close)
        self.page.visit(f"http://elsewhere.example:{site.port}/")

    def test_a_page_of_another_site_can_not_open_a_socket(self):
        self.elsewhere()
        # The browser does not send a lax cookie.
        self.assert_refused(401)

    def test_a_page_of_another_site_can_not_open_a_socket_though_the_browser_sends_the_cookie(self):
        self.login("Path=/; HttpOnly; SameSite=None; Secure")
        self.assert_echoes(self.open())
        self.elsewhere()
        self.assert_refused(403)

    # Without TLS, browsers accept secure cookies from localhost only.
    test_a_page_of_another_site_can_not_open_a_socket_though_the_browser_sends_the_cookie.modes = ("local", "tls")
