"""File locks that show whether a writer is alive. The operating system releases them when a process ends.

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

    # Windows locks are mandatory. Lock a byte far beyond any data, or readers would be shut out of the file.
    _FAR = 1 << 62

    def try_lock(fd: int) -> bool:
        """Lock the file of `fd`; False if another process holds the lock. Raises `OSError` if locks are unsupported."""
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def lock(fd: int) -> None:
        """Lock the file of `fd`, waiting for other processes. Raises `OSError` if locks are not supported."""
        while not try_lock(fd):
            time.sleep(0.01)

    def unlock(fd: int) -> None:
        """Unlock the file of `fd`. Raises `OSError`."""
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
        """Lock the file of `fd`; False if another process holds the lock. Raises `OSError` if locks are unsupported."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(fd: int) -> None:
        """Lock the file of `fd`, waiting for other processes. Raises `OSError` if locks are not supported."""
        fcntl.flock(fd, fcntl.LOCK_EX)

    def unlock(fd: int) -> None:
        """Unlock the file of `fd`. Raises `OSError`."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    def _is_locked(fd: int) -> bool:
        try:
            # A shared lock, so that two readers do not take each other for a writer; released by closing.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_locked(file: str | os.PathLike[str]) -> bool | None:
    """Whether a writer holds the lock of `file`; None if the system cannot tell.

    A writer with a file of its own holds the lock for its whole life; a writer of a shared file only while it appends.
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
