"""Opening of regular files only, in places where others may have put a link, a pipe or a file of their own."""

from __future__ import annotations

import errno
import os
import stat

_SAFELY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def open_regular(
    path: str | os.PathLike[str], flags: int, *, follow_links: bool = False, own: bool = False, mode: int = 0o600
) -> int:
    """Open the regular file at `path` with `flags` (`os.O_RDONLY`, …); returns a descriptor. Never blocks on a pipe.

    Args:
        path: the file.
        flags: as for `os.open`. With `O_CREAT`, a new file gets `mode`.
        follow_links: whether `path` may be a symbolic link. Leave False for writing.
        own: whether the file must belong to the user of this process.
        mode: permissions of a newly created file.

    Raises `OSError`: `ELOOP` for a link, `EPERM` for a file of another user, `EINVAL` for a pipe, device or folder, and
    any error of `os.open`.
    """
    if not follow_links and not _NO_LINKS and os.path.islink(path):
        raise OSError(errno.ELOOP, "is a link, which is not followed", os.fspath(path))
    try:
        fd = os.open(path, flags | _SAFELY | (0 if follow_links else _NO_LINKS), mode)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise OSError(errno.ELOOP, "is a link, which is not followed", os.fspath(path)) from None
        if error.errno == errno.ENXIO:  # a pipe without a reader
            raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path)) from None
        raise
    try:
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
        # A file created by this call (O_EXCL) is exempt: some network file systems report another owner for it.
        if own and hasattr(os, "geteuid") and there.st_uid != os.geteuid() and not flags & os.O_EXCL:
            raise OSError(errno.EPERM, "belongs to another user", os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_plain_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a regular file itself: no link, pipe, device or folder."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
