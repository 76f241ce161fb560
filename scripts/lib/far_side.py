#!/usr/bin/env python3
"""Servers that stand in for the internet of the sandbox behind a sidecar: DNS, HTTP, HTTPS, and a server that sends first.

usage: scripts/lib/far_side.py RESOLVER CERTIFICATE KEY NAME=ADDRESS...

Runs in a separate network namespace (namespaces.sh). RESOLVER is the address of the DNS server (UDP). Each ADDRESS
has HTTP on port 80, HTTPS on port 443, and a banner like a mail server's on port 25. Prints `ready`.
"""

import http.server
import ipaddress
import socketserver
import ssl
import struct
import sys
import threading

A, IN = 1, 1
NO_ERROR, NAME_ERROR = 0, 3
HEADER = struct.Struct("!6H")
# The flags for a response with recursion available (RFC 1035, 4.1.1), and the query's flags that are copied: opcode and
# recursion desired.
RESPONSE, KEPT = 0x8080, 0x7900


def answer(query, zone):
    """The response to a query: the address if the zone contains the name, else NXDOMAIN."""
    identifier, flags, *_ = HEADER.unpack_from(query)
    labels, at = [], HEADER.size
    while length := query[at]:
        labels.append(query[at + 1:at + 1 + length].decode("ascii"))
        at += 1 + length
    question = query[HEADER.size:at + 5]
    wanted, found = struct.unpack_from("!H", query, at + 1)[0], zone.get(".".join(labels).lower())
    # The name is a pointer to the question. The TTL is one second.
    record = struct.pack("!HHHIH", 0xC000 | HEADER.size, A, IN, 1, 4) + found.packed if found and wanted == A else b""
    code = NO_ERROR if found else NAME_ERROR
    return HEADER.pack(identifier, RESPONSE | flags & KEPT | code, 1, bool(record), 0, 0) + question + record


class Dns(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        try:
            socket.sendto(answer(data, self.server.zone), self.client_address)
        except (IndexError, struct.error, UnicodeDecodeError):
            pass  # Not a valid query, so no client expects a response.


class Http(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.server.name} answers {self.command} {self.path} for {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Banner(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(f"220 {self.server.name} ready\r\n".encode())


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def handle_error(self, request, client_address):
        """Ignores errors: a client has disconnected."""


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(resolver, certificate, key, *places):
    zone = {name: ipaddress.IPv4Address(address) for name, _, address in (place.partition("=") for place in places)}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    for name, address in zone.items():
        for port, handler in ((25, Banner), (80, Http), (443, Http)):
            server = Tcp((str(address), port), handler)
            server.name = name
            if port == 443:
                # The first read performs the handshake, in the connection's own thread.
                server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            serve(server)
    dns = socketserver.ThreadingUDPServer((resolver, 53), Dns)
    dns.zone = zone
    serve(dns)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
