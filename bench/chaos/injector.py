"""
Inject the faults that a server must survive: signals, a full disk, locks and clock steps.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

from attrs import define, field

from bench.chaos.ledger import Ledger
from bench.chaos.world import World
from kiroworkers.process.supervisor import descendants

#: Seconds between two faults.
_PAUSE = (0.05, 0.5)

#: Seconds for which a fault of the storage lasts.
_OUTAGE = (0.3, 3.0)

#: Offsets of the wall clock in seconds.
_OFFSETS = (0, 60, -60, 3600, -3600)

#: Seconds in which the storage must work again before the server is killed.
_HEAL_TIMEOUT = 30

#: Seconds in which a supervisor that is resumed must end.
_END_TIMEOUT = 60


@define
class Injector:
    """
    Cause one fault after the other until `over`.

    Attributes:
        world: The server.
        ledger: Where faults are counted.
        rng: Decides which fault comes next.
        over: Set to make it end.
        kill_server: Set to have the server killed and started again, once.
        supervisors: The supervisors that were killed, or that the server has to kill.
        stopped: Those of them that were stopped.
    """

    world: World
    ledger: Ledger
    rng: random.Random
    over: Event = field(factory=Event)
    kill_server: Event = field(factory=Event)
    supervisors: set[int] = field(factory=set)
    stopped: set[int] = field(factory=set)

    def run(self) -> None:
        """
        Cause faults until `over`; in the end, everything is as it was.
        """
        faults, weights = zip(*self._faults(), strict=True)
        try:
            while not self.over.wait(self.rng.uniform(*_PAUSE)):
                if self.kill_server.is_set():
                    self._kill_server()
                fault: Callable[[], None] = self.rng.choices(faults, weights)[0]
                fault()
        finally:
            self.world.clock.step(-self.world.clock.offset)

    def _faults(self) -> list[tuple[Callable[[], None], float]]:
        faults: list[tuple[Callable[[], None], float]] = [
            (self._kill_member, 40),
            (self._kill_supervisor, 20),
            (self._stop_member, 2),
            (self._stop_supervisor, 1),
            (self._reload, 5),
            (self._step_clock, 10),
            (self._lock_file, 2),
            (self._limit_file_size, 2),
        ]
        if self.world.mounted:
            faults.append((self._fill_disk, 3))
        return faults

    def _sessions(self) -> list[int]:
        return [worker["pid"] for worker in self.world.workers().values() if worker["pid"]]

    def _signal(self, pid: int, number: int, what: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            self.ledger.count(what)

    def _kill_supervisor(self) -> None:
        if sessions := self._sessions():
            pid = self.rng.choice(sessions)
            self.supervisors.add(pid)
            self._signal(pid, signal.SIGKILL, "- kill -9 of a session")

    def _kill_member(self) -> None:
        if (sessions := self._sessions()) and (members := descendants(self.rng.choice(sessions))):
            self._signal(self.rng.choice(members), signal.SIGKILL, "- kill -9 in a session's tree")

    def _stop_member(self) -> None:
        if (sessions := self._sessions()) and (members := descendants(self.rng.choice(sessions))):
            self._signal(self.rng.choice(members), signal.SIGSTOP, "- SIGSTOP in a session's tree")

    def _stop_supervisor(self) -> None:
        if sessions := self._sessions():
            pid = self.rng.choice(sessions)
            # When the session is to end, the server has to kill it.
            self.supervisors.add(pid)
            self.stopped.add(pid)
            self._signal(pid, signal.SIGSTOP, "- SIGSTOP of a session")

    def _reload(self) -> None:
        for _ in range(20):
            self.world.signal(signal.SIGHUP)
            self.over.wait(0.02)
        self.ledger.count("- SIGHUP, 20 times")

    def _step_clock(self) -> None:
        offset = self.rng.choice(_OFFSETS)
        self.world.clock.step(offset - self.world.clock.offset)
        self.ledger.count("- steps of the wall clock")

    def _fill_disk(self) -> None:
        filler = self.world.state / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        self.ledger.count("- the disk is full")
        self.over.wait(self.rng.uniform(*_OUTAGE))
        filler.unlink()

    def _lock_file(self) -> None:
        path = self.world.state / "jobs" / "jobs.sqlite3"
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1)) as database:
            database.isolation_level = None
            database.execute("BEGIN EXCLUSIVE")
            self.ledger.count("- the jobs file is locked")
            self.over.wait(self.rng.uniform(*_OUTAGE))
            database.execute("ROLLBACK")

    def _limit_file_size(self) -> None:
        """
        Let each write fail that makes a file longer than a page.
        """
        pid = self.world.pid
        with suppress(ProcessLookupError):
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))
            self.ledger.count("- no file can be written")
            self.over.wait(self.rng.uniform(*_OUTAGE))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def _kill_server(self) -> None:
        self.kill_server.clear()
        if not self.world.await_health(_storage_works, _HEAL_TIMEOUT):
            self.ledger.forbid("jobs stuck", f"the storage fails: {self.world.health()}")
        self.ledger.kills.append(time.monotonic())
        self.world.kill()
        self.ledger.count("- kill -9 of the server")
        try:
            self.world.start()
        except RuntimeError as error:
            self.ledger.forbid("unclean exits", f"it did not start again: {error}")
        # Whoever noticed that the server was gone until here was cut.
        self.ledger.kills.append(time.monotonic())
        self.world.up.set()

    def is_excused(self, pid: int) -> bool:
        """
        Return whether `pid` is a helper whose supervisor was killed, which nobody can find.
        """
        try:
            supervisor = Path(self.world.folder, f"helper-{pid}").read_text()
        except OSError:
            return False
        return int(supervisor) in self.supervisors

    def ends_when_resumed(self, pid: int) -> bool:
        """
        Resume `pid` if it is a supervisor that was stopped as it started, and await its end.

        It had not yet asked the kernel to report the death of the server, and has no agent.

        Returns:
            True if it is one, and has ended.
        """
        if pid not in self.stopped or descendants(pid):
            return False
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            os.kill(pid, signal.SIGCONT)
            return bool(select.select([descriptor], [], [], _END_TIMEOUT)[0])
        finally:
            os.close(descriptor)

    def end(self, pid: int) -> None:
        """
        Kill a process that is left.
        """
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _storage_works(health: dict[str, dict[str, str]]) -> bool:
    return health["storage"]["state"] == "ok"
