"""A TCP service in a sandbox, and functions that send and receive at both ends of a connection."""

import socket
import threading

CHUNK = 64 << 10


class Echo:
    """Echoes the first connection to an address of the sandbox until the client closes it."""

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
        """All bytes of the first connection. Waits until it has ended."""
        if not self._ended.wait(20):
            raise AssertionError(f"the service did not see the connection end; it got {len(self._received)} bytes")
        return bytes(self._received)


def exchange(connection, data):
    """Sends data, and receives as much at the same time."""
    received = bytearray()
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    while len(received) < len(data) and (chunk := connection.recv(CHUNK)):
        received += chunk
    sender.join()
    return bytes(received)


def read_to_end(connection):
    """Reads until the end of the connection, or until it breaks."""
    received = bytearray()
    try:
        while chunk := connection.recv(CHUNK):
            received += chunk
    except ConnectionError:
        pass
    return bytes(received)
