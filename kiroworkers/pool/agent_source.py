"""
Choose the agent of a pool again when its program may have changed.

An agent may be updated while the server runs, and the new version may need other arguments
or another dialect.  Therefore the agent is chosen again, in a thread, before a session starts,
if the program's file has changed since it said its version, or if the previous session never
became ready.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.agents import Agent
from kiroworkers.errors import CannotStart, VersionUnknown


class AgentChanged(Exception):
    """
    Raised when a session must not start because another agent has been chosen meanwhile.
    """


@frozen
class FileIdentity:
    """
    Hold what distinguishes a file, reached through links, from one that replaces it.

    Attributes:
        device: The device that it is on.
        inode: Its number there.
        modified: When it was modified, in nanoseconds since 1970.
        size: Its size, in bytes.
        mode: Its permissions, because it may no longer be executable.
    """

    device: int
    inode: int
    modified: int
    size: int
    mode: int


class AgentSource:
    """
    Hold the agent that new sessions run.

    Args:
        agent: The agent that was chosen at first.
        choose: Chooses the agent again; it may block, and may raise `CannotStart`.  If it
            raises `VersionUnknown`, the agent stays as long as its file has not changed.
        in_thread: Calls a function outside the event loop, and fires with its result.
        on_change: Called with each agent that differs from the last one.

    Attributes:
        agent: The agent that was chosen last.
        problem: Why it could not be chosen again; None if it could.
    """

    _log = Logger()

    def __init__(
        self,
        agent: Agent,
        choose: Callable[[], Agent],
        in_thread: Callable[[Callable[[], Agent]], Deferred[Agent]],
        on_change: Callable[[Agent], None],
    ) -> None:
        self.agent = agent
        self.problem: str | None = None
        self._choose = choose
        self._in_thread = in_thread
        self._on_change = on_change
        # The file that was there when `agent` was chosen.
        self._file = _identity(agent.executable)
        self._doubted = False
        self._waiting: list[Deferred[None]] = []

    def file_identity(self) -> FileIdentity | None:
        """
        Return what identifies the agent's program as it is now; None if it is gone.
        """
        return _identity(self.agent.executable)

    def record_failed_start(self) -> None:
        """
        Choose the agent again before the next start: a session never became ready.
        """
        self._doubted = True

    def is_current(self, agent: Agent) -> bool:
        """
        Return whether `agent` is still what new sessions run; its version may be an older one.
        """
        current = self.agent
        return evolve(agent, reason=current.reason, version=current.version) == current

    def check(self) -> Deferred[None] | None:
        """
        Choose the agent again if that is necessary.

        Returns:
            None if `agent` can be used at once.  Otherwise a Deferred that fires when the
            agent has been chosen; it fails with `AgentChanged` if it is another one, and with
            `OSError` if it is no longer usable.
        """
        if not (self._waiting or self._doubted or _identity(self.agent.executable) != self._file):
            return None
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._doubted = False
            # Before the program is asked: it may change again meanwhile.
            file = _identity(self.agent.executable)
            self._in_thread(self._choose).addCallbacks(
                self._use, self._refuse, callbackArgs=(file,), errbackArgs=(file,)
            )
        return waiting

    def _use(self, agent: Agent, file: FileIdentity | None) -> None:
        """
        Use `agent`, which was chosen when its program was `file`.
        """
        self.problem = None
        self._file = file
        result = None
        if not self.is_current(agent):
            result = Failure(AgentChanged("the agent's program has changed"))
        if agent != self.agent:
            if agent.executable != self.agent.executable:
                self._file = _identity(agent.executable)
            self.agent = agent
            self._on_change(agent)
        self._finish(result)

    def _refuse(self, failure: Failure, file: FileIdentity | None) -> None:
        if failure.check(VersionUnknown) and file is not None and file == self._file:
            # On a loaded machine, this may take a program too long.
            self.problem = None
            self._log.warn(
                "{problem}; its file has not changed, so it still counts as {version}, and is "
                "asked again after the next session that does not become ready",
                problem=failure.getErrorMessage(),
                version=self.agent.version or "version unknown",
            )
            self._finish(None)
            return
        self._doubted = True
        if failure.check(CannotStart) is None:
            self._log.failure("cannot choose the agent again", failure)
        self.problem = failure.getErrorMessage()
        self._finish(Failure(OSError(self.problem)))

    def _finish(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if not deferred.called:  # It may have been cancelled.
                deferred.callback(result)


def _identity(path: str) -> FileIdentity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileIdentity(
        status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
    )
