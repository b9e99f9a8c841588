"""
Tests for the pages of the documentation as a whole.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.programs import ROOT

#: The figures in README, each with its row in the table of benchmarks, and the digits to keep.
_FIGURES = (
    ("0.8 ms", "kiroworkers over HTTP, p50", 1),
    ("1.5 times", "kiroworkers to (b), p50", 1),
    ("0.04 %", "CPU of one core, 100 idle", 2),
    ("1.15 times", "10,000 to 10 waiting", 2),
    ("0.03 s", "queue full: median error", 2),
)


class PageTests(SynchronousTestCase):
    """
    Tests for README and the index.
    """

    def test_readme(self) -> None:
        """
        README is short.
        """
        lines = (ROOT / "README.rst").read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len(lines), 220)

    def test_figures(self) -> None:
        """
        README has the figures of the table of benchmarks, and names benchmarks that exist.
        """
        readme = (ROOT / "README.rst").read_text(encoding="utf-8")
        table = (ROOT / "docs" / "benchmarks.rst").read_text(encoding="utf-8")
        for figure, row, digits in _FIGURES:
            self.assertIn(figure, readme)
            measured = re.search(rf"     - {re.escape(row)}\n     - ([\d.]+) ", table)
            assert measured is not None, row
            self.assertEqual(round(float(measured[1]), digits), float(figure.split()[0]), row)
        for name in re.findall(r"python -m bench (\w+)", readme):
            self.assertIn(f"   * - ``{name}``\n", table)

    def test_index(self) -> None:
        """
        The index links to every page, and Sphinx's table of contents has the same pages.
        """
        text = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
        links = re.findall(r"<([\w./-]+)\.rst>`_", text)
        entries = re.findall(r"^   ([\w./-]+)$", text, re.M)
        self.assertEqual(links, entries)
        pages = {
            str(path.relative_to(ROOT / "docs").with_suffix(""))
            for path in (ROOT / "docs").rglob("*.rst")
        }
        self.assertEqual(pages - {*links}, {"index"})
