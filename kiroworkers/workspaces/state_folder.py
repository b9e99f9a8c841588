"""
Own the server's state directory, below which sessions have directories of their own.

The server that uses the directory holds a lock in it.  Whatever a killed server left
behind is recognized by the missing lock, and the next server removes it, because it may
contain logins.
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

#: The subdirectories for sessions: where they run, where their agents keep state, and
#: what is being removed.  Each server starts with empty ones.
SESSION_FOLDERS = ("work", "state", "gone")

#: The subdirectory of the job store, which is kept for the next server.
JOBS = "jobs"

#: The folder of the operator's reports about agents, which may be there before any server.
PROOFS = "proofs"


class StateFolder:
    """
    Hold the state directory and its lock.

    Both kinds of directory, configured and temporary, belong to the user of the server, and
    no other user may write to them.
    The constructor blocks, so call it before the reactor runs.

    Args:
        configured: The operator's directory, created if it does not exist; None for a
            new temporary directory.

    Attributes:
        path: The directory, with symbolic links resolved.
        temporary: Whether to remove the directory when the server stops.

    Raises:
        CannotStart: If the directory cannot be used, is in use by another server, belongs
            to another user, may be written by any user, or has files in it but was not
            created by a server.
    """

    def __init__(self, configured: Path | None) -> None:
        self.temporary = configured is None
        try:
            if configured is None:
                _remove_abandoned()
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
                # Create the lock file under another name: it must never be visible unlocked.
                lock = _lock(self.path / "new")
                os.rename(self.path / "new", self.path / _LOCK)
            else:
                configured.mkdir(mode=0o700, exist_ok=True)
                self.path = configured.resolve()
                _check_owner(configured, self.path.stat())
                if is_foreign(self.path):
                    raise CannotStart(
                        f"kiroworkers: --state-dir {configured}: "
                        "the directory is not empty and was not created by kiroworkers"
                    )
                lock = _lock(self.path / _LOCK)
        except OSError as error:
            raise CannotStart(f"kiroworkers: --state-dir: {error}") from None
        if lock is None:
            raise CannotStart(f"kiroworkers: --state-dir {configured}: another server uses it")
        self._lock = lock

    def clear(self) -> None:
        """
        Remove the session directories of an earlier server and create empty ones.

        Raises:
            CannotStart: If that is not possible.
        """
        for name in SESSION_FOLDERS:
            remove_tree(self.path / name)
            try:
                (self.path / name).mkdir(mode=0o700)
            except OSError as error:
                raise CannotStart(f"kiroworkers: --state-dir: {error}") from None

    def release(self) -> None:
        """
        Release the lock, so that another server can use the directory.
        """
        os.close(self._lock)


@contextmanager
def lock_if_abandoned(path: Path) -> Iterator[bool]:
    """
    Yield whether `path` is the state directory of a server that is gone.

    If so, the directory stays locked until the context is left.
    """
    # A path that does not exist may be a temporary directory of another server in a place
    # that only that server can see.
    lock = None
    with suppress(OSError):
        lock = _lock(path / _LOCK, create=False)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _remove_abandoned() -> None:
    """
    Remove the temporary directories that killed servers of this user left behind.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            with lock_if_abandoned(path) as is_abandoned:
                # Spare a directory with other contents: an operator configured it.
                allowed = {_LOCK, *SESSION_FOLDERS}
                if is_abandoned and {child.name for child in path.iterdir()} <= allowed:
                    remove_tree(path)


def _check_owner(configured: Path, status: os.stat_result) -> None:
    """
    Check that no other user can put anything into the operator's directory.

    Args:
        configured: The directory, for the error message.
        status: Its status.

    Raises:
        CannotStart: If another user can.
    """
    reason = owner_problem(status)
    if reason is not None:
        raise CannotStart(f"kiroworkers: --state-dir {configured}: {reason}")


def owner_problem(status: os.stat_result) -> str | None:
    """
    Return how other users can put something into a directory; None if they cannot.
    """
    if status.st_uid != os.geteuid():
        return f"it belongs to the user {status.st_uid}, and the server runs as {os.geteuid()}"
    if status.st_mode & stat.S_IWOTH:
        return "any user may write to it; change that with chmod o-w"
    return None


def is_foreign(path: Path) -> bool:
    """
    Return whether the directory `path` has files in it but was not created by a server.
    """
    others = {entry.name for entry in path.iterdir()} - {PROOFS}
    return bool(others) and not (path / _LOCK).exists()


def is_in_use(path: Path) -> bool:
    """
    Return whether a server uses the state directory `path`.
    """
    if not (path / _LOCK).exists():
        return False
    with lock_if_abandoned(path) as is_abandoned:
        return not is_abandoned


def remove_tree(path: Path) -> None:
    """
    Remove the directory `path` and everything in it, ignoring errors.

    Directories that an agent made read-only are removed too.  Symbolic links are removed
    and not followed.
    """
    if path.is_symlink():
        with suppress(OSError):
            path.unlink()
        return
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    rmtree(path, ignore_errors=True)


def _lock(file: Path, create: bool = True) -> int | None:
    """
    Lock `file` and return the descriptor that holds the lock, or None if it is taken.
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
