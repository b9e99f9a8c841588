"""
What the documentation shows works as it is shown.
"""

from __future__ import annotations

import io
import re
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


class TasksTests(ServerTestCase):
    """
    Tests for `docs/tasks.rst`.
    """

    async def test_example(self) -> None:
        """
        The page's task is served from a folder, its answer is normalised as the
        page says, and the checker asks it.
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
