"""
Tests for custom tasks: ``--tasks`` and ``kiroworkers task``.
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

#: The stand-in for Kiro answers this task with the request itself.
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
        SIGHUP reloads the folder; if a file or a default value in the configuration file is
        invalid, all tasks stay as they were, and the log says why.
        """
        self.write(ECHO.replace('"echo"', '"generate-test"'), "mine.toml")
        config = self.folder / "kiro.toml"
        config.write_text('[tasks]\nstrict-input = true\n[tasks.echo]\nsaid = "configured"\n')
        await self.start("--tasks", "tasks", "--config", str(config), workers=1)
        self.assertIn("mine.toml replaces the built-in task generate-test", self.server.output)
        self.assertIn(
            "tasks: analyze-invest, generate-story, generate-test, echo", self.server.output
        )
        response, body = await self.ask("echo", {"said": "y"})
        self.assertEqual((response.code, body), (200, {"said": "y"}))
        response, body = await self.ask("echo", {})
        self.assertEqual((response.code, body), (200, {"said": "configured"}))
        response, body = await self.ask("generate-story", {"idea": "x", "component": []})
        self.assertEqual((response.code, body["field"]), (400, "component"))
        self.write(ECHO.replace('"echo"', '"other"'))
        self.write("name = 3", "mine.toml")
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says(r"the tasks were not reloaded: .*mine.toml: title: is missing")
        self.assertEqual((await self.ask("echo", {"said": "y"}))[0].code, 200)
        self.assertEqual((await self.ask("other", {"said": "y"}))[0].code, 404)
        (self.tasks / "mine.toml").unlink()
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says(
            r"the tasks were not reloaded: .*kiro.toml: \[tasks.echo\]: there is"
        )
        self.assertEqual((await self.ask("echo", {"said": "y"}))[0].code, 200)
        self.write(ECHO, "mine.toml")
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says("tasks: analyze-invest, generate-story, generate-test, other, echo")
        self.assertEqual((await self.ask("generate-test", {"said": "y"}))[0].code, 400)
        self.assertEqual((await self.ask("other", {"said": "y"}))[0].code, 200)

    async def test_no_start(self) -> None:
        """
        An invalid file prevents the start, with one line that has its path, the key and
        the reason; so does a missing folder.
        """
        for text, reason in [
            (ECHO.replace("title", "titel"), "titel: is unknown"),
            (f'agent = "q"{ECHO}', "agent: this server does not run 'q', only kiro;"),
            (f"{ECHO}[limits]\ntimeout = 600", "limits.timeout: is above --request-timeout, 120"),
        ]:
            self.write(text)
            program = self.run_twistd("--port", "0", "--tasks", "tasks")
            self.assertEqual(await program.ended, 78, program.output)
            self.assertRegex(program.output, rf"(?m)^kiroworkers: /.*/echo\.toml: {reason}")
            self.assertNotIn("Traceback", program.output)
        program = self.run_twistd("--port", "0", "--tasks", "nowhere")
        self.assertEqual(await program.ended, 64, program.output)
        self.assertIn("--tasks nowhere: does not exist", program.output)

    async def check(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run the checker; return its exit status, standard output and standard error.
        """
        return await deferToThread(run, "check", str(self.tasks / "echo.toml"), *arguments)

    async def test_ask(self) -> None:
        """
        The checker sends the example or another input to a server, with a token, and
        reports answers that are not valid.
        """
        tokens = self.folder / "tokens"
        tokens.write_text("me ask " + "a" * 20)
        mine = self.folder / "mine"
        mine.write_text("a" * 20 + "\n")
        source = self.folder / "input.json"
        source.write_text('{"said": "other"}')
        await self.start("--tasks", "tasks", "--token-file", str(tokens), workers=1)
        ask = ("--ask", self.base, "--token-file", str(mine))
        status, out, err = await self.check(*ask)
        self.assertEqual((status, json.loads(out)), (0, {"said": "hello"}), err)
        self.assertIn("answered by kiro, worker1 in", err)
        status, out, err = await self.check(*ask, "--input", str(source))
        self.assertEqual((status, json.loads(out)), (0, {"said": "other"}), err)
        self.assertIn('Request: {"said":"other"}', err)
        status, _, err = await self.check(*ask, "--agent", "q")
        self.assertEqual(status, 1)
        self.assertIn("echo answered 400: ", err)
        mine.write_text("b" * 20)
        status, _, err = await self.check(*ask)
        self.assertEqual(status, 1)
        self.assertIn("echo answered 401: ", err)
        await self.stop()
        status, _, err = await self.check(*ask)
        self.assertEqual(status, 1)
        self.assertIn("cannot reach http://127.0.0.1", err)


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run the command; return its exit status, standard output and standard error.
    """
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = int(str(exit.code))
    return status, out.getvalue(), err.getvalue()


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
        For a valid file the prompt is shown, for the example or for another input.
        """
        status, out, err = self.check()
        self.assertEqual((status, err), (0, ""))
        self.assertIn('echo: Echo\n\nTask: echo\nRequest: {"said":"hello"}\n', out)
        source = Path(self.mktemp())
        source.write_text('{"said": "`"}')
        self.assertIn('Request: {"said":"\\u0060"}\n', self.check("--input", source)[1])

    def test_unknown_field(self) -> None:
        """
        A field of the input that the task does not know is reported, with the nearest name.
        """
        self.file.write_text(ECHO.replace("[input]", "[input]\nproperties.said = {}"))
        source = Path(self.mktemp())
        source.write_text('{"sad": "x"}')
        status, _, err = self.check("--input", source)
        self.assertEqual(status, 0)
        self.assertEqual(err, "ignored: sad is an unknown field; did you mean said?\n")

    def test_wrong(self) -> None:
        """
        An invalid file, input or token is reported in one line, and the status is 1.
        """
        source = Path(self.mktemp())
        ask = ("--ask", "http://127.0.0.1:1", "--token-file", source)
        for text, arguments, reason in [
            ('{"said"', ("--input", source), "the input is not JSON: "),
            ("[" * 100_000, ("--input", source), "the input is not JSON: "),
            ("[1]", ("--input", source), "must be an object"),
            ("two words", ask, "must hold one token and nothing else"),
            ("", ("--input", "nowhere"), "the input nowhere cannot be read: No such file"),
        ]:
            source.write_text(text)
            status, _, err = self.check(*arguments)
            self.assertEqual(status, 1)
            self.assertIn(reason, err)
            self.assertNotIn("two words", err)
        self.file.write_text("name = 3")
        status, out, err = self.check()
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, f"{self.file}: title: is missing\n")

    def test_misused(self) -> None:
        """
        An invalid command line ends with status 2.
        """
        self.assertEqual(self.check("--ask", "nowhere")[0], 2)
        self.assertEqual(run()[0], 2)
        self.assertEqual(run("check")[0], 2)
