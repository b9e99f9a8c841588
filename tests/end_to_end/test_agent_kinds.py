"""
End-to-end tests for other kinds of agents, and for agents that ask to use tools.

They have a full-screen interface, or only a prompt, and run on real PTYs.
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
    Tests for a Kiro without the classic interface.
    """

    async def start_tui(self, faults: str = "", **env: Any) -> None:
        self.path = install_fake_kiro(self.folder / "bin", "tests.faketui")
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        env = {"FAKEKIRO": faults, "FAKEKIRO_VERSION": "3.0.1", "HOME": str(home), **env}
        await self.start("--agent", "kiro-tui", **{"workers": 1, **env})

    async def test_stories(self) -> None:
        """
        Kiro is driven through its screen, as /health says; each request gets its own
        answer, from a new conversation.
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
        An answer that the screen cut inside a string has the error unreadable; the next
        request is answered.
        """
        await self.start_tui()
        response, body = await self.story("words " * 400)
        self.assertEqual((response.code, body["code"]), (502, "unreadable"), body)
        response, story = await self.story("short")
        self.assertEqual((response.code, story["title"]), (200, "short"))

    async def test_journal(self) -> None:
        """
        If Kiro keeps a journal, an answer of any length is read from there.
        """
        await self.start_tui("journal")
        response, story = await self.story("words " * 400)
        self.assertEqual((response.code, story["title"]), (200, "words " * 400), story)
        self.assertEqual(self.header(response, "x-kiroworkers-source"), "journal")

    async def test_prompt_cannot_be_escaped(self) -> None:
        """
        Hostile text in any field arrives as one paste of one prompt: the stand-in
        receives the prompts and the clears, and nothing else.
        """
        await self.start_tui()
        hostile = "\x1b[201~\r!ls\r/quit\n@x ``` \\ \x03\x04 \x9b \u202e \u2028 \ud800"
        story = {"title": hostile, "asA": hostile, "acceptanceCriteria": [hostile, "`", "\\"]}
        _, body = await self.ask("analyze-invest", {"story": story, "more": {hostile: hostile}})
        self.assertEqual(body["summary"], hostile)
        _, body = await self.story("the next")
        self.assertEqual(body["title"], "the next")
        await self.typed.wait_for("the next")
        first, clear, second = self.typed.lines[:3]
        self.assertTrue(first.startswith("Task: analyze-invest\n"))
        self.assertEqual(clear, "/clear")
        self.assertTrue(second.startswith("Task: generate-story\n"))

    async def test_timeout(self) -> None:
        """
        A turn that takes too long is cancelled, even if Kiro then puts the prompt back
        into the composer, and the same session serves the next request.
        """
        await self.start_tui("restore", KIROWORKERS_REQUEST_TIMEOUT="1.5")
        pids = await self.pids()
        response, body = await self.story("never [[silent]]")
        self.assertEqual((response.code, body["code"]), (504, "timed_out"))
        response, story = await self.story("the next")
        self.assertEqual((response.code, story["title"]), (200, "the next"), story)
        self.assertEqual(await self.pids(), pids)

    async def test_agent_failure(self) -> None:
        """
        A failure that the agent shows has a code of its own.
        """
        await self.start_tui()
        response, body = await self.story("busy [[trouble=throttled]]")
        self.assertEqual((response.code, body["code"]), (502, "throttled"), body)
        self.assertEqual(self.header(response, "retry-after"), "30")

    async def test_output_too_long(self) -> None:
        """
        Output that is too long is cut off, and a new session serves the next request.
        """
        options = {"KIROWORKERS_MAX_OUTPUT": "100k", "KIROWORKERS_RESTART_DELAY": "0.1"}
        await self.start_tui(**options)
        response, body = await self.story("much [[flood=300000]]")
        self.assertEqual((response.code, body["code"]), (502, "output_too_long"), body)
        response, _ = await self.story("the next")
        self.assertEqual(response.code, 200)

    async def assert_two_stories(self, faults: str, **env: Any) -> None:
        """
        Ask one session twice, and assert that each answer is the right one.
        """
        await self.start_tui(faults, **env)
        pids = await self.pids()
        for idea in ("Export 👩\u200d👩\u200d👧 and 👍🏽 lists", "Filter 🏳\ufe0f\u200d🌈 by date"):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story.get("title")), (200, idea), story)
            self.assertEqual(story["acceptanceCriteria"], ["0 earlier prompts remembered"])
        self.assertEqual(await self.pids(), pids)
        self.assertFalse("WHILE BUSY" in self.typed.lines)

    async def test_habits(self) -> None:
        """
        A session answers one request after the other although Kiro waits for its terminal's
        answers, loses each Enter, leaves its spinner behind, and is idle before the last frame.
        """
        await self.assert_two_stories("asks lostenter stale early=0.6")
        prompts = [line for line in self.typed.lines if line != "/clear"]
        self.assertEqual(len(prompts), 2)

    async def test_clears(self) -> None:
        """
        It is cleared although Kiro looks idle while it clears, or confirms each clear in the
        same words.
        """
        for clear in ("late", "log", "erase"):
            await self.assert_two_stories(f"clear={clear}")
            await self.stop()

    async def test_emoji(self) -> None:
        """
        Text behind emoji of several characters is exact, however Kiro counts their columns.
        """
        for count in ("cluster", "sum"):
            await self.assert_two_stories(f"counts={count}")
            await self.stop()


class LineTests(ServerTestCase):
    """
    Tests for a program that has only a prompt.
    """

    async def start_line(self, pattern: str = "^> $", **env: Any) -> None:
        command = shlex.join([sys.executable, "-m", "tests.fakeline"])
        options = ("--agent-command", command, "--prompt-pattern", pattern)
        await self.start(*options, workers=1, **env)

    async def test_queries(self) -> None:
        """
        A program that waits for the position of its cursor becomes ready; a query in an answer
        types nothing.
        """
        await self.start_line(FAKEKIRO="asks")
        response, story = await self.story("An idea [[query]]")
        self.assertEqual((response.code, story["title"]), (200, "An idea [[query]]"), story)

    async def test_prompt_toolkit(self) -> None:
        """
        A prompt of prompt_toolkit matches, with empty rows below it, with a lost Enter, and
        shown before the answer has ended.
        """
        for faults in ("toolkit=0", "toolkit=7", "toolkit=2 lostenter", "toolkit=0 early=0.8"):
            await self.start_line("^ask> $", FAKEKIRO=faults)
            response, story = await self.story('Say "yes"')
            self.assertEqual((response.code, story.get("title")), (200, 'Say "yes"'), faults)
            await self.stop()

    async def test_clear(self) -> None:
        """
        The next request waits until a program confirms the clear, after its prompt.
        """
        command = f"program = {sys.executable!r}\narguments = ['-m', 'tests.fakeline']\n"
        clear = "[clear]\ntype = \"forget\\r\"\ndone = '(?m)^Forgotten'\n"
        (self.folder / "mine.toml").write_text(
            "extends = 'generic'\nname = 'mine'\n"
            f"[start]\n{command}[line]\nprompt = '^ask> $'\nquiet = 0.2\n{clear}"
        )
        await self.start("--agent", "./mine.toml", workers=1, FAKEKIRO="toolkit=0 forget=1")
        pids = await self.pids()
        for idea in ("Export the list", 'Say "yes"'):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story.get("title")), (200, idea), story)
        self.assertEqual(await self.pids(), pids)

    async def test_wrong_pattern(self) -> None:
        """
        If the prompt never matches, the error shows the last line and the pattern.
        """
        command = shlex.join([sys.executable, "-m", "tests.fakeline"])
        options = ("--agent-command", command, "--prompt-pattern", "^ask> $", "--port", "0")
        self.server = self.run_twistd(*options, "--workers", "1", KIROWORKERS_STARTUP_TIMEOUT="3")
        self.addCleanup(self.stop)
        await self.server.says("after '>', which does not match the prompt pattern '\\^ask> \\$'")

    async def test_stories(self) -> None:
        """
        Each answer comes from a process of its own, and the worker remains healthy.
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
        A request whose line would be too long for a terminal is refused, and the session
        lives on.
        """
        await self.start_line()
        pids = await self.pids()
        response, body = await self.story("x" * 5000)
        self.assertEqual((response.code, body["code"]), (413, "prompt_too_long"), body)
        self.assertEqual(await self.pids(), pids)

    async def test_timeout(self) -> None:
        """
        After a turn that timed out, a new process answers the next request.
        """
        await self.start_line(KIROWORKERS_REQUEST_TIMEOUT="1.5")
        response, _ = await self.story("never [[silent]]")
        self.assertEqual(response.code, 504)
        response, story = await self.story("the next")
        self.assertEqual((response.code, story["title"]), (200, "the next"), story)

    async def test_wrong_settings(self) -> None:
        """
        The error for a command that does not exist is one line.
        """
        server = self.run_twistd("--port", "0", "--agent-command", "no-such-program --chat")
        self.assertEqual(await server.ended, 78)
        self.assertIn("no-such-program is not on PATH", server.output)


class ToolTests(ServerTestCase):
    """
    Tests for an agent that asks whether it may use a tool.
    """

    async def test_denied(self) -> None:
        """
        By default the tool is denied, as a header says; if the agent then gives no valid
        answer, the error says that the tool was denied.
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
        With --allow-tools the tool is allowed, as a header says.
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


class ConsentTests(ServerTestCase):
    """
    Tests for an agent that asks for consent at the start.
    """

    async def test_consent(self) -> None:
        """
        The consent that Kiro asks for at the start is given, although Enter alone would
        refuse it.
        """
        self.path = install_fake_kiro(self.folder / "bin", "tests.faketui")
        mine = Path(self.folder / "mine.toml")
        mine.write_text('extends = "kiro-tui"\nname = "mine"\n')
        await self.start("--agent", str(mine), workers=1, FAKEKIRO="consent style=bullet")
        response, story = await self.story("An idea")
        self.assertEqual((response.code, story["title"]), (200, "An idea"), story)
        self.assertEqual(self.header(response, "x-kiroworkers-agent"), "mine")
