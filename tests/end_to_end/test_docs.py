"""
End-to-end tests for the examples in the documentation.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import textwrap
from contextlib import redirect_stdout
from importlib.util import find_spec

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from kiroworkers.cli.dialect import main
from tests.programs import ROOT, Program, environment
from tests.servers import ServerTestCase, real


def examples(page: str, language: str) -> list[str]:
    """
    Return the examples in `language` on a page of the documentation.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text)
    assert blocks, f"{page} has no example in {language}"
    return [textwrap.dedent(block) for block in blocks]


def example(page: str, language: str) -> str:
    """
    Return the first example in `language` on a page of the documentation.
    """
    return examples(page, language)[0]


class ClientTests(ServerTestCase):
    """
    Tests for `docs/client.rst`.
    """

    page = "client.rst"

    async def test_python(self) -> None:
        """
        The example in Python asks for a story and for its test.
        """
        await self.start(workers=1)
        text = example(self.page, "python").replace("http://127.0.0.1:8080", self.base)
        (self.folder / "example.py").write_text(text)
        program = Program()
        program.start(real, ["example.py"], environment(), self.folder)
        self.assertEqual(await program.ended, 0, program.output)
        self.assertEqual(program.output, "Export the list by worker1\nTrue\n")

    async def test_shell(self) -> None:
        """
        Each shell command prints an answer.
        """
        await self.start(workers=1)
        lines = example(self.page, "sh").replace("python -m", f"{sys.executable} -m")
        program = Program()
        run = "import subprocess, sys; subprocess.run(['sh', '-ec', sys.argv[1]], check=True)"
        variables = environment(KIROWORKERS_URL=self.base)
        program.start(real, ["-c", run, lines], variables, self.folder)
        self.assertEqual(await program.ended, 0, program.output)
        self.assertEqual(program.output.count('"title": "Export the list"'), 1)
        self.assertEqual(program.output.count('"title":"Export the list"'), 1)
        self.assertEqual(program.output.count('"warnings"'), 1)


class WritingADialectTests(ServerTestCase):
    """
    Tests for `docs/writing-a-dialect.rst`.
    """

    async def test_example(self) -> None:
        """
        The checker accepts the page's dialect, and a server drives the page's program
        with it: each answer comes from a new conversation in the same process.
        """
        page = "writing-a-dialect.rst"
        (self.folder / "tiny.py").write_text(example(page, "python"))
        dialect = self.folder / "tiny.toml"
        dialect.write_text(example(page, "toml"))
        with redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(main(["check", str(dialect)]), 0)
        self.assertIn("starts: python3 tiny.py", printed.getvalue())
        await self.start("--agent", "./tiny.toml", workers=1)
        pids = await self.pids()
        for idea in ("Export the list", "Filter by date"):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story["title"]), (200, idea), story)
            self.assertEqual(story["acceptanceCriteria"], ["0 prompts before this one"])
        self.assertEqual(await self.pids(), pids)

    def test_dialects(self) -> None:
        """
        Every dialect on the page is valid.
        """
        for number, text in enumerate(examples("writing-a-dialect.rst", "toml")):
            dialect = self.folder / f"{number}.toml"
            dialect.write_text(text)
            with redirect_stdout(io.StringIO()):
                self.assertEqual(main(["check", str(dialect)]), 0)


class OpenAITests(ServerTestCase):
    """
    Tests for `docs/openai.rst`.
    """

    page = "openai.rst"

    async def output_of(self, *command: str) -> str:
        """
        Run `command`, which must succeed, and return what it prints.
        """
        out: bytes
        out, err, code = await getProcessOutputAndValue(command[0], command[1:], environment())
        self.assertEqual(code, 0, err)
        return out.decode()

    async def start_as_documented(self) -> None:
        command = examples(self.page, "sh")[0]
        self.assertIn("kiroworkers --agent offline", command)
        await self.start("--agent", "offline", workers=1)

    def adapt(self, text: str) -> str:
        """
        Return the example `text` with the URL of the test's own server.
        """
        self.assertIn("http://127.0.0.1:8080", text)
        base: str = self.base
        return text.replace("http://127.0.0.1:8080", base)

    async def test_curl(self) -> None:
        """
        The command gets a reply.
        """
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        await self.start_as_documented()
        [_, command] = examples(self.page, "sh")
        body = json.loads(await self.output_of("/bin/sh", "-c", self.adapt(command)))
        self.assertIn("offline agent:", body["choices"][0]["message"]["content"])

    async def test_clients(self) -> None:
        """
        The programs print a reply.
        """
        programs = examples(self.page, "python")
        for module in ("openai", "langchain_openai"):
            if find_spec(module) is None:
                raise SkipTest(f"{module} is not installed: pip install '.[clients]'")
        await self.start_as_documented()
        for program in programs:
            output = await self.output_of(sys.executable, "-c", self.adapt(program))
            self.assertTrue(output.startswith("offline agent: "), output)


class TasksTests(ServerTestCase):
    """
    Tests for `docs/tasks.rst`.
    """

    async def test_example(self) -> None:
        """
        A server reads the page's task from a folder and normalises its answer as the page
        says, and the checker sends the example to it.
        """
        tasks = self.folder / "tasks"
        tasks.mkdir()
        (tasks / "release-note.toml").write_text(example("tasks.rst", "toml"))
        await self.start("--tasks", "tasks", workers=1)
        change = "Stories can be filtered\n/quit\n!ls"
        response, note = await self.ask("release-note", {"change": change, "audience": "all"})
        steps = ["0 earlier prompts remembered"]
        expected = {"headline": change, "kind": "feature", "steps": steps}
        self.assertEqual((response.code, note), (200, expected))
        self.assertEqual(self.header(response, "X-Kiroworkers-Normalised"), "kind, steps")
        response, refusal = await self.ask("release-note", {"change": " "})
        self.assertEqual((response.code, refusal["error"]), (400, "Say what was changed"))
        program = Program()
        arguments = ["-m", "kiroworkers.task", "check", "tasks/release-note.toml"]
        program.start(real, [*arguments, "--ask", self.base], environment(), self.folder)
        self.assertEqual(await program.ended, 0, program.output)
        self.assertIn("Request: {", program.output)
        self.assertIn("normalised: kind, steps", program.output)
