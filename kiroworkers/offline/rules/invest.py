"""
The rules for ``analyze-invest``: a story reviewed by the six INVEST criteria.

The score begins at 100.  Each criterion has a weight; its first warning costs
half of that, its second the other half.  More than two warnings for one
criterion help nobody, so there are never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from kiroworkers.offline.rules import meaning, measure, ties
from kiroworkers.offline.rules.fault import Fault, Rule
from kiroworkers.offline.rules.reading import Story, read_story
from kiroworkers.offline.rules.words import listed, quote, uncapitalised

#: The rules of each criterion; the gravest first.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "independent": (ties.depends,),
    "negotiable": (ties.prescribes, ties.prescribes_widget),
    "valuable": (meaning.no_benefit, meaning.serves_builders),
    "estimable": (meaning.missing_parts, meaning.vague, meaning.open_question),
    "small": (measure.several_actions, measure.wide, measure.large),
    "testable": (
        measure.no_criteria,
        measure.vague_criteria,
        measure.never_wrong,
        measure.repeated_criteria,
    ),
}
#: What each criterion is worth: together 100.
WEIGHTS: Mapping[str, int] = {
    "independent": 10,
    "negotiable": 10,
    "valuable": 26,
    "estimable": 14,
    "small": 14,
    "testable": 26,
}
_MOST_WARNINGS = 2


def analyze_invest(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    A review of ``request["story"]``, as the contract asks for it.
    """
    story = read_story(request)
    faults = {criterion: _faults(criterion, story) for criterion in RULES}
    return {
        "summary": _summary(story, faults),
        "warnings": [
            _warning(criterion, fault) for criterion, found in faults.items() for fault in found
        ],
        "score": 100 - sum(WEIGHTS[each] * len(found) // 2 for each, found in faults.items()),
        "strengths": [each for each in _strengths(story, faults) if each],
    }


def _faults(criterion: str, story: Story) -> list[Fault]:
    found = (fault for rule in RULES[criterion] for fault in rule(story))
    return list(islice(found, _MOST_WARNINGS))


def _warning(criterion: str, fault: Fault) -> dict[str, Any]:
    warning = {"criterion": criterion, "message": fault.message, "suggestion": fault.suggestion}
    return {**warning, "details": fault.details} if fault.details else warning


def _summary(story: Story, faults: Mapping[str, list[Fault]]) -> str:
    weak = [each for each in sorted(faults, key=lambda each: -WEIGHTS[each]) if faults[each]]
    caution = (
        "" if story.english else (" The text does not look English, so only its form was reviewed.")
    )
    title = quote(story.title, 80)
    if not weak:
        return f"{title} meets all six INVEST criteria as far as its text shows.{caution}"
    first = faults[weak[0]][0]
    if len(weak) == 1:
        opening = f"{title} meets five of the six INVEST criteria; it is not yet {weak[0]}."
    else:
        opening = (
            f"{title} misses {len(weak)} of the six INVEST criteria: it is not yet "
            f"{listed(weak, 'or')}."
        )
    return f"{opening} Begin here: {uncapitalised(first.suggestion)}{caution}"


def _strengths(story: Story, faults: Mapping[str, list[Fault]]) -> Iterable[str]:
    """
    What is good, with the words that show it; the rest is no merit, only no fault.
    """
    if not faults["valuable"]:
        yield f"Valuable: it says why it is wanted, {quote(story.benefit)}"
    if not faults["testable"]:
        count = len(story.criteria)
        yield (
            f"Testable: {count} acceptance {'criterion' if count == 1 else 'criteria'} that can "
            f"be observed, such as {quote(story.criteria[0])}"
        )
    if not faults["estimable"] and story.actor:
        yield f"Estimable: it names who ({quote(story.actor, 60)}) and what ({quote(story.goal)})"
    if not faults["small"] and (len(story.actions) == 1 or story.points):
        size = f", estimated at {story.points}" if story.points else ""
        yield f"Small: {'one action' if len(story.actions) == 1 else 'one goal'}{size}"
    if not faults["negotiable"] and story.wish:
        yield "Negotiable: it says what is wanted and leaves open how it is built"
    if not faults["independent"] and story.wish:
        yield "Independent: it names nothing else that must come first"
