"""
The folder of this server, below which sessions have folders of their own.

Whose server is alive holds a lock in it.  What a server that was killed has left
behind is known by that, and removed by the next one: it may hold logins.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from kiroworkers.errors import CannotStart

_PREFIX = "kiroworkers-"
_LOCK = "kiroworkers.lock"

#: The folder in it that the next server wants as it is.
JOBS = "jobs"


class StateFolder:
    """
    The folder `given`, or without one a temporary one, both for the user's eyes
    only.  Blocks while it is opened, so that is for before the reactor runs.

    @ivar path: without symbolic links in it.
    @ivar temporary: does it go with the server?
    @raise CannotStart: when the folder cannot be had.
    """

    def __init__(self, given: Path | None) -> None:
        self.temporary = given is None
        try:
            if given is None:
                _sweep()
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
                # Nobody may find it without a lock that is held.
                lock = _lock(self.path / "new")
                os.rename(self.path / "new", self.path / _LOCK)
            else:
                given.mkdir(mode=0o700, exist_ok=True)
                self.path = given.resolve()
                if not (self.path / _LOCK).exists() and any(self.path.iterdir()):
                    raise CannotStart(
                        f"kiroworkers: --state-dir {given}: is not empty, nor of a server before"
                    )
                lock = _lock(self.path / _LOCK)
        except OSError as problem:
            raise CannotStart(f"kiroworkers: --state-dir: {problem}") from None
        if lock is None:
            raise CannotStart(f"kiroworkers: --state-dir {given}: another server uses it")
        self._lock = lock

    def empty(self) -> None:
        """
        Remove what an earlier server left, but for its jobs.
        """
        for each in self.path.iterdir():
            if each.name not in (_LOCK, JOBS):
                rmtree(each, ignore_errors=True)

    def release(self) -> None:
        """
        Nobody is in it any more.
        """
        os.close(self._lock)


@contextmanager
def deserted(path: Path) -> Iterator[bool]:
    """
    Is `path` the folder of a server that is gone?  It stays so in this context.
    """
    if not path.exists():
        # A temporary one, from before the machine was started.
        yield path.name.startswith(_PREFIX)
        return
    lock = None
    with suppress(OSError):
        lock = _lock(path / _LOCK, create=False)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _sweep() -> None:
    """
    Remove the temporary folders that servers of this user left.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            with deserted(path) as is_deserted:
                if is_deserted:
                    rmtree(path, ignore_errors=True)


def _lock(file: Path, create: bool = True) -> int | None:
    """
    A descriptor that holds the lock; None when another holds it.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    descriptor = os.open(file, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
