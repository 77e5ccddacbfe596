"""File locks by which processes see that a writer lives. The system lets go of them when a process ends, however.

writer with a file of its own    open, lock ........................ close
writers that share a file        open, (lock, append, unlock) ...... close
reader                           is_locked: is a writer there?
"""

from __future__ import annotations

import os
import sys
import time

from .opening import open_regular

if sys.platform == "win32":
    import msvcrt

    # Locks are mandatory on Windows: lock a byte so far out that nobody reads it, or readers would be kept out.
    _FAR = 1 << 62

    def try_lock(fd: int) -> bool:
        """Lock the file of `fd`; False where another process has it. Raises `OSError` without locks."""
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def lock(fd: int) -> None:
        """Lock the file of `fd`, and wait for as long as another process has it. Raises `OSError` without locks."""
        while not try_lock(fd):
            time.sleep(0.01)

    def unlock(fd: int) -> None:
        """Let others lock the file of `fd`. Raises `OSError`."""
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def _is_locked(fd: int) -> bool:
        if not try_lock(fd):
            return True
        unlock(fd)
        return False

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file of `fd`; False where another process has it. Raises `OSError` without locks."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(fd: int) -> None:
        """Lock the file of `fd`, and wait for as long as another process has it. Raises `OSError` without locks."""
        fcntl.flock(fd, fcntl.LOCK_EX)

    def unlock(fd: int) -> None:
        """Let others lock the file of `fd`. Raises `OSError`."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    def _is_locked(fd: int) -> bool:
        try:
            # Shared, so that two readers do not take each other for a writer. Closing lets go of it.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_locked(file: str | os.PathLike[str]) -> bool | None:
    """Whether a writer holds the lock of `file`; None where the system cannot tell.

    A writer with a file of its own holds its lock for as long as it lives; one that shares a file, while it appends.
    """
    try:
        fd = open_regular(file, os.O_RDONLY, follow_links=True)
    except OSError:
        return None
    try:
        return _is_locked(fd)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(fd)
