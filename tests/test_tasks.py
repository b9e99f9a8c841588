"""
Tasks of a user's: served from a folder, checked by a command.
"""

from __future__ import annotations

import io
import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.task import main
from tests.servers import ServerTestCase
from tests.tasks.test_catalogue import GOOD

#: The stand-in answers it with the request.
ECHO = GOOD.replace(
    'prompt = "Say {{ request }}',
    'prompt = "Task: echo\\nRequest: {{ request }}\\nSay it',
).replace("input = {}", 'input = { said = "hello" }')


class ServedTests(ServerTestCase):
    """
    Tests for ``--tasks``.
    """

    def setUp(self) -> None:
        super().setUp()
        self.tasks = self.folder / "tasks"
        self.tasks.mkdir()
        self.write(ECHO)

    def write(self, text: str, file: str = "echo.toml") -> None:
        (self.tasks / file).write_text(text, encoding="utf-8")

    async def test_hang_up_signal(self) -> None:
        """
        SIGHUP reads the folder again; when a file is wrong all tasks stay as they
        were, and the log says why.
        """
        self.write(ECHO.replace('"echo"', '"generate-test"'), "mine.toml")
        await self.start("--tasks", "tasks", workers=1)
        self.assertIn("mine.toml replaces the built-in task generate-test", self.server.output)
        self.assertIn(
            "tasks: analyze-invest, generate-story, generate-test, echo", self.server.output
        )
        response, body = await self.ask("echo", {"said": "y"})
        self.assertEqual((response.code, body), (200, {"said": "y"}))
        self.write(ECHO.replace('"echo"', '"other"'))
        self.write("name = 3", "mine.toml")
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says(r"the tasks stay as they were: .*mine.toml: title: is missing")
        self.assertEqual((await self.ask("echo", {"said": "y"}))[0].code, 200)
        self.assertEqual((await self.ask("other", {"said": "y"}))[0].code, 404)
        (self.tasks / "mine.toml").unlink()
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says("tasks: analyze-invest, generate-story, generate-test, other")
        self.assertEqual((await self.ask("echo", {"said": "y"}))[0].code, 404)
        self.assertEqual((await self.ask("other", {"said": "y"}))[0].code, 200)

    async def test_no_start(self) -> None:
        """
        A file that is wrong stops the start in one line, with its path, the key and
        the reason; and so does a folder that is none.
        """
        for text, reason in [
            (ECHO.replace("title", "titel"), "titel: is not known"),
            (f'agent = "q"{ECHO}', "agent: 'q' does not answer here, only kiro;"),
            (f"{ECHO}[limits]\ntimeout = 600", "limits.timeout: is above --request-timeout, 120"),
        ]:
            self.write(text)
            program = self.run_twistd("--port", "0", "--tasks", "tasks")
            self.assertEqual(await program.ended, 1, program.output)
            self.assertRegex(program.output, rf" kiroworkers: /.*/echo\.toml: {reason}")
            self.assertNotIn("Traceback", program.output)
        program = self.run_twistd("--port", "0", "--tasks", "nowhere")
        self.assertEqual(await program.ended, 1, program.output)
        self.assertIn("--tasks: 'nowhere': is not a folder", program.output)

    async def check(self, *arguments: str) -> tuple[int, str, str]:
        """
        The exit status, the output and what was said aside.
        """
        return await deferToThread(run, "check", str(self.tasks / "echo.toml"), *arguments)

    async def test_ask(self) -> None:
        """
        The checker asks a server for the example or for another input, bears a
        token, and says what is no answer.
        """
        tokens = self.folder / "tokens"
        tokens.write_text("me ask " + "a" * 20)
        mine = self.folder / "mine"
        mine.write_text("a" * 20 + "\n")
        given = self.folder / "input.json"
        given.write_text('{"said": "other"}')
        await self.start("--tasks", "tasks", "--token-file", str(tokens), workers=1)
        ask = ("--ask", self.base, "--token-file", str(mine))
        status, said, aside = await self.check(*ask)
        self.assertEqual((status, json.loads(said)), (0, {"said": "hello"}), aside)
        self.assertIn("answered by kiro, worker1 in", aside)
        status, said, aside = await self.check(*ask, "--input", str(given))
        self.assertEqual((status, json.loads(said)), (0, {"said": "other"}), aside)
        self.assertIn('Request: {"said":"other"}', aside)
        status, _, aside = await self.check(*ask, "--agent", "q")
        self.assertEqual(status, 1)
        self.assertIn("echo answered 400: ", aside)
        mine.write_text("b" * 20)
        status, _, aside = await self.check(*ask)
        self.assertEqual(status, 1)
        self.assertIn("echo answered 401: ", aside)
        await self.stop()
        status, _, aside = await self.check(*ask)
        self.assertEqual(status, 1)
        self.assertIn("cannot reach http://127.0.0.1", aside)


def run(*arguments: str) -> tuple[int, str, str]:
    """
    The exit status, the output and what was said aside.
    """
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()) as aside:
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = int(str(exit.code))
    return status, said.getvalue(), aside.getvalue()


class CheckTests(SynchronousTestCase):
    """
    Tests for the command, without a server.
    """

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.file.write_text(ECHO)

    def check(self, *arguments: Any) -> tuple[int, str, str]:
        return run("check", str(self.file), *map(str, arguments))

    def test_good(self) -> None:
        """
        A good file shows its prompt for the example, or for another input.
        """
        status, said, aside = self.check()
        self.assertEqual((status, aside), (0, ""))
        self.assertIn('echo: Echo\n\nTask: echo\nRequest: {"said":"hello"}\n', said)
        given = Path(self.mktemp())
        given.write_text('{"said": "`"}')
        self.assertIn('Request: {"said":"\\u0060"}\n', self.check("--input", given)[1])

    def test_wrong(self) -> None:
        """
        What is wrong with the file, the input or the token is said in a line, and
        the status is 1.
        """
        given = Path(self.mktemp())
        ask = ("--ask", "http://127.0.0.1:1", "--token-file", given)
        for text, arguments, reason in [
            ('{"said"', ("--input", given), "the input is no JSON: "),
            ("[1]", ("--input", given), "must be an object"),
            ("two words", ask, "holds not just a token"),
            ("", ("--input", "nowhere"), "No such file"),
        ]:
            given.write_text(text)
            status, _, aside = self.check(*arguments)
            self.assertEqual(status, 1)
            self.assertIn(reason, aside)
            self.assertNotIn("two words", aside)
        self.file.write_text("name = 3")
        status, said, aside = self.check()
        self.assertEqual((status, said), (1, ""))
        self.assertEqual(aside, f"{self.file}: title: is missing\n")

    def test_misused(self) -> None:
        """
        A command line that makes no sense ends with status 2.
        """
        self.assertEqual(self.check("--ask", "nowhere")[0], 2)
        self.assertEqual(run()[0], 2)
        self.assertEqual(run("check")[0], 2)
