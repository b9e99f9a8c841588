"""
Give each session its own directories: where it runs, and where its agent keeps state.

A session that needs directories of its own gets a workspace.  No other session uses it at
the same time, and the last session leaves nothing in it for the next one.  A workspace is
named after its worker.  A session that starts before the worker's last one is gone gets the
next free name, such as ``worker1.2``::

    STATE/work/worker1                 where it runs, with --workdir
    STATE/state/worker1/CODEX_HOME     where its agent keeps state, see [[state]]
    STATE/state/worker1/KIRO_HOME      its configuration with --kiro-agent minimal
    STATE/gone/…                       what is being removed

The directories are created when the session starts and removed when it ends.  Only a git
worktree is kept for the next session, which resets it first, and removed when the server
stops.
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
from typing import Any, TypeAlias

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.conversations.dialects.dialect import MinimalAgent, StateDir
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces.state_folder import StateFolder, remove_tree
from kiroworkers.workspaces.worktrees import Worktrees

#: A shell script that removes a directory, even if an agent made parts of it read-only.
_REMOVE_SCRIPT = 'PATH=/usr/bin:/bin; chmod -R u+rwX -- "$1" 2> /dev/null; exec rm -rf -- "$1"'

#: Seconds to wait before each further attempt to start a program.
_START_DELAYS = (0.1, 1.0, 5.0)

#: The largest file that is copied into a workspace, in bytes.
_MAX_COPIED_FILE = 1024**2

_log = Logger()


class Workdir(Enum):
    """
    Represent where sessions run; the values are those of `--workdir`.

    `SHARED` runs all of them in one directory, `PER_WORKER` each in an empty directory of
    its own, and `GIT_WORKTREE` each in a checkout of its own.
    """

    SHARED = "shared"
    PER_WORKER = "per-worker"
    GIT_WORKTREE = "git-worktree"


class Workspaces:
    """
    Allocate the workspaces of a server's sessions.

    Args:
        run: Runs a program; fires with its standard output, its standard error and its
            exit status.
        workdir: Where sessions run.
        worktrees: Creates the checkouts; needed for `Workdir.GIT_WORKTREE`.
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
        self._names_in_use: set[str] = set()
        self._checkouts: set[Path] = set()
        self._removal_numbers = count(1)
        self._removals: set[Deferred[None]] = set()

    def open(self, state_dir: Path | None) -> None:
        """
        Open the state directory and remove what an earlier server left in it.

        Blocks, so call it before the reactor runs.

        Args:
            state_dir: The operator's directory; None for a temporary one.

        Raises:
            CannotStart: If the directory cannot be used.
        """
        if self._worktrees is not None:
            # First: opening a temporary directory removes those of killed servers, and
            # stale worktrees are recognized by these.
            self._worktrees.remove_stale()
        self._folder = folder = StateFolder(state_dir)
        if self._worktrees is not None:
            self._worktrees.remove_stale(folder.path)
        folder.clear()

    @property
    def path(self) -> Path | None:
        """
        Return the state directory, or None while it is not open.
        """
        return None if self._folder is None else self._folder.path

    def allocate(
        self,
        worker: str,
        command: Command,
        state_dirs: Sequence[StateDir],
        minimal: MinimalAgent | None = None,
    ) -> Workspace:
        """
        Return a workspace for one session of `worker`.

        Args:
            worker: Name of the worker.
            command: What the session runs.
            state_dirs: The directories in which the agent keeps state.
            minimal: The configuration that the agent runs with; None for the user's own.

        Raises:
            ValueError: If the worker's name cannot safely name a directory.
        """
        if minimal is not None:
            # The minimal agent's folder contains no file of the user's.
            state_dirs = [other for other in state_dirs if other.variable != minimal.variable]
        variables = [state_dir.variable for state_dir in state_dirs]
        if minimal is not None:
            variables.append(minimal.variable)
        if self.workdir is Workdir.SHARED and not variables:
            return Workspace(command, command.folder)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", worker):
            raise ValueError(f"{worker!r} cannot name a directory")
        assert self._folder is not None, "the state directory is open while sessions start"
        name = next(name for name in _names(worker) if name not in self._names_in_use)
        self._names_in_use.add(name)
        work, state = self._folder.path / "work" / name, self._folder.path / "state" / name
        folders: list[Path] = []
        if variables:
            folders += [state, *(state / variable for variable in variables)]
        if self._worktrees is not None:
            self._checkouts.add(work)
            command_there = self._worktrees.checkout_command(work, command)
            cwd = self._worktrees.working_folder(work)
        elif self.workdir is Workdir.PER_WORKER:
            folders.append(work)
            command_there = evolve(command, folder=work)
            cwd = work
        else:
            command_there = command
            cwd = command.folder
        environment = {variable: str(state / variable) for variable in variables}
        files: list[_File] = [
            file for state_dir in state_dirs for file in _user_files(state_dir, command, state)
        ]
        if minimal is not None:
            files += (
                _NewFile(state / minimal.variable / name, text)
                for name, text in minimal.files.items()
            )
        return Workspace(
            evolve(command_there, environment={**command.environment, **environment}),
            cwd,
            folders,
            files,
            lambda: self._reclaim(name, (work, state) if work in folders else (state,)),
        )

    def abandon(self) -> None:
        """
        Remove a temporary state directory at once, because the server cannot start.
        """
        folder, self._folder = self._folder, None
        if folder is not None:
            if folder.temporary:
                remove_tree(folder.path)
            folder.release()

    async def close(self) -> None:
        """
        Remove all workspaces; call it when the last session is gone.
        """
        folder, self._folder = self._folder, None
        if folder is None:
            return
        await gatherResults(self._removals)
        checkouts = [path for path in sorted(self._checkouts) if path.exists()]
        await self._remove(folder.path if folder.temporary else folder.path / "work")
        if self._worktrees is not None:
            for path in checkouts:
                await self._run_and_log(self._worktrees.removal_command(path))
        folder.release()

    def _reclaim(self, name: str, folders: Sequence[Path]) -> None:
        """
        Remove the directories of a released workspace and free its name.
        """
        self._names_in_use.discard(name)
        if self._folder is None:
            return
        for folder in folders:
            # After the move the name is free at once, however long the removal takes.
            target = self._folder.path / "gone" / str(next(self._removal_numbers))
            try:
                os.chmod(folder, 0o700)
                os.rename(folder, target)
            except FileNotFoundError:
                continue  # It was never created.
            except OSError as error:
                self._log.warn("cannot remove a session's directory: {error}", error=error)
                continue
            self._removals.add(self._remove(target))
        self._removals = {removal for removal in self._removals if not removal.called}

    def _remove(self, path: Path) -> Deferred[None]:
        return self._run_and_log(
            Command("/bin/sh", ("-c", _REMOVE_SCRIPT, "sh", str(path)), {}, Path("/"), None)
        )

    def _run_and_log(self, command: Command) -> Deferred[None]:
        """
        Run `command` and log its failure; the Deferred fires in any case.
        """

        def check_status(result: tuple[bytes, bytes, int]) -> None:
            _, errors, status = result
            if status != 0:
                self._log.warn(
                    "{command}: {errors}",
                    command=" ".join(command.arguments),
                    errors=errors.decode("utf-8", "replace").strip(),
                )

        def log_failure(failure: Failure) -> None:
            self._log.failure("{command}", failure, command=" ".join(command.arguments))

        return maybeDeferred(self._run, command).addCallbacks(check_status, log_failure)


def runner(reactor: Any) -> Callable[[Command], Deferred[tuple[bytes, bytes, int]]]:
    """
    Return a function that runs programs in `reactor`, as `Workspaces` needs it.

    It tries again if the machine has no process or descriptor left for a moment.
    """

    def run_once(command: Command) -> Deferred[tuple[bytes, bytes, int]]:
        result: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            command.executable,
            command.arguments,
            dict(command.environment),
            str(command.folder),
            reactor,
        )
        return result

    async def run(command: Command) -> tuple[bytes, bytes, int]:
        for delay in _START_DELAYS:
            try:
                return await run_once(command)
            except OSError as error:
                _log.warn(
                    "cannot start {program}, trying again in {delay:g} s: {error}",
                    program=command.executable,
                    delay=delay,
                    error=error,
                )
                await deferLater(reactor, delay)
        return await run_once(command)

    return lambda command: Deferred.fromCoroutine(run(command))


@frozen
class _UserFile:
    """
    Represent a file of the user's that an agent needs in its workspace.
    """

    source: Path
    target: Path
    is_link: bool


@frozen
class _NewFile:
    """
    Represent a file of kiroworkers that an agent needs in its workspace.
    """

    target: Path
    text: str


_File: TypeAlias = _UserFile | _NewFile


class Workspace:
    """
    Hold the directories of one session.

    Args:
        command: What the session runs.
        cwd: Where its agent runs.
        folders: The directories to create, parents first.
        files: The files to copy, link or write into them.
        on_release: Called when the session is gone.

    Attributes:
        command: What the session runs.
        cwd: Where its agent runs.  The command may start elsewhere: for a worktree it
            starts with the checkout.
    """

    def __init__(
        self,
        command: Command,
        cwd: Path,
        folders: Sequence[Path] = (),
        files: Sequence[_File] = (),
        on_release: Callable[[], None] = lambda: None,
    ) -> None:
        self.command = command
        self.cwd = cwd
        self._folders = folders
        self._files = files
        self._on_release = on_release

    def prepare(self, start: Callable[[Command], None]) -> None:
        """
        Create the directories and files, then call `start` with the command.

        Raises:
            OSError: If either fails; the workspace is then released.
        """
        try:
            for folder in self._folders:
                folder.mkdir(mode=0o700)
            for file in self._files:
                _provide(file)
            start(self.command)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """
        Release the workspace, once; call it when the session is gone.

        Its directories are removed and its name becomes free.
        """
        on_release, self._on_release = self._on_release, lambda: None
        on_release()


def _names(worker: str) -> Iterator[str]:
    yield worker
    for number in count(2):
        yield f"{worker}.{number}"


def _user_files(state_dir: StateDir, command: Command, state: Path) -> list[_UserFile]:
    """
    Return the user's files that belong in a session's own `state_dir`.

    The user's directory is the value of the variable of `state_dir`, or the default place
    below the user's home.  Without either, there are no files.
    """
    current = command.environment.get(state_dir.variable)
    home = command.environment.get("HOME")
    if current:
        source = Path(current)
    elif home:
        source = Path(home) / state_dir.default
    else:
        return []
    target = state / state_dir.variable
    copies = [_UserFile(source / name, target / name, is_link=False) for name in state_dir.copy]
    links = [_UserFile(source / name, target / name, is_link=True) for name in state_dir.link]
    return copies + links


def _provide(file: _File) -> None:
    """
    Put `file` where it belongs.  Do nothing if it is a file of the user's that does not exist.

    Raises:
        OSError: If the user's file is not a regular file, or is too large to be copied.
    """
    if isinstance(file, _NewFile):
        file.target.parent.mkdir(parents=True, exist_ok=True)
        _write(file.target, file.text.encode(), 0o600)
        return
    source, target = file.source, file.target
    try:
        status = source.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_link:
        target.symlink_to(source.absolute())
        return
    with source.open("rb") as original:
        data = original.read(_MAX_COPIED_FILE + 1)
    if len(data) > _MAX_COPIED_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(source))
    _write(target, data, stat.S_IMODE(status.st_mode))


def _write(target: Path, data: bytes, mode: int) -> None:
    """
    Write `data` to the new file `target`, and set its mode when it is complete.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
