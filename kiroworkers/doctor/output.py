"""
Write findings for people and for programs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kiroworkers.clean_text import clean_text
from kiroworkers.doctor.finding import Finding, Outcome, has_failed

#: How outcomes are printed, and in which colour (the parameter of the terminal's SGR sequence).
_WORDS = {
    Outcome.OK: ("ok", 32),
    Outcome.WARNING: ("warning", 33),
    Outcome.FAILURE: ("FAILED", 31),
    Outcome.SKIPPED: ("skipped", 2),
}

_WIDTH = max(len(word) for word, _ in _WORDS.values())


def line(finding: Finding, width: int, *, colour: bool) -> str:
    """
    Return the line for `finding`: its outcome, its check, what was found and what to do.

    Args:
        finding: The finding.
        width: The length of the longest name of a check.
        colour: Whether to colour the outcome.
    """
    word, code = _WORDS[finding.outcome]
    text = clean_text(finding.detail + (f". {finding.advice}" if finding.advice else ""))
    outcome = f"{word:{_WIDTH}}"
    if colour:
        outcome = f"\x1b[{code}m{outcome}\x1b[0m"
    return f"{outcome}  {finding.check:{width}}  {' '.join(text.split())}"


def summary(findings: Sequence[Finding]) -> str:
    """
    Return the last line: how many findings there are of each outcome.
    """
    counts = Counter(finding.outcome for finding in findings)
    failed, warned = counts[Outcome.FAILURE], counts[Outcome.WARNING]
    if not failed and not warned:
        return "no problems found"
    return f"{failed} failed, {warned} warning{'' if warned == 1 else 's'}"


def as_json(findings: Sequence[Finding]) -> str:
    """
    Return the findings as a JSON document.
    """
    checks: list[dict[str, Any]] = [
        {
            "check": finding.check,
            "outcome": finding.outcome.value,
            "detail": finding.detail,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    return json.dumps({"ok": not has_failed(findings), "checks": checks}, indent=2)
