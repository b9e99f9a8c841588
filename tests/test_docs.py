"""
What the documentation shows works as it is shown.
"""

from __future__ import annotations

import io
import re
import sys
import textwrap
from contextlib import redirect_stdout

from kiroworkers.dialect import main
from tests.programs import ROOT, Program, environment
from tests.servers import ServerTestCase, real


def example(page: str, language: str) -> str:
    """
    The first example in `language` on a page of the documentation.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text)
    assert found is not None, f"{page} has an example in {language}"
    return textwrap.dedent(found[1])


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
        Each example for a shell is answered.
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
        The checker accepts the page's dialect, and the page's program answers
        by it, each time from a conversation of its own and in one process.
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
