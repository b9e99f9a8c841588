"""
Finding the answer in what an agent said: the last JSON object that fits.

Agents wrap their JSON in prose, in code fences, in second thoughts.  Every
object in the text is a candidate, read by a real JSON parser (so nesting and
braces inside strings are nothing special); the last one that fits the schema
is the answer, unless it merely repeats the prompt's own example.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from kiroworkers.errors import AnswerUnfit
from kiroworkers.schema import first_problem

#: How much text may be read in vain: so many times its own length, and some.
_PATIENCE = 4
_LEAST_PATIENCE = 1_000_000
#: What one attempt costs beside the text it reads.
_ATTEMPT = 100
#: The first window, and the longest token that its end can cut in two.
_WINDOW = 2048
_TOKEN = 16

_OPENING = re.compile(r'\{\s*["}]')


def find_answer(
    text: str, schema: Mapping[str, Any], example: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    The last object in `text` that fits `schema` and is not `example`.

    Words that `schema` lists in an `enum` are taken in any letter case and
    given back as the schema spells them.

    @raise AnswerUnfit: with the reason the last candidate was refused for.
    """
    validator = Draft202012Validator(schema)
    refusal = "there is no JSON object in it"
    for candidate in reversed(list(objects(text))):
        answer = _as_spelt(candidate, schema)
        problem = first_problem(validator, answer)
        if problem is None and answer != example:
            return answer  # type: ignore[no-any-return]  # an object stays an object
        if refusal.startswith("there is no"):
            refusal = problem.sentence if problem else "it only repeats the prompt's example"
    raise AnswerUnfit(refusal)


def objects(text: str) -> Iterator[dict[str, Any]]:
    """
    Every outermost JSON object in `text`, in order, whatever stands between.

    Text that begins like an object again and again but never is one is given
    up after work in proportion to its length.
    """
    patience = _PATIENCE * len(text) + _LEAST_PATIENCE
    opening = _OPENING.search(text)
    while opening is not None and patience > 0:
        start = opening.start()
        value, length = _object_at(text, start)
        patience -= _ATTEMPT + length
        if value is not None:
            yield value
        opening = _OPENING.search(text, start + length if value is not None else start + 1)


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """
    The object that begins at `start`, or None, and how much of `text` it took
    to know.  Read through a growing window, because a parser's error costs the
    length of all it was given, and most false starts end soon.
    """
    width = _WINDOW
    while True:
        window = text[start : start + width]
        whole = start + width >= len(text)
        try:
            value, length = _DECODER.raw_decode(window)
        except json.JSONDecodeError as problem:
            cut = problem.msg.startswith("Unterminated") or problem.pos + _TOKEN > width
            if whole or not cut:
                return None, problem.pos
        except (ValueError, RecursionError):
            # A number that no float holds, or nesting that is no answer.
            return None, len(window)
        else:
            return value, length
        width *= 8


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _as_spelt(value: Any, schema: Mapping[str, Any]) -> Any:
    """
    `value` with the words that `schema` enumerates in the schema's spelling.
    """
    match value:
        case dict():
            properties = schema.get("properties", {})
            return {
                name: _as_spelt(each, properties[name]) if name in properties else each
                for name, each in value.items()
            }
        case list():
            items = schema.get("items", {})
            return [_as_spelt(each, items) for each in value]
        case str() if "enum" in schema and value not in schema["enum"]:
            folded = value.strip().casefold()
            same = [word for word in schema["enum"] if str(word).casefold() == folded]
            return same[0] if len(same) == 1 else value
    return value
