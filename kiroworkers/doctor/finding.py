"""
Represent what a check has found.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from attrs import frozen


class Outcome(Enum):
    """
    Represent how a check ended.

    With a `FAILURE`, a server cannot start or cannot answer.  With a `WARNING`, it runs, but
    perhaps not as the operator expects.
    """

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@frozen
class Finding:
    """
    Hold what one check has found.

    Attributes:
        check: The name of the check.
        outcome: How it ended.
        detail: What was found, in one line without secrets.
        advice: What the operator can do about it; empty if there is nothing to do.
    """

    check: str
    outcome: Outcome
    detail: str
    advice: str = ""


def ok(check: str, detail: str) -> Finding:
    """
    Return the finding of a check that found nothing wrong.
    """
    return Finding(check, Outcome.OK, detail)


def warning(check: str, detail: str, advice: str) -> Finding:
    """
    Return the finding of something that the operator should know.
    """
    return Finding(check, Outcome.WARNING, detail, advice)


def failure(check: str, detail: str, advice: str) -> Finding:
    """
    Return the finding of something with which a server does not work.
    """
    return Finding(check, Outcome.FAILURE, detail, advice)


def skipped(check: str, reason: str) -> Finding:
    """
    Return the finding of a check that was not made.
    """
    return Finding(check, Outcome.SKIPPED, reason)


def has_failed(findings: Iterable[Finding]) -> bool:
    """
    Return whether one of `findings` is a failure.
    """
    return any(finding.outcome is Outcome.FAILURE for finding in findings)
