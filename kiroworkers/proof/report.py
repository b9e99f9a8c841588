"""
Hold what was proven about one version of an agent, and read and write it as JSON.

Reports of the versions that were proven for a release are part of the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import asdict, field, frozen
from cattrs import BaseValidationError, Converter, transform_error

#: The version of the form of reports.
FORM = 1

#: The model that answered: the packaged model server, which saw every prompt; the answers
#: that the agent itself read from a file; or the agent's own service, for real turns.
Model: TypeAlias = Literal["loopback", "mock", "service"]


class Level(Enum):
    """
    Represent what may be relied on with an agent, the best first.

    Attributes:
        EXACT: Answers arrive as the model wrote them, each from a fresh conversation.
        LOSSY: Some answers are altered or lost.
        LEAKS: A conversation knows, or an answer contains, what belongs to another request.
        UNSAFE: The agent runs tools that were denied, or runs tools unnoticed.
    """

    EXACT = "exact"
    LOSSY = "lossy"
    LEAKS = "leaks"
    UNSAFE = "unsafe"

    def __lt__(self, other: Level) -> bool:
        """
        Return whether this level is better than `other`.
        """
        levels = list(Level)
        return levels.index(self) < levels.index(other)


class Outcome(Enum):
    """
    Represent how a check ended.

    Attributes:
        PASSED: What the check demands was seen.
        FAILED: The opposite was seen.
        SKIPPED: It cannot be seen with this agent or model, for the reason in the evidence.
    """

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class CheckResult:
    """
    Hold the result of one check.

    Attributes:
        name: The check, such as ``fresh: next process``.
        outcome: How it ended.
        evidence: What was seen, in one sentence for people.
        level: The level of the agent if this check fails; None if the check only measures.
        details: What was seen, for programs: what was sent and received, figures.
        seconds: How long it took.
    """

    name: str
    outcome: Outcome
    evidence: str
    level: Level | None = None
    details: Mapping[str, Any] = field(factory=dict)
    seconds: float = 0.0


@frozen
class Report:
    """
    Hold what was proven about one version of an agent.

    Attributes:
        agent: The agent's name, as in --agent.
        dialect: The dialect that it was driven with.
        agent_version: The line in which the program says its version; empty if it says none.
        server_version: The version of kiroworkers.
        model: The model that answered.
        date: The day of the proof, as ``2026-11-29``.
        platform: The operating system and the version of Python.
        checks: The results, in the order in which the checks were made.
    """

    agent: str
    dialect: str
    agent_version: str
    server_version: str
    model: Model
    date: str
    platform: str
    checks: tuple[CheckResult, ...]

    @property
    def level(self) -> Level | None:
        """
        Return the worst level of the failed checks; None if no check that has a level passed.
        """
        failed = [
            check.level
            for check in self.checks
            if check.outcome is Outcome.FAILED and check.level is not None
        ]
        if failed:
            return max(failed)
        has_passed = any(
            check.outcome is Outcome.PASSED and check.level is not None for check in self.checks
        )
        return Level.EXACT if has_passed else None


class BadReport(ValueError):
    """
    Raised when a file is not a report of this form; the message names the file and the reason.
    """


_converter = Converter(forbid_extra_keys=False)


def write_report(report: Report) -> str:
    """
    Return `report` as JSON, with a line feed at its end.
    """
    level = report.level
    data = {
        "form": FORM,
        "level": None if level is None else level.value,
        **asdict(report, value_serializer=lambda _, __, value: _plain(value)),
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def read_report(path: Path) -> Report:
    """
    Return the report in the file at `path`.

    Raises:
        BadReport: If the file cannot be read or is not a report of this form.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("form") != FORM:
            raise BadReport(f"{path}: form must be {FORM}")
        report: Report = _converter.structure(data, Report)
        return report
    except BaseValidationError as error:
        raise BadReport(f"{path}: {transform_error(error)[0]}") from None
    except BadReport:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadReport(f"{path}: {error}") from None


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
