"""
A stand-in for Kiro whose answers are expensive to read.

It is `tests.fakekiro` in the classic interface and over ACP, and `tests.faketui` in the
full-screen interface, whichever its arguments ask for.  If the prompt contains
``[[costly=KIND,SIZE]]``, the answer is about SIZE characters of what `KINDS` says, followed
by the usual answer, or after it with ``first``.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Mapping
from types import MappingProxyType

from tests import fakeacp, fakekiro, faketui

#: An object that fits the task generate-story.
_STORY = (
    '{"title": "A", "asA": "b", "iWant": "c", "soThat": "d", "storyPoint": 3, '
    '"components": [], "acceptanceCriteria": ["e"]}'
)

_CONTROLS = "".join(map(chr, [*range(1, 3), *range(5, 9), 11, 12, *range(14, 26), 127, 0x9B]))

#: What the answer is made of, by the name of its kind.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "objects": '{"a":1}\n',
        "lists": "[1]\n",
        "stories": _STORY + "\n",
        "unlike": _STORY.replace("3", "99") + "\n",
        "nearly": '{"a": 1, "b": [2,\n',
        "joined": '{"a":1}',
        "braces": "{",
        "brackets": '[{"a":',
        "quotes": '"',
        "backslashes": '\\"',
        "escapes": '{"a":"\\u0041\\n',
        "fences": "```json\n{}\n```\n",
        "words": "All work and no play {makes} Jack a [dull] boy. ",
        "line": "x",
        "newlines": "\n",
        "returns": "x\r",
        "colours": "\x1b[31mred\x1b[0m ",
        "cursor": "\x1b[2K\x1b[1Gx\x1b[1A",
        "controls": _CONTROLS,
        "wide": "\u6f22\U0001f469\u200d\U0001f4bb",
        "numbers": "123456789012345678901234567890.5e5,",
    }
)


def costly_text(kind: str, size: int) -> str:
    """
    Return about `size` characters of that kind.
    """
    if kind == "random":
        rng = random.Random(size)
        parts = (rng.choice([*KINDS.values()]) for _ in itertools.count())
        return "".join(itertools.islice(parts, size // 10))
    if kind == "nested":
        return '{"a":' * (size // 6) + "1" + "}" * (size // 6)
    if kind == "properties":
        return "{" + ", ".join(f'"p{number}": {number}' for number in range(size // 15)) + "}"
    return KINDS[kind] * (size // len(KINDS[kind]))


def answer_text(text: str, faults: Mapping[str, str] = MappingProxyType({}), known: int = 0) -> str:
    """
    Return the answer to the prompt `text`; the arguments are those of `fakekiro.answer_text`.
    """
    usual = _answer_text(text, faults, known)
    if "costly" not in faults:
        return usual
    kind, _, size = faults["costly"].partition(",")
    costly = costly_text(kind, int(size))
    return f"{usual}\n{costly}" if "first" in faults else f"{costly}\n{usual}"


_answer_text = fakekiro.answer_text


def main(arguments: list[str]) -> int:
    """
    Act as `kiro-cli` with these arguments, and return the exit status.
    """
    for module in (fakekiro, fakeacp, faketui):
        vars(module)["answer_text"] = answer_text
    # The classic interface shows the answer as it is: markdown in megabytes is slow to draw.
    # Over ACP there is one process, whose parent is the session's supervisor.
    os.environ["FAKEKIRO"] = "verbatim fork=no"
    if arguments == ["chat", "--trust-tools="]:
        return faketui.main(arguments)
    return fakekiro.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
