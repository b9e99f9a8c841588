"""
Find the answer in an agent's output: the last JSON object that fits.

Agents wrap their JSON in prose and code fences, and they correct themselves.  Every
object in the text is a candidate, read by a real JSON parser, so nesting and braces
inside strings need no special care.  The last candidate that fits the schema is the
answer, unless it merely repeats the prompt's example.
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

#: How many problems of a rejected answer are reported.
_MAX_PROBLEMS_REPORTED = 3


@frozen
class ParsedAnswer:
    """
    Hold an answer that fits its schema.

    Attributes:
        value: The JSON object.
        rejoined: Whether lines that the terminal had cut were joined.
        normalized: The changes that made the value fit.
    """

    value: dict[str, Any]
    rejoined: bool = False
    normalized: tuple[Change, ...] = ()


@frozen
class Candidate:
    """
    Represent a JSON object in a text.

    Attributes:
        readings: Yields every value that the object can stand for.
        cuts: The number of places where a line break cuts it.
    """

    readings: Callable[[], Iterator[dict[str, Any]]]
    cuts: int


@frozen(order=True)
class Mismatch:
    """
    Describe why a candidate does not fit; the closest candidate has the smallest mismatch.

    Attributes:
        lacks_members: Whether required members are missing.
        wrong: The number of problems.
        reason: A sentence for the client.
    """

    lacks_members: bool
    wrong: int
    reason: str = field(order=False)


_UNCHANGED: tuple[Change, ...] = ()

_NO_OBJECT = "it contains no JSON object"
_EXAMPLE_REPEATED = "it only repeats the prompt's example"


def find_answer(
    text: str,
    schema: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
    wrapped: bool = False,
    validator: Validator | None = None,
) -> ParsedAnswer:
    """
    Return the last object in `text` that fits `schema` and is not `example`.

    An object that does not fit as it stands may fit after harmless differences are
    normalized (see `normalize_answer`).

    Args:
        text: The agent's output.
        schema: The JSON Schema of the answer.
        example: The prompt's example, which is never an answer.
        wrapped: Whether lines may be cut, also inside strings.  An object is then
            accepted only if exactly one way of joining its lines fits.
        validator: A validator of `schema`, so that none need be made.

    Raises:
        AnswerSchemaMismatch: No object fits; names the fields that are wrong in the
            closest candidate.
        AnswerUnreadable: The last candidate can be read in more than one way.
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
                # Only an answer that does not fit could be changed by this.
                answer, changes = normalize_answer(reading, schema)
                if changes:
                    problems = problems_in(answer)
            if problems:
                lacks = not _may_be_answer(answer, schema)
                mismatch = Mismatch(lacks, len(problems), _summarize(problems))
                nearest = mismatch if nearest is None else min(nearest, mismatch)
            elif answer == example:
                repeated = True
            else:
                fitting.append(ParsedAnswer(answer, candidate.cuts > 0, changes))
                if len(fitting) > 1:
                    raise AnswerUnreadable("a line was cut where a space may have been")
        if candidate.cuts and not fitting and (reading is None or _may_be_answer(reading, schema)):
            raise AnswerUnreadable(f"a JSON object is cut in {candidate.cuts} places")
        if fitting:
            return fitting[0]
    if nearest is not None:
        raise AnswerSchemaMismatch(nearest.reason)
    raise AnswerSchemaMismatch(_EXAMPLE_REPEATED if repeated else _NO_OBJECT)


def _summarize(problems: list[Problem]) -> str:
    """
    Return the first few of `problems`, each in a sentence that names its field.
    """
    sentences = dict.fromkeys(problem.sentence for problem in problems)
    return "; ".join([*sentences][:_MAX_PROBLEMS_REPORTED])


def _may_be_answer(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """
    Return whether `value` has all required members.

    If so, only text that was lost at a cut keeps it from being an answer.
    """
    return set(schema.get("required", ())) <= set(value)


def _in_order(text: str, wrapped: bool) -> list[Candidate]:
    """
    Return every outermost object in `text`, in order of appearance.
    """
    if wrapped:
        return [Candidate(partial(readings, region), cuts(region)) for region in regions(text)]
    return [Candidate(partial(iter, [value]), 0) for value in objects(text)]
