"""
Ask one question whose answer shows whether a version of an agent is exact and fresh.

The answer must repeat a text of characters that terminals, Markdown renderers and escapes have
altered before, and name no word of an earlier canary.  This is one turn, so it cannot show what
the *next* conversation knows; ``kiroworkers prove`` does.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from attrs import frozen

from kiroworkers.errors import AnswerSchemaMismatch, AnswerUnreadable
from kiroworkers.proof.difference import first_difference
from kiroworkers.tasks import Task, load_task
from kiroworkers.tasks.task import AnswerLayout

#: What is to be copied, one example of each kind that was altered by an agent that we have seen:
#: Markdown, HTML, escapes, shell syntax, several spaces, wide and combining characters, and an
#: emoji of several code points.  A model can copy it without effort.
TEXT = (
    "**bold** __init__ [a](b) [c] <b>d</b> & \"e\" 'f' g\\n\\\\h {i} ${j} `k` #l "
    "~~m~~ 1  2   3 äß e\u0301 漢字 👩‍👩‍👧 🏳️‍🌈 end"
)

#: The words of all canaries.
_WORD = re.compile(r"canary-[0-9a-f]{16}(?![0-9a-f])")


@frozen
class CanaryQuestion:
    """
    Hold one question, and judge the reply.

    Attributes:
        nonce: 16 hexadecimal digits that no other canary has.
    """

    nonce: str

    @property
    def word(self) -> str:
        """
        Return the word that no earlier canary has had.
        """
        return f"canary-{self.nonce}"

    def prompt(self, layout: AnswerLayout) -> str:
        """
        Return the prompt.

        Args:
            layout: The layout in which JSON survives on the agent's terminal.
        """
        return _task().prompt(self._request, layout)

    def problem(self, text: str, wrapped: bool, styled: tuple[int, ...]) -> str | None:
        """
        Return what is wrong with a reply, or None if it shows what it must show.

        Args:
            text: The complete reply.
            wrapped: Whether the terminal may have broken long lines.
            styled: The offsets in `text` at which the terminal rendered it.
        """
        foreign = sorted({*_WORD.findall(text)} - {self.word})
        if foreign:
            return f"it knows {foreign[0]}, a word of an earlier canary"
        search = _task().answer_search(self._request, text, wrapped, styled)
        try:
            answer = search.find().value
        except (AnswerSchemaMismatch, AnswerUnreadable) as problem:
            return f"its answer cannot be used: {problem.reason}"
        for name, expected in self._request.items():
            if answer[name] != expected:
                return f"it altered the text: {_difference(expected, answer[name])}"
        return None

    @property
    def _request(self) -> dict[str, str]:
        return {"word": self.word, "text": TEXT}


@cache
def _task() -> Task:
    return load_task(files("kiroworkers.proof") / "canary.toml")


def _difference(expected: str, actual: str) -> str:
    """
    Return where `actual` first differs from `expected`, with a few characters of each.
    """
    start = first_difference(expected, actual)
    shown = [ascii(text[start : start + 10]) for text in (expected, actual)]
    return f"{shown[0]} became {shown[1]} at character {start + 1}"
