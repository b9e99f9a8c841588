"""
Tests that JSON survives the way through a session, whatever it holds.

The stand-in of each dialect prints it, as a real program on a real PTY of its width.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.trial.unittest import TestCase

from kiroworkers.errors import AnswerUnreadable
from kiroworkers.tasks.answer import find_answer
from kiroworkers.tasks.literal import json_literal
from tests import LONG
from tests.session.test_contract import RealSessionStarter, tui_markers

VALUES = 500
#: The same for sessions in which two threads print at once; each of their turns takes longer.
RACING_VALUES = int(os.environ.get("KIROWORKERS_RACING_VALUES", "60"))
#: How many of the objects are too large for a screen many times over.
LARGE = 3
SCHEMA = {"type": "object", "required": ["value"]}

#: What a terminal, a line editor, a renderer of markdown or a parser of JSON
#: could take for more than text.
_PIECES = [
    *'{}[]":,\\/`*_~<>&|!@#$%^()',
    *("**bold**", "_it_", "[a](b)", "```", "```json", "~~no~~", "&lt;", "&amp;lt;", "&quot;"),
    *("> ", "[y/n]:", "\n> ", "\r\n", "\t", "\x1b[?2004h", "\x1b[38;5;93m> \x1b[0m", "\x07"),
    *(
        "\u202e",
        "\u2028",
        "\x00",
        "\x7f",
        "\x9b",
        "\ud800",
        "🎉",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
        "大きい",
    ),
    *("Allow this action? [y/n/t]:", "ThrottlingException", "You are not logged in", '{"a": 1}'),
    *(" ", "  ", "word", "a longer piece of text ", "\\u0041", "\\n", '\\"', "\\\\"),
]


def value(random: Random, depth: int = 0) -> Any:
    """
    Return a random JSON value.
    """
    match random.randrange(8 if depth < 4 else 5):
        case 0:
            return random.choice([None, True, False, 0, -1, 1.5, 1e300, 10**30])
        case 1 | 2 | 3 | 4:
            return text(random, random.randrange(30))
        case 5:
            return [value(random, depth + 1) for _ in range(random.randrange(5))]
        case _:
            return {text(random, 3): value(random, depth + 1) for _ in range(random.randrange(5))}


def text(random: Random, pieces: int) -> str:
    """
    Return a random string of so many pieces.
    """
    return "".join(random.choices(_PIECES, k=pieces))


def values(random: Random, number: int) -> list[dict[str, Any]]:
    """
    Return `number` objects, from tiny ones to half a megabyte, the `LARGE` ones last.
    """
    objects: list[dict[str, Any]] = [{"value": value(random)} for _ in range(number - LARGE - 2)]
    objects += [{"value": text(random, 5000 * size)} for size in (1, 4, 10)]
    objects += [{"value": "x" * 500_000}, {"value": [value(random) for _ in range(3000)]}]
    return objects


class FidelityTests(RealSessionStarter):
    """
    Tests for one dialect.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    number = VALUES
    #: Whether to send the `LARGE` objects as well.
    with_large = True
    #: How many answers may be refused because they cannot be read reliably.
    max_refused = 0
    assertEqual: Callable[..., None]
    assertLessEqual: Callable[..., None]

    async def test_values(self) -> None:
        """
        Each of hundreds of objects comes back unchanged or is refused.
        """
        watched = await self.started()
        refused = 0
        objects = values(Random(3), self.number)
        for sent in objects if self.with_large else objects[:-LARGE]:
            prompt = f"Task: echo\nRequest: {json_literal(sent)}\nGive it back. [[think=0]]"
            try:
                reply = await self.wait(watched.ask(prompt))
                answer = find_answer(reply.text, SCHEMA, wrapped=reply.wrapped, styled=reply.styled)
            except AnswerUnreadable:
                refused += 1
            else:
                self.assertEqual(answer.value, sent)
            await self.wait(watched.idle())
        self.assertLessEqual(refused, self.max_refused)
        await self.stop(watched)


class KiroTests(FidelityTests, TestCase):
    """
    Tests for Kiro's classic interface.
    """


class QTests(FidelityTests, TestCase):
    """
    Tests for Amazon Q, its ancestor.
    """

    dialect = "q"
    faults = "era=q"


class RacingQTests(QTests):
    """
    Tests for Amazon Q with a line editor that cuts what another thread prints, anywhere.
    """

    faults = "era=q raceall=1"
    number = RACING_VALUES


class RacingKiroTests(FidelityTests, TestCase):
    """
    Tests for Kiro's classic interface where its question before a clear is cut.
    """

    faults = "race=1"
    number = RACING_VALUES


class TuiTests(FidelityTests, TestCase):
    """
    Tests for Kiro's full-screen interface, read from its screen.

    An answer with a row that ends inside a string is refused, and so is one that does not
    fit on the screen.
    """

    dialect = "kiro-tui"
    arguments = ("-m", "tests.faketui", "chat")
    # A screen costs far more to read than a line.
    number = VALUES // 5
    max_refused = number // 10
    # The stand-in draws nothing after its idle sign here.
    changes = tui_markers("quiet = 0.01")


class UnwrappedTuiTests(TuiTests):
    """
    Tests for the full-screen interface where only the terminal's edge cuts lines.
    """

    # They take most of the time, and are read as in `TuiTests`.
    with_large = LONG
    faults = "unwrapped"
    changes = tui_markers("quiet = 0.01\nwraps = false")


class JournalTuiTests(TuiTests):
    """
    Tests for the full-screen interface with a journal.
    """

    with_large = LONG
    faults = "journal"
    max_refused = 0
