"""
End-to-end tests for recordings of sessions.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import treq

from kiroworkers.cli.prove import check_recording
from tests.servers import ServerTestCase

SECRET = "sk-of-the-tests-0123"


class RecordingTests(ServerTestCase):
    """
    Tests for a server that records the stand-ins of a terminal and of a protocol.
    """

    async def test_record(self) -> None:
        """
        The recordings of a terminal and of a protocol have no secrets, and prove the answers.
        """
        await self.start(
            *("--agent", "kiro-classic", "--agent", "acp", "--record"),
            *("--agent-command", f"{sys.executable} -m tests.fakeacp"),
            *("--state-dir", str(self.folder / "state"), "--pass-env", "KIRO_API_KEY"),
            workers=1,
            KIRO_API_KEY=SECRET,
        )
        await self.server.says("acp-worker1: ready")
        for agent in ("kiro-classic", "acp"):
            for number in range(2):
                headers = {"X-Agent": agent, "X-Request-ID": f"{agent}-{number}"}
                response, story = await self.story(f"A story of {SECRET}", headers=headers)
                self.assertEqual(response.code, 200)
                self.assertIn(SECRET, story["title"])
        _, body = await self.fetch("GET", "/recordings")
        listed = {each["agent"]: each for each in body["recordings"]}
        for agent, kind in (("kiro-classic", "asciicast"), ("acp", "jsonl")):
            entry = listed[agent]
            self.assertEqual(entry["format"], kind)
            self.assertEqual(entry["requests"], [f"{agent}-0", f"{agent}-1"])
            _, history = await self.fetch("GET", f"/requests/{agent}-1")
            self.assertEqual(history["recordings"], [entry["name"]])
            response = await treq.get(f"{self.base}/recordings/{entry['name']}", persistent=False)
            content = await response.content()
            self.assertIn(b"[redacted]", content)
            self.assertNotIn(SECRET.encode(), content)
            file = Path(self.folder / entry["name"])
            file.write_bytes(content)
            with redirect_stdout(io.StringIO()) as printed:
                self.assertEqual(check_recording(agent, str(file)), 0, printed.getvalue())
            self.assertIn("2 of 2 answers are the same, 0 differ", printed.getvalue())
            response, error = await self.fetch("DELETE", f"/recordings/{entry['name']}")
            self.assertEqual((response.code, error["code"]), (409, "recording_in_use"))
        await self.stop()
        [*files] = (self.folder / "state" / "recordings").iterdir()
        for file in files:
            self.assertIn("closed", file.read_text().splitlines()[-1])
