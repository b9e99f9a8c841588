"""
Tests for `tests.snippets`, and for the snippets of all pages as far as they need no server.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.settings import options
from tests.programs import ROOT
from tests.snippets import BadPage, Mark, Snippet, find_difference, read_page

#: Every page of the documentation.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.rst", "docs/**/*.rst", "clients/*/*.rst", "deploy/**/*.rst")
    for path in ROOT.glob(pattern)
)


def snippets() -> Iterator[Snippet]:
    """
    Yield the snippets of all pages.
    """
    for page in PAGES:
        yield from read_page(page, (ROOT / page).read_text(encoding="utf-8"))


def check_tables(content: Mapping[str, Mapping[str, object]]) -> None:
    """
    Raise `ValueError` if a configuration file has tables or keys that the server does not know.

    The values are not read, because they may name files of another machine.
    """
    known = {(option.group, option.key) for option in options()}
    given = {(table, key) for table, keys in content.items() for key in keys if table != "tasks"}
    if given - known:
        raise ValueError(f"the server has no {sorted(given - known)}")


def parse(snippet: Snippet) -> None:
    """
    Raise `ValueError` if a snippet is not valid in its language.
    """
    if snippet.has("output"):
        return
    match snippet.language:
        case "python":
            try:
                compile(snippet.text, snippet.place, "exec")
            except SyntaxError as error:
                raise ValueError(str(error)) from None
        case "toml":
            content = tomllib.loads(snippet.text)
            if "kiroworkers.toml" in snippet.text.partition("\n")[0]:
                check_tables(content)
        case "json" if snippet.has("parse") or snippet.has("file"):
            json.loads(snippet.text)
        case "ini":
            # Units of systemd repeat keys.
            parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
            try:
                parser.read_string(snippet.text)
            except configparser.Error as error:
                raise ValueError(str(error)) from None


class ReadPageTests(SynchronousTestCase):
    """
    Tests for `read_page`.
    """

    def test_blocks(self) -> None:
        """
        A block has its language, its text without the indentation, and the comments above it;
        options and blocks in lists are understood.
        """
        text = (
            "Title\n=====\n\n* Item:\n\n  .. test: needs httpx\n  .. test: fails\n\n"
            "  .. code-block:: python\n     :caption: x\n\n     if x:\n\n         y\n\nText\n\n"
            ".. test: output\n\n.. code-block:: text\n\n   z\n"
        )
        first, second = read_page("p.rst", text)
        self.assertEqual(
            first,
            Snippet(
                "p.rst",
                9,
                "python",
                "if x:\n\n    y\n",
                (Mark("needs", "httpx"), Mark("fails")),
            ),
        )
        self.assertEqual((second.text, second.marks), ("z\n", (Mark("output"),)))
        self.assertTrue(first.is_program)
        self.assertFalse(second.is_program)

    def test_reason(self) -> None:
        """
        A block that is skipped has a reason, and is not run.
        """
        [snippet] = read_page(
            "p", ".. test: skip (needs Kiro)\n\n.. code-block:: sh\n\n   kiro-cli\n"
        )
        self.assertEqual(snippet.skip_reason, "needs Kiro")
        self.assertFalse(snippet.is_program)

    def test_literal_blocks(self) -> None:
        """
        A literal block needs no comment, unless it has a command.
        """
        self.assertEqual(read_page("p", "It prints::\n\n   ok\n"), [])
        with self.assertRaisesRegex(BadPage, "p:1: commands need a code-block"):
            read_page("p", "Run::\n\n   curl http://x\n")

    def test_refused(self) -> None:
        """
        A block without a comment, an unknown comment, one without a reason or a block, and
        commands that install are refused, with their place.
        """
        for text, message in (
            (".. code-block:: toml\n\n   a = 1\n", "p:1: the block does not say"),
            (".. test: ship\n\n.. code-block:: sh\n\n   ls\n", "p:3: unknown comment.*ship"),
            (".. test: skip\n\n.. code-block:: sh\n\n   ls\n", "p:3: skip needs"),
            (".. test: skip ()\n\n.. code-block:: sh\n\n   ls\n", "p:3: skip needs"),
            (".. test: output\n\nText\n", "p:3: a comment about a test needs a block"),
            (".. code-block:: sh\n\nText\n", "p:1: the block is empty"),
            (".. test: parse\n\n.. code-block:: yaml\n\n   a: 1\n", "p:3: nothing parses yaml"),
            (".. code-block:: sh\n\n   x/pip install y\n", "p:1: .*must be skipped"),
        ):
            with self.assertRaisesRegex(BadPage, message):
                read_page("p", text)


class FindDifferenceTests(SynchronousTestCase):
    """
    Tests for `find_difference`.
    """

    def test_equal(self) -> None:
        """
        Outputs match whatever the layout of their JSON, what ``…`` stands for, and what differs
        between two runs.
        """
        for expected, actual in (
            ("a\n", "a"),
            ("a … c\n", "a b b c\n"),
            ("a\n…\nd\n", "a\nb\nc\nd\n"),
            ("a\n…\nd\n", "a\nd\n"),
            ("a\n…\n", "a\nb\nc\n"),
            ("a\n…\n", "a\n"),
            ("…\nd\n", "b\nd\n"),
            ('{\n "a": [1]}\n', '{"a":[1]}'),
            ('{"a": "…"}', '{"a":[1]}'),
            ('{"a": 1, "…": "…"}', '{"a":1,"b":2}'),
            ('{"a": "by … rules"}', '{"a":"by its rules"}'),
            ("worker1 in 20 ms on 127.0.0.1:8080", "worker2 in 3 ms on 127.0.0.1:4711"),
            ("Retry-After: 6", "Retry-After: 12"),
            ('{"created": 1795990472903}', '{"created":1795990472999}'),
        ):
            self.assertEqual(find_difference(expected, actual), "", expected)

    def test_different(self) -> None:
        """
        Anything else is a difference, which shows both texts.
        """
        for expected, actual in (
            ("a\n", "b"),
            ("a\n", "a\nb"),
            ("a\n…\n", "b\na\n"),
            ("a\n…\nd\n", "a\nd\ne\n"),
            ('{"a": 1}', '{"a":1,"b":2}'),
            ('{"a": 1}', '{"a":2}'),
            ('{"a": "x…"}', '{"a":"yx"}'),
            ('{"a": [1]}', '{"a":[1,2]}'),
            ('{"a": 1}', "a"),
            ("worker1", "worker"),
        ):
            difference = find_difference(expected, actual)
            for text in (expected, actual):
                self.assertIn(text.strip().split("\n")[0], difference)


class PageTests(SynchronousTestCase):
    """
    Tests for the pages.
    """

    def test_pages(self) -> None:
        """
        Every snippet of every page says how it is tested, and an output follows a program.
        """
        wrong = []
        for page in PAGES:
            ran = False
            try:
                for snippet in read_page(page, (ROOT / page).read_text(encoding="utf-8")):
                    if snippet.has("output") and not (ran or snippet.skip_reason):
                        wrong.append(f"{snippet.place}: the output of what?")
                    ran = ran or snippet.is_program
            except BadPage as error:
                wrong += str(error).splitlines()
        self.assertEqual(wrong, [])

    def test_languages(self) -> None:
        """
        Programs in Python, and files in TOML, JSON and INI form, are valid, also those that are
        not run.
        """
        for snippet in snippets():
            try:
                parse(snippet)
            except ValueError as error:
                self.fail(f"{snippet.place}: {error}")

    def test_flags(self) -> None:
        """
        Every flag of a command that starts a server exists, also where the command is not run.
        """
        known = {option.flag for option in options()}
        pattern = re.compile(r"(?:pidfile= kiroworkers|kiroworkers serve) ([^&|;\n]+)")
        for snippet in snippets():
            if snippet.language in ("sh", "ini") and not snippet.has("fails"):
                for command in pattern.findall(snippet.text.replace("\\\n", " ")):
                    flags = {
                        word.split("=")[0]
                        for word in shlex.split(command, comments=True)
                        if word.startswith("--")
                    }
                    self.assertLessEqual(flags, {*known, "--help"}, snippet.place)
