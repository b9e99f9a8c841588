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

#: Where sessions run, where their agents keep what is their own, and what is being
#: removed.
FOLDERS = ("work", "state", "gone")

#: The folder in it that the next server wants as it is.
JOBS = "jobs"


class StateFolder:
    """
    The folder `given`, or without one a temporary one, both for the user's eyes
    only.  Blocks while it is opened, so that is for before the reactor runs.

    Attributes:
        path: without symbolic links in it.
        temporary: does it go with the server?

    Raises:
        CannotStart: when the folder cannot be had.
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
        Remove what an earlier server left, and make the folders anew.

        Raises:
            CannotStart: when that cannot be done.
        """
        for name in FOLDERS:
            remove_tree(self.path / name)
            try:
                (self.path / name).mkdir(mode=0o700)
            except OSError as problem:
                raise CannotStart(f"kiroworkers: --state-dir: {problem}") from None

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
    # One that is not there may be another's temporary one, which only it can see.
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
                # Not one that somebody gave this name, and keeps.
                if is_deserted and {each.name for each in path.iterdir()} <= {_LOCK, *FOLDERS}:
                    remove_tree(path)


def remove_tree(path: Path) -> None:
    """
    Remove the folder `path` with all that is in it, as far as that can be done;
    also where an agent has let nobody write.
    """
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, 0o700)
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
