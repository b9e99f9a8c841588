"""
Tests for `kiroworkers.process.login_check`, with real programs.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from kiroworkers.process import login_check
from kiroworkers.process.login_check import check_login
from kiroworkers.testing import MemoryReactor
from tests.programs import exits

real: Any = reactor


class CheckLoginTests(TestCase):
    """
    Tests for `check_login`.
    """

    timeout = 30

    async def check(self, script: str) -> bool:
        return await check_login(real, ["/bin/sh", "-c", script], dict(os.environ))

    async def test_status(self) -> None:
        """
        The user is logged in if the status is 0, whatever the command prints.
        """
        self.assertTrue(await self.check("echo somebody; exit 0"))
        self.assertFalse(await self.check("echo nobody >&2; exit 1"))

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
        A command that does not end is killed; the user then counts as logged out.
        """
        self.patch(login_check, "_TIMEOUT", 0.1)
        self.assertFalse(await self.check("exec sleep 20"))

    async def test_cannot_start(self) -> None:
        """
        A command that cannot be started counts as logged out, in one line of the log, and
        leaves no descriptor open.
        """
        reactor = MemoryReactor()
        reactor.refuse = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        before = os.listdir("/proc/self/fd")
        with capturedLogs() as events:
            self.assertFalse(await check_login(reactor, ["kiro-cli", "whoami"], {}))
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        [event] = events
        self.assertEqual(
            formatEvent(event),
            "cannot check the login with kiro-cli whoami: "
            "[Errno 11] Resource temporarily unavailable",
        )
