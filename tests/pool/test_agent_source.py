"""
Tests for `kiroworkers.pool.agent_source`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import CannotStart, VersionUnknown
from kiroworkers.pool.agent_source import AgentChanged, AgentSource


class AgentSourceTests(SynchronousTestCase):
    """
    Tests for `AgentSource`, whose thread answers when the test says so.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.program = self.folder / "kiro"
        self.write("1")
        self.agent = Agent(load_dialect("kiro-classic"), "1.0", str(self.program), (), {})
        self.chosen: list[Deferred[Agent]] = []
        self.changes: list[Agent] = []
        self.source = AgentSource(self.agent, self.choose, self.in_thread, self.changes.append)

    def write(self, text: str) -> None:
        """
        Replace the program by another file.
        """
        new = self.folder / "new"
        new.write_text(text)
        new.replace(self.program)

    def choose(self) -> Agent:
        raise AssertionError("the thread is not real")

    def in_thread(self, call: Any) -> Deferred[Agent]:
        self.chosen.append(Deferred())
        return self.chosen[-1]

    def check(self) -> Deferred[None]:
        checked = self.source.check()
        assert checked is not None, "the agent was not doubted"
        return checked

    def test_unchanged(self) -> None:
        """
        As long as the program's file stays the same, its version is not asked again.
        """
        self.assertIsNone(self.source.check())
        self.assertEqual(self.chosen, [])

    def test_same_version(self) -> None:
        """
        After a change of the file the agent is chosen again, once for all starts that wait.
        """
        self.write("2")
        first, second = self.check(), self.check()
        self.assertNoResult(first)
        [chosen] = self.chosen
        chosen.callback(evolve(self.agent))
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertIsNone(self.source.check())
        self.assertEqual(self.changes, [])

    def test_newer_version(self) -> None:
        """
        Starts of the agent as it was fail, and the next ones use the new one.
        """
        self.write("2")
        checked = self.check()
        newer = evolve(self.agent, reason="2.0", arguments=("--new",))
        self.chosen[0].callback(newer)
        self.failureResultOf(checked, AgentChanged)
        self.assertEqual((self.source.agent, self.changes), (newer, [newer]))
        self.assertIsNone(self.source.check())

    def test_newer_version_started_alike(self) -> None:
        """
        A newer version that is started as before is used at once, and becomes known.
        """
        self.write("2")
        checked = self.check()
        newer = evolve(self.agent, reason="1.1")
        self.chosen[0].callback(newer)
        self.successResultOf(checked)
        self.assertEqual((self.source.agent, self.changes), (newer, [newer]))
        self.assertTrue(self.source.is_current(self.agent))

    def test_link(self) -> None:
        """
        A symbolic link that leads to another file is a change.
        """
        other = self.folder / "other"
        other.write_text("1")
        link = self.folder / "link"
        link.symlink_to(self.program.absolute())
        agent = evolve(self.agent, executable=str(link))
        source = AgentSource(agent, self.choose, self.in_thread, self.changes.append)
        self.assertIsNone(source.check())
        link.unlink()
        link.symlink_to(other.absolute())
        self.assertIsNotNone(source.check())

    def test_changed_in_place(self) -> None:
        """
        A file that is written in place is a change.
        """
        os.utime(self.program, (1, 1))
        self.assertIsNotNone(self.source.check())

    def test_not_executable(self) -> None:
        """
        So is one that may no longer be executed.
        """
        self.program.chmod(0o600)
        self.assertIsNotNone(self.source.check())

    def test_changes_while_asked(self) -> None:
        """
        A file that changes while its version is asked is asked again at the next start.
        """
        self.write("2")
        checked = self.check()
        self.write("3")
        self.chosen[0].callback(self.agent)
        self.successResultOf(checked)
        self.assertIsNotNone(self.source.check())

    def test_failed_start(self) -> None:
        """
        After a session that never became ready the agent is chosen again, once.
        """
        self.source.record_failed_start()
        checked = self.check()
        self.chosen[0].callback(self.agent)
        self.successResultOf(checked)
        self.assertIsNone(self.source.check())

    def test_gone(self) -> None:
        """
        A program that is gone is the reason why the session does not start, until it is back.
        """
        self.program.unlink()
        checked = self.check()
        self.chosen[0].errback(CannotStart("kiro is not on PATH"))
        failure = self.failureResultOf(checked, OSError)
        self.assertEqual(failure.getErrorMessage(), "kiro is not on PATH")
        self.assertEqual(self.source.problem, "kiro is not on PATH")
        checked = self.check()
        self.chosen[1].callback(self.agent)
        self.successResultOf(checked)
        self.assertIsNone(self.source.problem)

    def test_version_unknown(self) -> None:
        """
        If the program does not say its version, what was known of its file stays; it is asked
        again after the next session that never became ready.
        """
        events = self.enterContext(capturedLogs())
        for number in range(2):
            self.source.record_failed_start()
            checked = self.check()
            self.chosen[number].errback(VersionUnknown("kiro does not say its version"))
            self.successResultOf(checked)
            self.assertIsNone(self.source.problem)
            self.assertIsNone(self.source.check())
        self.assertEqual((self.source.agent, self.changes), (self.agent, []))
        warnings = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(len(warnings), 2)
        self.assertIn("kiro does not say its version; its file has not changed", warnings[0])

    def test_version_of_new_file_unknown(self) -> None:
        """
        Nothing is known of another file, so no session starts with it until it says its version
        or the earlier file is back.
        """
        earlier = self.folder / "earlier"
        earlier.hardlink_to(self.program)
        self.write("2")
        unknown = VersionUnknown("kiro does not say its version")
        for number in range(2):
            checked = self.check()
            self.chosen[number].errback(unknown)
            self.failureResultOf(checked, OSError)
            self.assertEqual(self.source.problem, "kiro does not say its version")
        earlier.replace(self.program)
        checked = self.check()
        self.chosen[2].errback(unknown)
        self.successResultOf(checked)
        self.assertIsNone(self.source.problem)

    def test_internal_error(self) -> None:
        """
        An unexpected error is logged, and fails the start.
        """
        self.write("2")
        checked = self.check()
        self.chosen[0].errback(ZeroDivisionError("x"))
        self.failureResultOf(checked, OSError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelled(self) -> None:
        """
        A start that is cancelled does not affect the others.
        """
        self.write("2")
        first, second = self.check(), self.check()
        first.addErrback(lambda _: None)
        first.cancel()
        self.chosen[0].callback(self.agent)
        self.successResultOf(second)
