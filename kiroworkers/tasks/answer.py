"""
Finding the answer in what an agent said: the last JSON object that fits.

Agents wrap their JSON in prose, in code fences, in second thoughts.  Every
object in the text is a candidate, read by a real JSON parser (so nesting and
braces inside strings are nothing special); the last one that fits the schema
is the answer, unless it merely repeats the prompt's own example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from attrs import frozen
from jsonschema import Draft202012Validator

from kiroworkers.errors import AnswerUnfit, AnswerUnreadable
from kiroworkers.schema import first_problem
from kiroworkers.tasks.objects import objects
from kiroworkers.tasks.rejoin import cuts, readings, regions


@frozen
class Found:
    """
    An answer, and whether it had to be joined across lines that were cut.
    """

    value: dict[str, Any]
    rejoined: bool = False


@frozen
class Candidate:
    """
    An object in a text: what it can mean, and in how many places its strings
    are cut.
    """

    readings: Callable[[], Iterator[dict[str, Any]]]
    cuts: int


def find_answer(
    text: str,
    schema: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
    wrapped: bool = False,
) -> Found:
    """
    The last object in `text` that fits `schema` and is not `example`.

    Words that `schema` lists in an `enum` are taken in any letter case and
    given back as the schema spells them.

    @param wrapped: lines may be cut, also inside strings; an object is only
        taken when one way of joining them alone fits.
    @raise AnswerUnfit: with the reason the last candidate was refused for.
    @raise AnswerUnreadable: when the last candidate can mean more than one.
    """
    validator = Draft202012Validator(schema)
    refusal = "there is no JSON object in it"
    for candidate in reversed(_in_order(text, wrapped)):
        fitting: list[dict[str, Any]] = []
        reading = None
        for reading in candidate.readings():
            answer = _as_spelt(reading, schema)
            problem = first_problem(validator, answer)
            if problem is None and answer != example:
                fitting.append(answer)
                if len(fitting) > 1:
                    raise AnswerUnreadable("a line of it was cut where a space may have been")
            elif refusal.startswith("there is no"):
                refusal = problem.sentence if problem else "it only repeats the prompt's example"
        if candidate.cuts and not fitting and (reading is None or _may_be_answer(reading, schema)):
            raise AnswerUnreadable(f"an object in it is cut in {candidate.cuts} places")
        if fitting:
            return Found(fitting[0], rejoined=candidate.cuts > 0)
    raise AnswerUnfit(refusal)


def _may_be_answer(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """
    Has `value` all the members that an answer has, so that only what was lost at
    a cut may keep it from being one?
    """
    return set(schema.get("required", ())) <= set(value)


def _in_order(text: str, wrapped: bool) -> list[Candidate]:
    """
    Every outermost object in `text`, in order.
    """
    if wrapped:
        return [Candidate(partial(readings, each), cuts(each)) for each in regions(text)]
    return [Candidate(partial(iter, [each]), 0) for each in objects(text)]


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
