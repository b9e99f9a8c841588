"""
Tests for docs/logging.rst: its lists are those of the code.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import kiroworkers
from kiroworkers.telemetry.access_log import _COMBINED_FACTS, _FACTS

_PACKAGE = Path(kiroworkers.__file__).parent
_PAGE = _PACKAGE.parent / "docs" / "logging.rst"

#: What differs from one line to another.
_VARIABLE = re.compile(r"[A-Z]{2,}\w*|\b\w*\d[\w.]*|…|[^\w\s:]+|\bkiro\b|\bPATH\b")


class PageTests(SynchronousTestCase):
    """
    Tests for the page.
    """

    def setUp(self) -> None:
        if not _PAGE.exists():
            self.skipTest("the package was installed without its documentation")
        self.page = _PAGE.read_text("utf-8")

    def test_facts(self) -> None:
        """
        The page lists each fact about a request, by its names in text and in JSON.
        """
        rows = self.section("End of a request")
        for text, json, _ in _FACTS:
            self.assertRegex(rows, rf"``{text}(=yes)?``")
            self.assertIn(f"``{json}``", rows)
        for json, _ in _COMBINED_FACTS:
            self.assertIn(f"``{json}``", rows)

    def test_lines(self) -> None:
        """
        Each line that the page lists is logged by the package.
        """
        source = "\n".join(
            " ".join(path.read_text("utf-8").split()) for path in _PACKAGE.rglob("*.py")
        )
        cells = re.findall(
            r"\n   \* - (``.*?)\n     - ", self.section("Which lines there are"), re.S
        )
        lines = [line for cell in cells for line in re.findall(r"``([^`]+)``", cell)]
        self.assertGreater(len(lines), 25)
        for line in lines:
            for part in re.split(_VARIABLE, " ".join(line.split())):
                words = part.strip(" :")
                if len(words) > 3:
                    self.assertIn(words, source, line)

    def section(self, title: str) -> str:
        """
        Return the text below a title.
        """
        text = self.page.partition(f"\n{title}\n{'-' * len(title)}\n")[2]
        self.assertNotEqual(text, "", title)
        return re.split(r"\n[^\n]+\n-{4,}\n", text)[0]
