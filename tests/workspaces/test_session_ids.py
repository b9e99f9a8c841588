"""
Tests for `kiroworkers.workspaces.session_ids`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.acp.known_sessions import digest_of
from kiroworkers.workspaces.session_ids import SessionIds


class Disk:
    """
    Run what waits for the disk when the test says so, as a thread would.

    Attributes:
        waiting: What was not run yet, each with its Deferred.
        problem: The error of everything that is run; None if there is none.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.problem: OSError | None = None

    def in_thread(self, call: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append((call, done))
        return done

    def run(self) -> int:
        """
        Run everything that waits, and return how many calls that were.
        """
        count = 0
        while self.waiting:
            count += 1
            call, done = self.waiting.pop(0)
            if self.problem is not None:
                done.errback(self.problem)
                continue
            call()
            done.callback(None)
        return count


class SessionIdsTests(SynchronousTestCase):
    """
    Tests for `SessionIds`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "session-ids"
        self.disk = Disk()
        self.events = self.enterContext(capturedLogs())
        self.seen = 0

    def warnings(self) -> list[str]:
        """
        Return what was logged as a warning since the last call.
        """
        new, self.seen = self.events[self.seen :], len(self.events)
        return [formatEvent(event) for event in new if event["log_level"] is LogLevel.warn]

    def server(self, limit: int = 1000) -> SessionIds:
        """
        Return the identifiers of a new server with the same state folder.
        """
        ids = SessionIds(self.disk.in_thread, limit)
        ids.open(self.folder)
        return ids

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def test_next_server(self) -> None:
        """
        The next server knows the identifiers; those of another agent do not count.
        """
        known = self.server().of("opencode")
        self.assertTrue(known.add("s1"))
        self.disk.run()
        following = self.server()
        self.assertFalse(following.of("opencode").add("s1"))
        self.assertTrue(following.of("gemini").add("s1"))
        self.assertEqual(self.warnings(), [])

    def test_all_workers(self) -> None:
        """
        All sessions of an agent share what is known, before anything is written.
        """
        ids = self.server()
        first, second = ids.of("acp"), ids.of("acp")
        self.assertTrue(first.add("s1"))
        self.assertFalse(second.add("s1"))

    def test_private(self) -> None:
        """
        The file is readable only by the user, and contains no identifier.
        """
        self.server().of("acp").add("/home/ann/project")
        self.disk.run()
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(self.lines(), [f"acp {digest_of('/home/ann/project')}"])

    def test_nothing_waits(self) -> None:
        """
        While the disk is slow, identifiers are added at once, and then written together.
        """
        known = self.server().of("acp")
        for number in range(50):
            known.add(f"s{number}")
        self.assertEqual(len(self.disk.waiting), 1)
        self.assertEqual(self.disk.run(), 2)
        self.assertEqual(self.lines(), [f"acp {digest}" for digest in known])

    def test_without_a_folder(self) -> None:
        """
        Without a folder that is kept, nothing is written, and the server knows its own sessions.
        """
        ids = SessionIds(self.disk.in_thread)
        ids.open(None)
        self.assertEqual([ids.of("acp").add("s1"), ids.of("acp").add("s1")], [True, False])
        self.assertEqual(self.disk.waiting, [])

    def test_limit(self) -> None:
        """
        The file does not grow for ever, and the identifiers that were added last are known.
        """
        ids = self.server(limit=10)
        sizes = []
        for number in range(500):
            ids.of("acp").add(f"s{number}")
            self.disk.run()
            sizes.append(len(self.lines()))
        self.assertEqual(max(sizes), 120)
        self.assertEqual(os.listdir(self.folder), ["session-ids"])
        known = self.server(limit=10).of("acp")
        self.assertEqual([known.add("s490"), known.add("s499")], [False, False])
        self.assertTrue(known.add("s480"))

    def test_comes_back(self) -> None:
        """
        An identifier that comes back after it was forgotten is one of the last again, also for the
        next server.
        """
        known = self.server(limit=10).of("acp")
        for id in ("s0", *(f"s{number}" for number in range(1, 15)), "s0"):
            self.assertTrue(known.add(id))
            self.disk.run()
        self.assertEqual(len(self.lines()), 16)
        self.assertEqual([*self.server(limit=10).of("acp")], [*known])
        self.assertFalse(self.server(limit=10).of("acp").add("s0"))

    def test_number_of_agents(self) -> None:
        """
        The file does not grow with agents that are no longer used.
        """
        for number in range(60):
            ids = self.server(limit=10)
            ids.of(f"agent-{number}").add("s1")
            self.disk.run()
        for number in range(300):
            ids.of("agent-59").add(f"s{number}")
            self.disk.run()
        agents = {line.partition(" ")[0] for line in self.lines()}
        self.assertLessEqual(len(agents), 50)
        self.assertIn("agent-59", agents)

    def test_incomplete_line(self) -> None:
        """
        A server that was killed while it wrote loses that line only; the file is repaired with
        the next identifier.
        """
        self.file.write_text(f"acp {digest_of('s1')}\nacp {digest_of('s2')[:7]}")
        known = self.server().of("acp")
        [warning] = self.warnings()
        self.assertEqual(warning, f"{self.file} is damaged; its other lines are used")
        self.assertEqual([known.add("s1"), known.add("s2")], [False, True])
        self.disk.run()
        self.assertEqual(self.lines(), [f"acp {digest_of(id)}" for id in ("s1", "s2")])

    def test_damaged(self) -> None:
        """
        Lines that are not valid are ignored, whatever they contain.
        """
        good = f"acp {digest_of('s1')}\n".encode()
        self.file.write_bytes(b"\0\xff\n\n" + good + b"ACP 12\n" + b"x" * 100_000 + b"\n" + good)
        self.assertEqual(len(self.server().of("acp")), 1)
        self.assertEqual(len(self.warnings()), 1)

    def test_unreadable(self) -> None:
        """
        A file that cannot be read is logged and left alone; the server starts.
        """
        for make in (self.file.mkdir, self._make_pipe, self._make_link):
            make()
            known = self.server().of("acp")
            self.assertEqual([known.add("s1"), known.add("s1")], [True, False])
            self.assertEqual(self.disk.waiting, [])
            [warning] = self.warnings()
            self.assertIn("the agents' earlier sessions are unknown", warning)
            os.rename(self.file, self.folder / make.__name__)

    def _make_pipe(self) -> None:
        os.mkfifo(self.file)

    def _make_link(self) -> None:
        target = self.folder / "target"
        target.touch()
        self.file.symlink_to(target)

    def test_full_disk(self) -> None:
        """
        A disk that is full for a while is logged once, and then everything is written.
        """
        known = self.server().of("acp")
        self.disk.problem = OSError(errno.ENOSPC, "No space left on device")
        for number in range(3):
            known.add(f"s{number}")
            self.disk.run()
        [warning] = self.warnings()
        self.assertIn("No space left on device", warning)
        self.disk.problem = None
        known.add("s3")
        self.disk.run()
        self.assertEqual(self.lines(), [f"acp {digest}" for digest in known])
        known.add("s4")
        self.disk.run()
        self.assertEqual(len(self.server().of("acp")), 5)

    def test_full_until_closed(self) -> None:
        """
        Identifiers that could not be written are written once more when the server stops.
        """
        ids = self.server()
        self.disk.problem = OSError(errno.ENOSPC, "No space left on device")
        ids.of("acp").add("s1")
        self.disk.run()
        self.disk.problem = None
        closed = ids.close()
        self.assertEqual(self.disk.run(), 1)
        self.successResultOf(closed)
        self.assertEqual(self.lines(), [f"acp {digest_of('s1')}"])

    def test_close(self) -> None:
        """
        A server that stops waits until everything is written, or cannot be.
        """
        ids = self.server()
        self.successResultOf(ids.close())
        ids.of("acp").add("s1")
        ids.of("acp").add("s2")
        closed = ids.close()
        self.assertNoResult(closed)
        self.disk.run()
        self.successResultOf(closed)
        self.assertEqual(len(self.lines()), 2)
        self.disk.problem = OSError("broken")
        ids.of("acp").add("s3")
        closed = ids.close()
        self.disk.run()
        self.successResultOf(closed)
