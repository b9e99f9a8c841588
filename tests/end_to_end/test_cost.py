"""
End-to-end tests for clients that make a server work as much as they can.
"""

from __future__ import annotations

import os
from functools import partial

from tests import LONG
from tests.cost_fuzz import READY, Fuzz, draw, options
from tests.programs import install_fake_kiro
from tests.servers import ServerTestCase


class CostTests(ServerTestCase):
    """
    Tests for requests that are as expensive as the limits allow.
    """

    async def test_fuzz(self) -> None:
        """
        No expensive request keeps the others waiting for long, and each that is complete gets
        an answer that is no server error.
        """
        self.path = install_fake_kiro(self.folder / "costly", "tests.costly_agent")
        # Prompts this long would not fit into the pipe that collects them.
        await self.start(*options(self.folder), FAKEKIRO_LOG=os.devnull)
        for ready in READY:
            await self.server.says(ready)
        fuzz = Fuzz(self.server, int(self.base.rpartition(":")[2]))
        await fuzz.run(range(200 if LONG else 40), partial(draw, 1))
        self.assertEqual(fuzz.outcome.problems, [])
        # The cases reach the agent and the checks.
        self.assertLessEqual({200, 202, 400, 502}, set(fuzz.outcome.statuses))
        response, body = await self.story("Export the list")
        self.assertEqual(response.code, 200, body)
        self.assertNotIn("Traceback", self.server.output)
