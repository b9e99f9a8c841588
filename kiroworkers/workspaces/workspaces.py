"""
Where a session runs, and where its agent keeps what is its own.

A session that needs folders of its own has a room: nobody else is in it while it
lives, and the next one finds nothing of it there.  Rooms have the names of their
workers; a successor that starts before the old session goes gets the next one,
``worker1.2``::

    STATE/work/worker1                 where it runs, with --workdir
    STATE/state/worker1/CODEX_HOME     what a dialect's [[state]] says
    STATE/gone/…                       what is being removed

A room's folders are made when its session starts and go with it, but for a
worktree of git's: that is kept for the next session, which resets it first, and
goes with the server.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.conversations.dialects.dialect import StateDir
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces.state_folder import StateFolder
from kiroworkers.workspaces.worktrees import Worktrees

#: Removes a folder, also where an agent has let nobody write.
_REMOVE = 'PATH=/usr/bin:/bin; chmod -R u+rwX -- "$1" 2> /dev/null; exec rm -rf -- "$1"'

#: Most bytes of a file that is copied into a room.
_LARGEST = 1024**2


class Workdir(Enum):
    """
    Where sessions run: all in the command's own folder, each in an empty one, or
    each in a checkout.  The values are what `--workdir` says.
    """

    SHARED = "shared"
    PER_WORKER = "per-worker"
    GIT_WORKTREE = "git-worktree"


class Workspaces:
    """
    The rooms of a server's sessions.

    Args:
        run: runs a program; fires with its output, errors and exit status.
        worktrees: with `Workdir.GIT_WORKTREE`.
    """

    _log = Logger()

    def __init__(
        self,
        run: Callable[[Command], Deferred[tuple[bytes, bytes, int]]],
        workdir: Workdir,
        worktrees: Worktrees | None = None,
    ) -> None:
        self.workdir = workdir
        self._run = run
        self._worktrees = worktrees
        self._folder: StateFolder | None = None
        self._taken: set[str] = set()
        self._checkouts: set[Path] = set()
        self._numbers = count(1)
        self._removing: set[Deferred[None]] = set()

    def open(self, given: Path | None) -> None:
        """
        Have the state folder, `given` or a temporary one, with nothing in it of an
        earlier server.  Blocks, so that is for before the reactor runs.

        Raises:
            CannotStart: when it cannot be had.
        """
        if self._worktrees is not None:
            # First: the next line removes the folders by which they are known.
            self._worktrees.remove_stale()
        self._folder = folder = StateFolder(given)
        if self._worktrees is not None:
            self._worktrees.remove_stale(folder.path)
        folder.empty()

    @property
    def path(self) -> Path | None:
        """
        The state folder, while it is open.
        """
        return None if self._folder is None else self._folder.path

    def take(self, worker: str, command: Command, state_dirs: Sequence[StateDir]) -> Workspace:
        """
        A room for a session of `worker`, which runs `command` in it.
        """
        if self.workdir is Workdir.SHARED and not state_dirs:
            return Workspace(command, command.folder)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", worker):
            raise ValueError(f"{worker!r} cannot name a folder")
        assert self._folder is not None, "it is open as long as sessions start"
        name = next(each for each in _names(worker) if each not in self._taken)
        self._taken.add(name)
        work, state = self._folder.path / "work" / name, self._folder.path / "state" / name
        own: list[Path] = []
        if state_dirs:
            own += [state, *(state / each.variable for each in state_dirs)]
        if self._worktrees is not None:
            self._checkouts.add(work)
            placed = self._worktrees.command(work, command)
            works_in = self._worktrees.folder(work)
        elif self.workdir is Workdir.PER_WORKER:
            own.append(work)
            placed = evolve(command, folder=work)
            works_in = work
        else:
            placed = command
            works_in = command.folder
        variables = {each.variable: str(state / each.variable) for each in state_dirs}
        return Workspace(
            evolve(placed, environment={**command.environment, **variables}),
            works_in,
            own,
            [each for store in state_dirs for each in _files(store, command, state)],
            lambda: self._left(name, (work, state) if work in own else (state,)),
        )

    async def close(self) -> None:
        """
        Remove all that is left; nobody is in a room any more.
        """
        folder, self._folder = self._folder, None
        if folder is None:
            return
        await gatherResults(self._removing)
        made = [path for path in sorted(self._checkouts) if path.exists()]
        await self._remove(folder.path if folder.temporary else folder.path / "work")
        if self._worktrees is not None:
            for path in made:
                await self._errand(self._worktrees.removal(path))
        folder.release()

    def _left(self, name: str, folders: Sequence[Path]) -> None:
        self._taken.discard(name)
        if self._folder is None:
            return
        for each in folders:
            # By another name the room is free at once, however much is to go.
            gone = self._folder.path / "gone" / str(next(self._numbers))
            try:
                os.chmod(each, 0o700)
                os.rename(each, gone)
            except FileNotFoundError:
                continue  # it was never made
            except OSError as problem:
                self._log.warn("a session's folder stays: {problem}", problem=problem)
                continue
            self._removing.add(self._remove(gone))
        self._removing = {each for each in self._removing if not each.called}

    def _remove(self, path: Path) -> Deferred[None]:
        return self._errand(
            Command("/bin/sh", ("-c", _REMOVE, "sh", str(path)), {}, Path("/"), None)
        )

    def _errand(self, command: Command) -> Deferred[None]:
        """
        Fires when `command` has run; if in vain, the log says so.
        """

        def done(result: tuple[bytes, bytes, int]) -> None:
            if result[2] != 0:
                said = result[1].decode("utf-8", "replace").strip()
                self._log.warn("{what}: {said}", what=" ".join(command.arguments), said=said)

        def failed(problem: Failure) -> None:
            self._log.failure("{what}", problem, what=" ".join(command.arguments))

        return maybeDeferred(self._run, command).addCallbacks(done, failed)


def runner(reactor: Any) -> Callable[[Command], Deferred[tuple[bytes, bytes, int]]]:
    """
    Runs programs in `reactor`, for `Workspaces`.
    """

    def run(command: Command) -> Deferred[tuple[bytes, bytes, int]]:
        said: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            command.executable,
            command.arguments,
            dict(command.environment),
            str(command.folder),
            reactor,
        )
        return said

    return run


class Workspace:
    """
    A session's room.

    Attributes:
        command: what the session runs in it.
        works_in: where the agent is then; its command may start elsewhere.
    """

    def __init__(
        self,
        command: Command,
        works_in: Path,
        folders: Sequence[Path] = (),
        files: Sequence[tuple[Path, Path, bool]] = (),
        on_left: Callable[[], None] = lambda: None,
    ) -> None:
        self.command = command
        self.works_in = works_in
        self._folders = folders
        self._files = files
        self._on_left = on_left

    def prepare(self, start: Callable[[Command], None]) -> None:
        """
        Furnish the room and `start` its command.

        Raises:
            OSError: when either cannot be done; the room is left then.
        """
        try:
            for folder in self._folders:
                folder.mkdir(mode=0o700)
            for source, target, linked in self._files:
                _bring(source, target, linked)
            start(self.command)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """
        The session is gone.
        """
        self._on_left()


def _names(worker: str) -> Iterator[str]:
    yield worker
    for number in count(2):
        yield f"{worker}.{number}"


def _files(store: StateDir, command: Command, state: Path) -> list[tuple[Path, Path, bool]]:
    """
    The user's files that belong into a `store`, where each goes, and whether it
    is only linked.
    """
    here, home = command.environment.get(store.variable), command.environment.get("HOME")
    if not here and not home:
        return []
    source = Path(here) if here else Path(home or "") / store.default
    target = state / store.variable
    found = [(source / each, target / each, False) for each in store.copy]
    return found + [(source / each, target / each, True) for each in store.link]


def _bring(source: Path, target: Path, linked: bool) -> None:
    """
    Copy or link a file of the user's, with its mode; one that is not there is not
    needed.
    """
    try:
        about = source.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "is no file", str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    if linked:
        target.symlink_to(source.absolute())
        return
    with source.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(source))
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as copy:
        copy.write(data)
        os.fchmod(copy.fileno(), stat.S_IMODE(about.st_mode))
