"""
Check that a recording gives the answers that the server found when it was made.

A marker in a recording says when a request was answered, with a digest of the agent's text.
The recorded output is put through a dialect, and the text of each answer is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from attrs import frozen

from kiroworkers.conversations import Answered, Event, LateOutput
from kiroworkers.conversations.request_mark import ANSWERED, ASKED, RequestMark
from kiroworkers.proof.report import Outcome

#: The characters of a digest that a marker has.
_DIGEST = 16


@frozen
class RecordedAnswer:
    """
    Hold what was found about one answer.

    Attributes:
        request: The identifier of the request.
        outcome: Whether the dialect finds the same answer; skipped if that cannot be said.
        evidence: Why, in one sentence.
    """

    request: str
    outcome: Outcome
    evidence: str


def check_answers(
    events: Iterable[tuple[float, Event]], marks: Sequence[tuple[float, RequestMark]]
) -> list[RecordedAnswer]:
    """
    Return what becomes of each answer that the markers of a recording name.

    Args:
        events: The events that the dialect finds, with their times.
        marks: The markers, with their times.
    """
    found = sorted(events, key=lambda event: event[0])
    results = []
    asked_at = 0.0
    for seconds, mark in marks:
        if mark.kind == ASKED:
            asked_at = seconds
        elif mark.kind == ANSWERED:
            during = [event for at, event in found if asked_at <= at <= seconds]
            results.append(_check(mark, during))
    return results


def _check(mark: RequestMark, events: Sequence[Event]) -> RecordedAnswer:
    expected, source = mark.data.get("sha256", ""), mark.data.get("source", "")
    if source == "journal" or not expected:
        reason = "the server read it in the agent's journal" if expected else "it has no digest"
        return RecordedAnswer(mark.request, Outcome.SKIPPED, reason)
    answers = [event for event in events if isinstance(event, Answered)]
    if not answers:
        seen = ", ".join(dict.fromkeys(type(event).__name__ for event in events)) or "nothing"
        reason = f"the dialect finds no answer here, but {seen}"
        return RecordedAnswer(mark.request, Outcome.FAILED, reason)
    answer = answers[-1]
    late = "".join(event.text for event in events if isinstance(event, LateOutput))
    for text in dict.fromkeys((answer.text, answer.text + late)):
        digest = sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGEST]
        if digest == expected:
            if mark.data.get("completion", answer.completion) != answer.completion:
                reason = (
                    f"the same text, but complete by {answer.completion}, "
                    f"not by {mark.data['completion']}"
                )
                return RecordedAnswer(mark.request, Outcome.FAILED, reason)
            reason = f"the same {len(text)} characters"
            return RecordedAnswer(mark.request, Outcome.PASSED, reason)
    count = mark.data.get("characters", "?")
    reason = f"another text: {len(answer.text)} characters, and the server found {count}"
    return RecordedAnswer(mark.request, Outcome.FAILED, reason)
