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

from attrs import field, frozen
from jsonschema import Draft202012Validator

from kiroworkers.errors import AnswerSchemaMismatch, AnswerUnreadable
from kiroworkers.json_schema import Problem, Validator, problems_of
from kiroworkers.tasks.normalise import Change, normalize_answer
from kiroworkers.tasks.objects import objects
from kiroworkers.tasks.rejoin import cuts, readings, regions

#: So many things that are wrong with an answer are told.
_MOST_TOLD = 3


@frozen
class ParsedAnswer:
    """
    An answer; whether it had to be joined across lines that were cut; and what
    was normalised in it.
    """

    value: dict[str, Any]
    rejoined: bool = False
    normalized: tuple[Change, ...] = ()


@frozen
class Candidate:
    """
    An object in a text: what it can mean, and in how many places its strings
    are cut.
    """

    readings: Callable[[], Iterator[dict[str, Any]]]
    cuts: int


@frozen(order=True)
class Mismatch:
    """
    Why an object is no answer.  The least is that of the one that comes nearest
    to an answer: it has all members, or has less wrong with it.
    """

    lacks_members: bool
    wrong: int
    reason: str = field(order=False)


_UNCHANGED: tuple[Change, ...] = ()

_NOTHING = "there is no JSON object in it"
_REPEATED = "it only repeats the prompt's example"


def find_answer(
    text: str,
    schema: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
    wrapped: bool = False,
    validator: Validator | None = None,
) -> ParsedAnswer:
    """
    The last object in `text` that fits `schema` and is not `example`, as it is
    or when harmless differences are normalised.

    Args:
        wrapped: lines may be cut, also inside strings; an object is only
            taken when one way of joining them alone fits.
        validator: of `schema`, where there is one already.

    Raises:
        AnswerSchemaMismatch: with the fields that are wrong, and why, of the object
            that comes nearest to an answer.
        AnswerUnreadable: when the last candidate can mean more than one.
    """
    problems_in = (
        partial(problems_of, Draft202012Validator(schema))
        if validator is None
        else validator.problems
    )
    nearest: Mismatch | None = None
    repeated = False
    for candidate in reversed(_in_order(text, wrapped)):
        fitting: list[ParsedAnswer] = []
        reading = None
        for reading in candidate.readings():
            answer, changes = reading, _UNCHANGED
            problems = problems_in(answer)
            if problems:
                # What fits as it is would come back as it is.
                answer, changes = normalize_answer(reading, schema)
                if changes:
                    problems = problems_in(answer)
            if problems:
                lacks = not _may_be_answer(answer, schema)
                refusal = Mismatch(lacks, len(problems), _told(problems))
                nearest = refusal if nearest is None else min(nearest, refusal)
            elif answer == example:
                repeated = True
            else:
                fitting.append(ParsedAnswer(answer, candidate.cuts > 0, changes))
                if len(fitting) > 1:
                    raise AnswerUnreadable("a line of it was cut where a space may have been")
        if candidate.cuts and not fitting and (reading is None or _may_be_answer(reading, schema)):
            raise AnswerUnreadable(f"an object in it is cut in {candidate.cuts} places")
        if fitting:
            return fitting[0]
    if nearest is not None:
        raise AnswerSchemaMismatch(nearest.reason)
    raise AnswerSchemaMismatch(_REPEATED if repeated else _NOTHING)


def _told(problems: list[Problem]) -> str:
    """
    The first of `problems`, each in a sentence that names its field.
    """
    return "; ".join([*dict.fromkeys(each.sentence for each in problems)][:_MOST_TOLD])


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
