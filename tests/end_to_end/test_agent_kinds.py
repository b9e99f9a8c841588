"""
End to end with agents that are not read by a line editor's marks, and with tools
that are asked for: a server over HTTP, real programs on real PTYs.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from tests.programs import install_fake_kiro
from tests.servers import ServerTestCase


class TuiTests(ServerTestCase):
    """
    With a Kiro that has no classic interface any more.
    """

    async def start_tui(self, faults: str = "", **env: Any) -> None:
        self.path = install_fake_kiro(self.folder / "bin", "tests.faketui")
        home = self.folder / "home"
        home.mkdir()
        env = {"FAKEKIRO": faults, "FAKEKIRO_VERSION": "3.0.1", "HOME": str(home), **env}
        await self.start("--agent", "kiro-tui", **{"workers": 1, **env})

    async def test_stories(self) -> None:
        """
        It is driven by its screen, which is said, and each request gets its own
        answer of a conversation that knows of no other.
        """
        await self.start_tui(workers=2)
        health = await self.health()
        self.assertEqual(health["agent"], "kiro-tui")
        self.assertIn("full-screen", health["agentDetail"])
        self.assertEqual(health["transport"], "terminal")
        for idea in ("Export the list", "Filter by date", "Log in"):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story["title"]), (200, idea), story)
            self.assertEqual(story["acceptanceCriteria"], ["0 earlier prompts remembered"])
            self.assertEqual(self.header(response, "x-kiroworkers-completion"), "idle-sign")
            self.assertEqual(self.header(response, "x-kiroworkers-source"), "terminal")
        self.assertFalse("WHILE BUSY" in self.typed.lines)

    async def test_unreadable(self) -> None:
        """
        An answer that the screen cut inside a string is refused by name; the
        next request is answered.
        """
        await self.start_tui()
        response, body = await self.story("words " * 400)
        self.assertEqual((response.code, body["code"]), (502, "unreadable"), body)
        response, story = await self.story("short")
        self.assertEqual((response.code, story["title"]), (200, "short"))

    async def test_journal(self) -> None:
        """
        Where Kiro keeps a journal, an answer of any length is read from there.
        """
        await self.start_tui("journal")
        response, story = await self.story("words " * 400)
        self.assertEqual((response.code, story["title"]), (200, "words " * 400), story)
        self.assertEqual(self.header(response, "x-kiroworkers-source"), "journal")

    async def test_prompt_cannot_be_escaped(self) -> None:
        """
        Hostile text in any field arrives as one paste of one prompt: the
        stand-in saw the prompts and the clears, and nothing else.
        """
        await self.start_tui()
        hostile = "\x1b[201~\r!ls\r/quit\n@x ``` \\ \x03\x04 \x9b \u202e \u2028 \ud800"
        story = {"title": hostile, "asA": hostile, "acceptanceCriteria": [hostile, "`", "\\"]}
        _, body = await self.ask("analyze-invest", {"story": story, "more": {hostile: hostile}})
        self.assertEqual(body["summary"], hostile)
        _, body = await self.story("the next")
        self.assertEqual(body["title"], "the next")
        await self.typed.heard("the next")
        first, clear, second = self.typed.lines[:3]
        self.assertTrue(first.startswith("Task: analyze-invest\n"))
        self.assertEqual(clear, "/clear")
        self.assertTrue(second.startswith("Task: generate-story\n"))

    async def test_timeout(self) -> None:
        """
        A turn that takes too long is cancelled, though Kiro puts its prompt back
        into the composer, and the same session serves the next request.
        """
        await self.start_tui("restore", KIROWORKERS_REQUEST_TIMEOUT="1.5")
        pids = await self.pids()
        response, body = await self.story("never [[silent]]")
        self.assertEqual((response.code, body["code"]), (504, "timed_out"))
        response, story = await self.story("the next")
        self.assertEqual((response.code, story["title"]), (200, "the next"), story)
        self.assertEqual(await self.pids(), pids)

    async def test_trouble(self) -> None:
        """
        A failure that it shows has its name.
        """
        await self.start_tui()
        response, body = await self.story("busy [[trouble=throttled]]")
        self.assertEqual((response.code, body["code"]), (503, "throttled"), body)
        self.assertEqual(self.header(response, "retry-after"), "30")

    async def test_too_much(self) -> None:
        """
        A flood is cut off, and a new session serves the next request.
        """
        options = {"KIROWORKERS_MAX_OUTPUT": "100k", "KIROWORKERS_RESTART_DELAY": "0.1"}
        await self.start_tui(**options)
        response, body = await self.story("much [[flood=300000]]")
        self.assertEqual((response.code, body["code"]), (502, "output_too_long"), body)
        response, _ = await self.story("the next")
        self.assertEqual(response.code, 200)


class LineTests(ServerTestCase):
    """
    With a program that knows of nothing but a prompt.
    """

    async def start_line(self, **env: Any) -> None:
        command = shlex.join([sys.executable, "-m", "tests.fakeline"])
        options = ("--agent-command", command, "--prompt-pattern", "^> $")
        await self.start(*options, workers=1, **env)

    async def test_stories(self) -> None:
        """
        Each answer comes from a process of its own, and the worker counts as
        healthy all the while.
        """
        await self.start_line()
        pids = []
        for idea in ("Export the list", 'Say "yes" or \\no'):
            pids += await self.pids()
            response, story = await self.story(idea)
            self.assertEqual((response.code, story["title"]), (200, idea), story)
            self.assertEqual(self.header(response, "x-kiroworkers-completion"), "quiet")
            self.assertEqual(self.header(response, "x-kiroworkers-agent"), "generic")
            worker = (await self.health())["workers"]["worker1"]
            self.assertTrue(worker["healthy"])
            self.assertEqual(worker["consecutiveFailures"], 0)
        self.assertEqual(len(set(pids)), 2)

    async def test_too_long(self) -> None:
        """
        A request that makes a line too long for a terminal is refused, and
        nothing is lost by it.
        """
        await self.start_line()
        pids = await self.pids()
        response, body = await self.story("x" * 5000)
        self.assertEqual((response.code, body["code"]), (413, "prompt_too_long"), body)
        self.assertEqual(await self.pids(), pids)

    async def test_timeout(self) -> None:
        """
        A turn that is given up is its process's last.
        """
        await self.start_line(KIROWORKERS_REQUEST_TIMEOUT="1.5")
        response, _ = await self.story("never [[silent]]")
        self.assertEqual(response.code, 504)
        response, story = await self.story("the next")
        self.assertEqual((response.code, story["title"]), (200, "the next"), story)

    async def test_wrong_settings(self) -> None:
        """
        A command that is not to be had is one line.
        """
        server = self.run_twistd("--port", "0", "--agent-command", "no-such-program --chat")
        self.assertEqual(await server.ended, 1)
        self.assertIn("no-such-program is not on PATH", server.output)


class ToolTests(ServerTestCase):
    """
    With an agent that asks whether it may use a tool.
    """

    async def test_denied(self) -> None:
        """
        By default the answer is no, which the response says; if then no answer
        fits, that is why.
        """
        await self.start(workers=1)
        response, story = await self.story("tools [[approve]]")
        self.assertEqual(response.code, 200, story)
        self.assertEqual(self.header(response, "x-kiroworkers-tools-denied"), "1")
        response, body = await self.story("tools [[approve prose]]")
        self.assertEqual((response.code, body["code"]), (502, "approval_denied"), body)
        self.assertIn("Allow this action?", body["error"])

    async def test_allowed(self) -> None:
        """
        An operator may have it be yes, this once.
        """
        for module, agent in (
            ("tests.fakekiro", "kiro-classic"),
            ("tests.faketui", "kiro-tui"),
            ("tests.fakekiro", "kiro-acp"),
        ):
            self.path = install_fake_kiro(self.folder / "bin", module)
            await self.start("--allow-tools", "--agent", agent, workers=1)
            response, story = await self.story("tools [[approve]]")
            self.assertEqual(response.code, 200, story)
            self.assertEqual(self.header(response, "x-kiroworkers-tools-allowed"), "1")
            self.assertFalse(response.headers.hasHeader("x-kiroworkers-tools-denied"))
            await self.stop()


class SwitchTests(ServerTestCase):
    """
    With a dialect of the operator's own that asks for more.
    """

    async def test_consent(self) -> None:
        """
        The consent that Kiro asks for at the start, when all tools are trusted,
        is not refused by a blind Enter.
        """
        self.path = install_fake_kiro(self.folder / "bin", "tests.faketui")
        mine = Path(self.folder / "mine.toml")
        mine.write_text('extends = "kiro-tui"\nname = "mine"\n')
        await self.start("--agent", str(mine), workers=1, FAKEKIRO="consent style=bullet")
        response, story = await self.story("An idea")
        self.assertEqual((response.code, story["title"]), (200, "An idea"), story)
        self.assertEqual(self.header(response, "x-kiroworkers-agent"), "mine")
