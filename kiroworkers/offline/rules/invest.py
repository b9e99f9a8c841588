"""
Apply the rules for ``analyze-invest``: review a story by the six INVEST criteria.

The score begins at 100.  Each criterion has a weight: its first warning costs half of
it, its second the other half.  There are at most two warnings for each criterion, because
more would not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from kiroworkers.offline.rules import clarity, constraints, scope
from kiroworkers.offline.rules.finding import Finding, Rule
from kiroworkers.offline.rules.story_text import StoryText, read_story
from kiroworkers.offline.rules.words import listed, quote, uncapitalised

#: The rules of each criterion, the most serious first.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "independent": (constraints.depends,),
    "negotiable": (constraints.prescribes, constraints.prescribes_widget),
    "valuable": (clarity.no_benefit, clarity.serves_builders),
    "estimable": (clarity.missing_parts, clarity.vague, clarity.open_question),
    "small": (scope.several_actions, scope.too_wide, scope.too_large),
    "testable": (
        scope.no_criteria,
        scope.vague_criteria,
        scope.never_wrong,
        scope.repeated_criteria,
    ),
}
#: The points of each criterion; they add up to 100.
WEIGHTS: Mapping[str, int] = {
    "independent": 10,
    "negotiable": 10,
    "valuable": 26,
    "estimable": 14,
    "small": 14,
    "testable": 26,
}
_MAX_WARNINGS_PER_CRITERION = 2


def analyze_invest(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a review of a story.

    Args:
        request: An ``analyze-invest`` request.  Its ``story`` may hold ``title``, ``asA``,
            ``iWant``, ``soThat``, ``description``, ``acceptanceCriteria`` and
            ``storyPoint``.

    Returns:
        An answer with ``summary``, ``warnings``, ``score`` (0 to 100) and ``strengths``,
        as the task's schema requires.
    """
    story = read_story(request)
    findings = {criterion: _find(criterion, story) for criterion in RULES}
    return {
        "summary": _summary(story, findings),
        "warnings": [
            _warning(criterion, finding)
            for criterion, criterion_findings in findings.items()
            for finding in criterion_findings
        ],
        "score": 100
        - sum(
            WEIGHTS[criterion] * len(criterion_findings) // 2
            for criterion, criterion_findings in findings.items()
        ),
        "strengths": [strength for strength in _strengths(story, findings) if strength],
    }


def _find(criterion: str, story: StoryText) -> list[Finding]:
    findings = (finding for rule in RULES[criterion] for finding in rule(story))
    return list(islice(findings, _MAX_WARNINGS_PER_CRITERION))


def _warning(criterion: str, finding: Finding) -> dict[str, Any]:
    warning = {"criterion": criterion, "message": finding.message, "suggestion": finding.suggestion}
    return {**warning, "details": finding.details} if finding.details else warning


def _summary(story: StoryText, findings: Mapping[str, list[Finding]]) -> str:
    weak = [
        criterion
        for criterion in sorted(findings, key=lambda criterion: -WEIGHTS[criterion])
        if findings[criterion]
    ]
    caution = (
        "" if story.english else (" The text does not look English, so only its form was reviewed.")
    )
    title = quote(story.title, 80)
    if not weak:
        return f"{title} meets all six INVEST criteria as far as its text shows.{caution}"
    first = findings[weak[0]][0]
    if len(weak) == 1:
        opening = f"{title} meets five of the six INVEST criteria; it is not yet {weak[0]}."
    else:
        opening = (
            f"{title} misses {len(weak)} of the six INVEST criteria: it is not yet "
            f"{listed(weak, 'or')}."
        )
    return f"{opening} Begin here: {uncapitalised(first.suggestion)}{caution}"


def _strengths(story: StoryText, findings: Mapping[str, list[Finding]]) -> Iterable[str]:
    """
    Yield the strengths of the story, with the words that show them.

    A criterion without a finding is not a strength in itself.
    """
    if not findings["valuable"]:
        yield f"Valuable: it says why it is wanted, {quote(story.benefit)}"
    if not findings["testable"]:
        count = len(story.criteria)
        yield (
            f"Testable: {count} acceptance {'criterion' if count == 1 else 'criteria'} that can "
            f"be observed, such as {quote(story.criteria[0])}"
        )
    if not findings["estimable"] and story.actor:
        yield f"Estimable: it names who ({quote(story.actor, 60)}) and what ({quote(story.goal)})"
    if not findings["small"] and (len(story.actions) == 1 or story.points):
        size = f", estimated at {story.points}" if story.points else ""
        yield f"Small: {'one action' if len(story.actions) == 1 else 'one goal'}{size}"
    if not findings["negotiable"] and story.wish:
        yield "Negotiable: it says what is wanted and leaves open how it is built"
    if not findings["independent"] and story.wish:
        yield "Independent: it names nothing else that must come first"
