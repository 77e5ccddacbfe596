"""Connecting with an overall time limit, which includes the name lookup."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue

Connect = Callable[[], socket.socket]


class BoundedConnecting:
    """Opener of connections on a thread, which is abandoned once the time limit is over.

    `socket.getaddrinfo` has no timeout, and each address of a name may take the whole socket timeout. A later attempt
    to the same address waits for the abandoned thread again: a hanging name server holds one thread, however often the
    connection is retried.
    """

    def __init__(self) -> None:
        self._attempt: _Attempt | None = None

    def open(self, address: Hashable, connect: Connect, seconds: float) -> socket.socket:
        """Socket of `connect()`, to `address`. Raises `TimeoutError` after `seconds`; errors of `connect` propagate."""
        attempt = self._attempt
        if attempt is None or attempt.address != address or not attempt.resume():
            attempt = self._attempt = _Attempt(address, connect)
            try:
                threading.Thread(target=attempt.run, name="sidestream-otlp-connect", daemon=True).start()
            except RuntimeError:  # interpreter shutdown, or the thread limit is reached
                self._attempt = None
                return connect()
        connection = attempt.result(min(seconds, threading.TIMEOUT_MAX))
        self._attempt = None
        return connection


class _Attempt:
    """Call of `connect` on a thread. A socket that opens after the waiter gave up is closed."""

    def __init__(self, address: Hashable, connect: Connect) -> None:
        self.address = address
        self._connect = connect
        self._lock = threading.Lock()
        self._finished = False
        self._awaited = True
        self._results: SimpleQueue[socket.socket | BaseException] = SimpleQueue()

    def run(self) -> None:
        found: socket.socket | BaseException
        try:
            found = self._connect()
        except BaseException as error:
            found = error
        with self._lock:
            self._finished = True
            if self._awaited:
                self._results.put(found)
            elif isinstance(found, socket.socket):
                found.close()

    def resume(self) -> bool:
        """Mark the attempt as awaited again; False if it has finished."""
        with self._lock:
            self._awaited = not self._finished
            return self._awaited

    def result(self, seconds: float) -> socket.socket:
        try:
            found = self._results.get(timeout=seconds)
        except Empty:
            with self._lock:
                if not self._finished:
                    self._awaited = False
                    raise TimeoutError(errno.ETIMEDOUT, "timed out") from None
            found = self._results.get()
        if isinstance(found, BaseException):
            raise found
        return found
