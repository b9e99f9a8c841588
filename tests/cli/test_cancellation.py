"""
Tests for `kiroworkers.cli.cancellation`.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from kiroworkers.cli.cancellation import run_until_signal

real: Any = reactor


class CancellationTests(TestCase):
    """
    Tests for `run_until_signal`.
    """

    def setUp(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    async def test_result(self) -> None:
        """
        Without a signal, the result of the work is returned.
        """

        async def work() -> str:
            return "done"

        self.assertEqual(await run_until_signal(real, work()), "done")

    async def test_signal(self) -> None:
        """
        A signal cancels the work, which cleans up before the command exits with the status that
        shells give for the signal; further signals do not disturb that.
        """
        cleaned: list[str] = []

        async def work() -> None:
            real.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
            try:
                await Deferred()
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                await deferLater(real, 0)
                cleaned.append("cleaned up")

        with self.assertRaises(SystemExit) as raised:
            await run_until_signal(real, work())
        self.assertEqual(raised.exception.code, 143)
        self.assertEqual(cleaned, ["cleaned up"])
