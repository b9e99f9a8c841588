"""
End-to-end tests with an agent that resumes earlier sessions instead of opening new ones.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.end_to_end.test_acp import GENERIC
from tests.programs import ROOT
from tests.servers import ServerTestCase

_REASON = "the agent resumed session session-in-"

_DIALECT = """
extends = "acp"
name = "resuming"
label = "an agent that resumes its sessions"

[start]
program = "{program}"
arguments = ["-m", "tests.fakeacp"]

[environment]
set = {{ PYTHONPATH = "{root}" }}
pass = ["FAKEKIRO*"]

[[state]]
variable = "FAKEACP_HOME"
default = ".fakeacp"
sessions = {sessions}
"""


class ResumedSessionTests(ServerTestCase):
    """
    Tests for a server whose agent resumes its sessions from the disk.
    """

    async def start_resuming(self, faults: str, *ready: str, **options: Any) -> None:
        """
        Start a server with such an agent, and wait until the log says each of `ready`.
        """
        agent = options.pop("agent", ("--agent", "acp", "--agent-command", GENERIC))
        workers = options.pop("workers", 1)
        self.server = self.run_twistd(
            *("--port", "0", "--workers", str(workers), *agent),
            *("--restart-delay", "0.05", "--start-limit-burst", "2"),
            *("--state-dir", str(self.folder / "state")),
            FAKEKIRO=faults,
            HOME=str(self.folder),
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        for line in ready:
            await self.server.says(line)

    async def remembered(self, idea: str) -> str:
        """
        Return what the agent says it remembers from earlier requests.
        """
        response, story = await self.story(idea)
        self.assertEqual((response.code, story["title"]), (200, idea), story)
        [criterion] = story["acceptanceCriteria"]
        return str(criterion)

    async def assert_refused(self) -> None:
        """
        Assert that no worker starts, and that clients and operators are told why.
        """
        await self.server.says("worker1: .*failed")
        response, body = await self.story("refused")
        self.assertEqual(response.code, 503, body)
        health = await self.health()
        self.assertIn(_REASON, health["workers"]["worker1"]["lastError"])
        self.assertIn(_REASON, health["pool"]["detail"])

    async def test_same_and_next_process(self) -> None:
        """
        The first request is answered from a new session; when the agent resumes it in the same
        process, and then in another one, no further request is sent to it, also after a restart
        of the server.
        """
        await self.start_resuming("resumes", "worker1: ready")
        self.assertEqual(await self.remembered("first"), "0 earlier prompts remembered")
        await self.assert_refused()
        await self.stop()
        await self.start_resuming("resumes")
        await self.assert_refused()
        self.assertNotIn("refused", "".join(self.typed.lines))

    async def test_other_worker(self) -> None:
        """
        Of two workers whose agents have the same session at the same time, one is not used.
        """
        await self.start_resuming("resumes", r"worker\d: ready", _REASON, workers=2)
        workers = (await self.health())["workers"].values()
        self.assertEqual([worker["healthy"] for worker in workers].count(True), 1)

    async def test_own_folders(self) -> None:
        """
        If each session has a folder of its own for the agent's conversations, the agent resumes
        nothing, and all requests are answered.
        """
        agent = (*self.dialect("true"), "--reset", "recycle")
        await self.start_resuming("resumes", "worker1: ready", agent=agent)
        for idea in ("first", "second", "third"):
            self.assertEqual(await self.remembered(idea), "0 earlier prompts remembered")
        self.assertNotIn(_REASON, self.server.output)

    async def test_folders_for_other_files(self) -> None:
        """
        If the dialect does not say that the folder has the conversations, the sessions are
        refused.
        """
        await self.start_resuming("resumes", "worker1: ready", agent=self.dialect("false"))
        await self.remembered("first")
        await self.assert_refused()

    def dialect(self, sessions: str) -> tuple[str, ...]:
        """
        Write a dialect for the agent, and return the options that use it.
        """
        file = self.folder / "resuming.toml"
        file.write_text(_DIALECT.format(program=sys.executable, root=ROOT, sessions=sessions))
        return ("--agent", str(file))
