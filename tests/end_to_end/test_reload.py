"""
End-to-end tests for servers that are reloaded more often than they can be.
"""

from __future__ import annotations

import os
import re
import signal

from tests.servers import ServerTestCase, real, slow_callbacks


class ReloadTests(ServerTestCase):
    """
    Tests for servers that get many signals to reload.
    """

    async def test_many(self) -> None:
        """
        A server that gets 200 signals answers every request meanwhile, reloads a few times,
        restarts each session about as often, and keeps no callback busy for long.
        """
        tasks = self.folder / "tasks"
        tasks.mkdir()
        await self.start("--agent", "offline", "--tasks", str(tasks))
        began = real.seconds()
        for number in range(200):
            os.kill(self.server.pid, signal.SIGHUP)
            if number % 20:
                await self.health()
            else:
                response, _ = await self.story(f"Idea {number}")
                self.assertEqual(response.code, 200)
        await self.server.signal("TERM")
        # One was the start, and one a second can have begun since.  The machine may be slow.
        reloads = 2 + real.seconds() - began
        self.assertLess(self.server.output.count("tasks: "), reloads)
        self.assertLess(len(re.findall(r"serving -> \w+: SIGHUP", self.server.output)), 2 * reloads)
        self.assertEqual(slow_callbacks(self.server.output), [])
