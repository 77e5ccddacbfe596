"""Loopback server that sends fixed bytes, regardless of the request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raw_server(*pieces: bytes, forever: bytes = b"") -> Iterator[tuple[int, list[bytes]]]:
    """Server that sends `pieces`, then `forever` repeatedly; yields its port and the received data."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                asked.append(connection.recv(65_536))
                for piece in pieces:
                    connection.sendall(piece)
                while forever and not over.wait(0.02):
                    connection.sendall(forever)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
