"""
Keep the identifiers of agents' sessions in a file, for the next server.

The file has a line for each session, with the agent's name and the digest of the identifier.
New lines are appended, in another thread, and nothing waits for them.  When half of the lines
are outdated, the file is replaced.  A server that is killed while it writes leaves an incomplete
last line at most, which the next server ignores.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.conversations import KnownSessions
from kiroworkers.conversations.acp.known_sessions import MAX_KNOWN_SESSIONS

_FILE = "session-ids"
_NEW_FILE = "session-ids.new"

_LINE = re.compile(r"([a-z0-9][a-z0-9-]{0,63}) ([0-9a-f]{32})")

#: The maximum number of agents whose identifiers are kept.
_MAX_AGENTS = 50

#: The maximum size of the file that is read, in bytes; of a larger one, the end is read.
_MAX_SIZE = 64 * 1024**2


class SessionIds:
    """
    Hold the identifiers of all agents' sessions, and write new ones to a file.

    Without a file, they are kept as long as the server runs.

    Args:
        in_thread: Calls a function where it may wait for the disk.
        limit: The maximum number of identifiers of an agent.
    """

    _log = Logger()

    def __init__(
        self,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        limit: int = MAX_KNOWN_SESSIONS,
    ) -> None:
        self._in_thread = in_thread
        self._limit = limit
        self._agents: dict[str, KnownSessions] = {}
        self._file: Path | None = None
        self._new_lines: list[str] = []
        # How many lines the file has; None if it must be replaced.
        self._line_count: int | None = 0
        self._writing: Deferred[None] | None = None
        self._failing = False

    def open(self, state_dir: Path | None) -> None:
        """
        Read the identifiers that an earlier server has left.  Blocks.

        Call it once, before `of`.  If the file cannot be read, that is logged, and the file stays
        as it is.

        Args:
            state_dir: The folder that is kept for the next server; None for none.
        """
        if state_dir is None:
            return
        file = state_dir / _FILE
        try:
            data = _read(file)
        except OSError as error:
            self._log.warn(
                "the agents' earlier sessions are unknown, and new ones are not recorded, because "
                "{file} cannot be read ({error}): a session that an agent resumes from an earlier "
                "server is not recognized",
                file=file,
                error=error,
            )
            return
        self._file = file
        lines = data.decode("ascii", "replace").split("\n")
        # Every complete line ends with a newline.
        damaged = lines.pop() != ""
        known: dict[str, dict[str, None]] = {}
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None:
                damaged = True
            else:
                digests = known.setdefault(match[1], {})
                # As the last one: it may have been forgotten, and have come back.
                digests.pop(match[2], None)
                digests[match[2]] = None
        for agent in list(known)[-_MAX_AGENTS:]:
            self._agents[agent] = self._new_agent(agent, known[agent])
        self._line_count = len(lines)
        if damaged:
            self._line_count = None
            self._log.warn("{file} is damaged; its other lines are used", file=file)

    def of(self, agent: str) -> KnownSessions:
        """
        Return the identifiers of the sessions of `agent`, to which new ones are added.
        """
        known = self._agents.pop(agent, None)
        if known is None:
            known = self._new_agent(agent, {})
        # As the last one: its identifiers are forgotten last.
        self._agents[agent] = known
        return known

    def close(self) -> Deferred[None]:
        """
        Write what could not be written before, once more.

        Return a Deferred that fires when everything is written, or cannot be.
        """
        if self._writing is None and self._failing and self._file is not None:
            self._write(self._file)
        return self._finish()

    def _finish(self) -> Deferred[None]:
        if self._writing is None:
            return succeed(None)
        closed: Deferred[None] = Deferred()

        def go_on(_: None) -> None:
            self._finish().chainDeferred(closed)

        self._writing.addCallback(go_on)
        return closed

    def _new_agent(self, agent: str, digests: Mapping[str, None]) -> KnownSessions:
        return KnownSessions(digests, partial(self._add, agent), self._limit)

    def _add(self, agent: str, digest: str) -> None:
        if self._file is not None:
            self._new_lines.append(f"{agent} {digest}\n")
            if self._writing is None:
                self._write(self._file)

    def _write(self, file: Path) -> None:
        """
        Write the identifiers that are not written yet.
        """
        lines, self._new_lines = self._new_lines, []
        agents = dict(list(self._agents.items())[-_MAX_AGENTS:])
        kept = sum(map(len, agents.values()))
        if self._line_count is not None and self._line_count + len(lines) <= 2 * kept + 100:
            self._line_count += len(lines)
            write = partial(_append, file, lines)
        else:
            self._line_count = kept
            write = partial(_replace, file, {name: tuple(known) for name, known in agents.items()})
        self._writing = writing = self._in_thread(write)
        writing.addCallbacks(self._written, self._not_written).addCallback(self._go_on, file)

    def _written(self, _: None) -> None:
        if self._failing:
            self._failing = False
            self._log.info("{file} can be written again", file=self._file)

    def _not_written(self, failure: Failure) -> None:
        # Replaced by the next attempt, which then loses nothing.
        self._line_count = None
        self._new_lines.clear()
        if not self._failing:
            self._failing = True
            self._log.warn(
                "the agents' sessions cannot be recorded in {file} ({error}): the next server "
                "does not recognize those that an agent resumes",
                file=self._file,
                error=failure.getErrorMessage(),
            )

    def _go_on(self, _: None, file: Path) -> None:
        self._writing = None
        if self._new_lines:
            self._write(file)


def _read(file: Path) -> bytes:
    """
    Return the contents of `file`; nothing if it does not exist.

    Raises:
        OSError: If it cannot be read, or is not a regular file.
    """
    try:
        # A named pipe must not make the server wait.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        opened.seek(max(0, status.st_size - _MAX_SIZE))
        return opened.read(_MAX_SIZE)


def _append(file: Path, lines: Sequence[str]) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(file, flags, 0o600), "wb") as opened:
        opened.write("".join(lines).encode())


def _replace(file: Path, agents: Mapping[str, Sequence[str]]) -> None:
    """
    Replace `file` at once, so that it is complete at any time.
    """
    new_file = file.with_name(_NEW_FILE)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(new_file, flags, 0o600), "wb") as opened:
        opened.writelines(line.encode() for line in _lines(agents))
        opened.flush()
        os.fsync(opened.fileno())
    os.rename(new_file, file)


def _lines(agents: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for agent, digests in agents.items():
        for digest in digests:
            yield f"{agent} {digest}\n"
