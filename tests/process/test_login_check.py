"""
Tests for `kiroworkers.process.login_check`, with real programs.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.process import login_check
from kiroworkers.process.login_check import LoginGate, NotLoggedIn, check_login
from kiroworkers.testing import MemoryReactor
from tests.programs import exits

real: Any = reactor


class CheckLoginTests(TestCase):
    """
    Tests for `check_login`.
    """

    async def check(self, script: str) -> bool | None:
        command = ["/bin/sh", "-c", script]
        return await check_login(real, command, dict(os.environ), re.compile("(?i)not logged in"))

    async def test_status(self) -> None:
        """
        The user is logged in if the status is 0, whatever the command prints, and logged out if
        it is another one and the command says so; a program that fails has not.
        """
        self.assertIs(await self.check("echo not logged in; exit 0"), True)
        for output in ("Not logged in", "Not logged in >&2"):
            self.assertIs(await self.check(f"echo {output}; exit 1"), False)
        for script in ("exit 1", "echo cannot open the display; exit 1", "kill -9 $$"):
            self.assertIs(await self.check(script), None)

    async def test_leaves_a_child(self) -> None:
        """
        A child that the command leaves behind is not waited for.
        """
        pid = Path(self.mktemp()).absolute()
        self.assertTrue(await self.check(f"sleep 20 & echo $! > {pid}; exit 0"))
        child = int(pid.read_text())
        os.kill(child, 9)
        await exits(real, child)

    async def test_timeout(self) -> None:
        """
        A command that does not end is killed with what it has started, and has said nothing
        about the user.
        """
        # Long enough for the command to start on a busy machine.
        self.patch(login_check, "_TIMEOUT", 5)
        pid = Path(self.mktemp()).absolute()
        self.assertIs(
            await self.check(f"sleep 20 & echo $! > {pid}; echo not logged in; wait"), None
        )
        await exits(real, int(pid.read_text()))

    async def test_cannot_start(self) -> None:
        """
        A command that cannot be started says nothing about the user; the log says so in one
        line, and no descriptor is left open.
        """
        reactor = MemoryReactor()
        reactor.refuse = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        before = os.listdir("/proc/self/fd")
        with capturedLogs() as events:
            self.assertIs(await check_login(reactor, ["kiro-cli", "whoami"], {}), None)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        [event] = events
        self.assertEqual(
            formatEvent(event),
            "cannot check the login with kiro-cli whoami: "
            "[Errno 11] Resource temporarily unavailable",
        )


class LoginGateTests(SynchronousTestCase):
    """
    Tests for `LoginGate`.
    """

    def setUp(self) -> None:
        self.asked: list[Deferred[bool | None]] = []
        self.gate = LoginGate(self.ask)

    def ask(self) -> Deferred[bool | None]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def wait(self) -> Deferred[None]:
        waiting = self.gate.wait()
        assert waiting is not None, "the gate is closed"
        return waiting

    def test_asks_once(self) -> None:
        """
        The agent is asked once for all sessions that want to start, and not again.
        """
        waiting = [self.wait(), self.wait()]
        self.assertEqual(len(self.asked), 1)
        self.assertNoResult(waiting[0])
        self.asked[0].callback(True)
        for deferred in waiting:
            self.assertIsNone(self.successResultOf(deferred))
        self.assertIsNone(self.gate.wait())

    def test_logged_out(self) -> None:
        """
        While nobody is logged in, no session starts; each attempt asks again.
        """
        for _ in range(2):
            waiting = self.wait()
            self.asked[-1].callback(False)
            self.failureResultOf(waiting, NotLoggedIn)
        self.assertEqual(len(self.asked), 2)

    def test_check(self) -> None:
        """
        A check opens the gate if somebody is certainly logged in.
        """
        for logged_in in (False, None):
            checked = self.gate.check()
            self.asked[-1].callback(logged_in)
            self.assertIs(self.successResultOf(checked), False)
        self.wait()
        checked = self.gate.check()
        self.asked[-1].callback(True)
        self.assertIs(self.successResultOf(checked), True)
        self.assertIsNone(self.gate.wait())

    def test_unknown(self) -> None:
        """
        Sessions start if the agent cannot be asked, or does not know.
        """
        for result in (None, OSError("no more processes")):
            gate = LoginGate(self.ask)
            waiting = gate.wait()
            assert waiting is not None, "the gate is closed"
            asked = self.asked[-1]
            asked.callback(None) if result is None else asked.errback(result)
            self.successResultOf(waiting)
            self.assertIsNone(gate.wait())

    def test_doubt(self) -> None:
        """
        The agent is asked again once there is a doubt.
        """
        self.gate.check()
        self.asked.pop().callback(True)
        self.gate.doubt()
        self.wait()
        self.assertEqual(len(self.asked), 1)

    def test_cancelled(self) -> None:
        """
        The question is given up when the last session that waits for it is stopped.
        """
        first, second = self.wait(), self.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(self.asked[0].called)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertTrue(self.asked[0].called)
        self.wait()
        self.assertEqual(len(self.asked), 2)
