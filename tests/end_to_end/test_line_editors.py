"""
End-to-end tests with programs that read lines with real libraries, through --prompt-pattern.

Those whose library is not installed are skipped:
``pip install '.[agents]'``.
"""

from __future__ import annotations

import re
import shlex
import sys
from importlib.resources import files
from importlib.util import find_spec

from twisted.trial.unittest import SkipTest

from tests.lineeditors import KINDS
from tests.servers import ServerTestCase


class LineEditorTests(ServerTestCase):
    """
    Tests for programs with a line editor.
    """

    async def assert_answers(self, kind: str, *more: str) -> None:
        """
        Assert that a program of this kind becomes ready, and answers.

        Args:
            kind: The kind of program.
            *more: More of the server's flags.
        """
        packages, pattern = KINDS[kind]
        for package in packages:
            if find_spec(package) is None:
                raise SkipTest(f"{package} is not installed: pip install '.[agents]'")
        command = shlex.join([sys.executable, "-m", "tests.lineeditors", kind])
        options = ("--agent-command", command, "--prompt-pattern", pattern, *more)
        await self.start(*options, workers=1, KIROWORKERS_STARTUP_TIMEOUT="60")
        idea = 'Say "yes" in größer 大きい 👩\u200d👩\u200d👧 letters'
        response, story = await self.story(idea)
        self.assertEqual((response.code, story.get("title")), (200, idea), story)
        self.assertEqual(self.header(response, "x-kiroworkers-agent"), "generic")

    async def test_readline(self) -> None:
        """
        A program with GNU readline answers; its pattern has no blank at the end.
        """
        await self.assert_answers("readline")

    async def test_prompt_toolkit(self) -> None:
        """
        A program with prompt_toolkit answers.
        """
        await self.assert_answers("prompt_toolkit")

    async def test_rows_below(self) -> None:
        """
        So does one that keeps empty rows below its prompt, and shows completions there.
        """
        await self.assert_answers("completer")

    async def test_toolbar(self) -> None:
        """
        So does one that has a toolbar of several rows below its prompt, and text to its right.
        """
        await self.assert_answers("toolbar")

    async def test_rows(self) -> None:
        """
        So does one whose prompt and input take several rows, at the top of the screen.
        """
        await self.assert_answers("rows")

    async def test_questionary(self) -> None:
        """
        A program with questionary answers.
        """
        await self.assert_answers("questionary")

    async def test_inquirer(self) -> None:
        """
        A program with inquirer answers: it asks its terminal before each prompt.

        The server's prompt is short here.  With the usual one, of almost 4 KB, some turns got no
        answer on a busy machine.
        """
        tasks = self.folder / "tasks"
        tasks.mkdir()
        text = files("kiroworkers.tasks").joinpath("generate-story.toml").read_text()
        short = 'prompt = """\nTask: generate-story\nRequest: {{ request }}\n"""'
        text = re.sub('prompt = """.*?"""', short.replace("\\", "\\\\"), text, flags=re.DOTALL)
        (tasks / "generate-story.toml").write_text(text)
        await self.assert_answers("inquirer", "--tasks", str(tasks))
