"""A TCP service in a sandbox, and the two ends' ways of sending and receiving."""

import socket
import threading

CHUNK = 64 << 10


class Echo:
    """Returns what it receives on an address of the sandbox, until the other side's end."""

    def __init__(self, address):
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self._received = bytearray()
        self._ended = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _serve(self):
        connection, _ = self.listener.accept()
        with connection:
            try:
                while chunk := connection.recv(CHUNK):
                    self._received += chunk
                    connection.sendall(chunk)
            except ConnectionError:
                pass
        self._ended.set()

    def received(self):
        """All that the first connection brought, once it has ended."""
        if not self._ended.wait(20):
            raise AssertionError(f"the service did not see the connection end; it got {len(self._received)} bytes")
        return bytes(self._received)


def exchange(connection, data):
    """Sends all of it, while as much is received."""
    received = bytearray()
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    while len(received) < len(data) and (chunk := connection.recv(CHUNK)):
        received += chunk
    sender.join()
    return bytes(received)


def read_to_end(connection):
    """All that comes; a connection that breaks has ended, too."""
    received = bytearray()
    try:
        while chunk := connection.recv(CHUNK):
            received += chunk
    except ConnectionError:
        pass
    return bytes(received)
