"""
Find the answer in an agent's output: the last JSON object that fits.

Agents wrap their JSON in prose and code fences, and they correct themselves.  Every
object in the text is a candidate, read by a real JSON parser, so nesting and braces
inside strings need no special care.  The last candidate that fits the schema is the
answer, unless it merely repeats the prompt's example.

An answer must be what the model wrote.  A terminal program that renders Markdown changes
the style, or erases something, where it has dropped or replaced characters: an object with
such a place inside is valid JSON with the wrong text, so it is refused as unreadable.

The cost of a search is proportional to the length of the text.  An `AnswerSearch` knows
whether it may take long, and can then be run in another process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from typing import Any

from attrs import field, frozen
from jsonschema import Draft202012Validator

from kiroworkers.errors import AnswerSchemaMismatch, AnswerUnreadable
from kiroworkers.json_schema import Problem, Validator, problems_of
from kiroworkers.strict_json import MAX_VALUES, has_more_values
from kiroworkers.tasks.normalise import Change, normalize_answer
from kiroworkers.tasks.objects import TooManyFalseStarts, objects
from kiroworkers.tasks.rejoin import count_readings, cuts, readings, regions

#: How many objects of a text are compared with the schema: the last ones.
MAX_CANDIDATES = 100

#: The longest text, in characters, and the most JSON values in it, for which a search is
#: certain to take no more than a few milliseconds.
_CHEAP_LENGTH = 32_768
_CHEAP_VALUES = 1_000
#: The same for a schema that may need to compare each value with every other one.
_CHEAP_VALUES_TO_COMPARE = 100

#: The longest text whose lines may be cut, in characters, and the most readings of it.
_CHEAP_WRAPPED_LENGTH = 8_192
_CHEAP_READINGS = 64

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
_TOO_MANY_VALUES = f"it has more than {MAX_VALUES} JSON values"
_RENDERED = "the agent's terminal rendered it as Markdown, so characters may be missing"
_TOO_MANY_FALSE_STARTS = "too much of it begins like a JSON object but is not one"


def find_answer(
    text: str,
    schema: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
    wrapped: bool = False,
    validator: Validator | None = None,
    styled: Sequence[int] = (),
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
        styled: The offsets in `text`, in ascending order, at which the terminal changed the
            style or erased something.  None may be inside the answer.

    Raises:
        AnswerSchemaMismatch: No object fits; names the fields that are wrong in the
            closest candidate.
        AnswerUnreadable: The last candidate can be read in more than one way, or the
            terminal has rendered it.
    """
    problems_in = (
        partial(problems_of, Draft202012Validator(schema))
        if validator is None
        else validator.problems
    )
    nearest: Mismatch | None = None
    repeated = False
    candidates = _last_candidates(text, wrapped)
    for _, (start, region, value) in reversed(candidates):
        if has_more_values(region, MAX_VALUES):
            # It may be the answer, so none before it is taken instead.
            raise AnswerSchemaMismatch(_TOO_MANY_VALUES)
        number_of_cuts = 0 if value is not None else cuts(region)
        fitting: list[ParsedAnswer] = []
        reading = None
        for reading in readings(region) if value is None else (value,):
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
                fitting.append(ParsedAnswer(answer, number_of_cuts > 0, changes))
                if len(fitting) > 1:
                    raise AnswerUnreadable("a line was cut where a space may have been")
        if number_of_cuts and not fitting and (reading is None or _may_be_answer(reading, schema)):
            raise AnswerUnreadable(f"a JSON object is cut in {number_of_cuts} places")
        if fitting:
            if _has_between(styled, start, start + len(region)):
                raise AnswerUnreadable(_RENDERED)
            return fitting[0]
    reason = _EXAMPLE_REPEATED if repeated else _NO_OBJECT
    if nearest is not None:
        reason = nearest.reason
    total = candidates[-1][0] if candidates else 0
    if total > MAX_CANDIDATES:
        reason += f" (only the last {MAX_CANDIDATES} of its {total} JSON objects were checked)"
    raise AnswerSchemaMismatch(reason)


@frozen
class AnswerSearch:
    """
    Describe a search for an answer, so that it can be run here or in another process.

    It is a `kiroworkers.offload.call.Call`.  The attributes are the arguments of `find_answer`.

    Attributes:
        has_long_list: Whether `schema` has a list from a client that may be long.
    """

    text: str
    schema: Mapping[str, Any]
    example: Mapping[str, Any] | None = None
    wrapped: bool = False
    validator: Validator | None = None
    has_long_list: bool = False
    styled: tuple[int, ...] = ()

    @property
    def is_cheap(self) -> bool:
        """
        Return whether the search is certain to take no more than a few milliseconds.

        A text whose lines may be cut can have very many readings, so they are counted.
        """
        is_linear = self.validator is not None and self.validator.is_linear
        limit = _CHEAP_VALUES if is_linear else _CHEAP_VALUES_TO_COMPARE
        return (
            len(self.text) <= (_CHEAP_WRAPPED_LENGTH if self.wrapped else _CHEAP_LENGTH)
            and not self.has_long_list
            and not has_more_values(self.text, limit)
            and (not self.wrapped or self._has_few_readings())
        )

    def _has_few_readings(self) -> bool:
        try:
            return count_readings(self.text) <= _CHEAP_READINGS
        except TooManyFalseStarts:
            return False

    def find(self) -> ParsedAnswer:
        """
        Return the answer, as `find_answer` does.
        """
        return find_answer(
            self.text, self.schema, self.example, self.wrapped, self.validator, self.styled
        )

    def run(self) -> dict[str, Any]:
        """
        Return the outcome of the search as JSON.
        """
        try:
            answer = self.find()
        except AnswerSchemaMismatch as problem:
            return {"mismatch": problem.reason}
        except AnswerUnreadable as problem:
            return {"unreadable": problem.reason}
        changes = [(change.field, change.kind) for change in answer.normalized]
        return {"value": answer.value, "rejoined": answer.rejoined, "normalized": changes}

    def result(self, outcome: Mapping[str, Any]) -> ParsedAnswer:
        """
        Return or raise what `find` did, from its `outcome` as `run` returned it.
        """
        match outcome:
            case {"mismatch": reason}:
                raise AnswerSchemaMismatch(reason)
            case {"unreadable": reason}:
                raise AnswerUnreadable(reason)
        normalized = tuple(starmap(Change, outcome["normalized"]))
        return ParsedAnswer(outcome["value"], outcome["rejoined"], normalized)

    def failure(self, reason: str) -> AnswerSchemaMismatch:
        """
        Return the error for a search that was stopped; `reason` says why it was.
        """
        return AnswerSchemaMismatch(f"checking it {reason}")


def _summarize(problems: list[Problem]) -> str:
    """
    Return the first few of `problems`, each in a sentence that names its field.
    """
    sentences = dict.fromkeys(problem.sentence for problem in problems)
    return "; ".join([*sentences][:_MAX_PROBLEMS_REPORTED])


def _has_between(offsets: Sequence[int], start: int, end: int) -> bool:
    """
    Return whether one of the ascending `offsets` lies between `start` and `end`, exclusively.
    """
    after = bisect_right(offsets, start)
    return after < len(offsets) and offsets[after] < end


def _may_be_answer(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """
    Return whether `value` has all required members.

    If so, only text that was lost at a cut keeps it from being an answer.
    """
    return set(schema.get("required", ())) <= set(value)


def _last_candidates(
    text: str, wrapped: bool
) -> deque[tuple[int, tuple[int, str, dict[str, Any] | None]]]:
    """
    Return the last outermost objects in `text`, in order of appearance.

    Returns:
        For each object its number, counted from 1, and its offset, its text and its value;
        None for an object whose lines were cut.

    Raises:
        AnswerSchemaMismatch: The search was given up.
    """
    found: Iterator[tuple[int, str, dict[str, Any] | None]]
    found = regions(text) if wrapped else objects(text)
    try:
        return deque(enumerate(found, 1), maxlen=MAX_CANDIDATES)
    except TooManyFalseStarts:
        raise AnswerSchemaMismatch(_TOO_MANY_FALSE_STARTS) from None
