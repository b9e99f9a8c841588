"""
Hold what was proven about one version of an agent, and read and write it as JSON.

Reports of the versions that were proven for a release are part of the package.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import asdict, field, frozen
from cattrs import BaseValidationError, Converter, transform_error

#: The version of the format of reports.
FORM = 1

#: The maximum size of a file, in MiB; a proof of the worst agent writes a tenth of it.
_MAX_SIZE = 4

#: How much of a reason why a file is no report is kept, in characters.
_MAX_REASON = 200

#: The checks without whose success no version is exact.
ESSENTIAL = (
    "ready",
    "exact",
    "exact: careless model",
    "fresh: next request",
    "fresh: other worker",
    "fresh: next process",
    "fresh: next server",
    "fresh: killed server",
    "clear",
    "cancel",
    "timeout",
    "kill",
    "tools: code block",
    "long prompts: 8 KB",
    "fresh: whole proof",
)

#: Of these one must have succeeded, unless the agent offers its model no tools at all.
TOOL_CHECKS = ("tools: command", "tools: write")

#: The check that an agent without a memory skips.
MEMORY_CHECK = "fresh: memory"

#: The model that answered: the packaged model server, which saw every prompt; the answers
#: that the agent itself read from a file; or the agent's own service, for real turns.
Model: TypeAlias = Literal["loopback", "mock", "service"]


class Level(Enum):
    """
    Represent how far an agent can be relied on, the best level first.

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
        Return the worst level of the failed checks; exact if none failed and nothing is missing.

        None says that nothing is proven.
        """
        failed = [
            check.level
            for check in self.checks
            if check.outcome is Outcome.FAILED and check.level is not None
        ]
        if failed:
            return max(failed)
        return None if self.missing else Level.EXACT

    @property
    def missing(self) -> tuple[str, ...]:
        """
        Return the names of the checks that must succeed before the version is exact, and have not.
        """
        by_name = {check.name: check for check in self.checks}
        succeeded = {check.name for check in self.checks if check.outcome is Outcome.PASSED}
        missing = [name for name in ESSENTIAL if name not in succeeded]
        if not succeeded.intersection(TOOL_CHECKS):
            missing += [name for name in TOOL_CHECKS if not _offers_nothing(by_name.get(name))]
        memory = by_name.get(MEMORY_CHECK)
        if memory is None or memory.outcome is Outcome.FAILED:
            missing.append(MEMORY_CHECK)
        return tuple(missing)


def _offers_nothing(check: CheckResult | None) -> bool:
    """
    Return whether `check` was skipped because the agent offers its model no tools that matter.

    One that offers tools that the check does not know may well run commands.
    """
    return (
        check is not None
        and check.outcome is Outcome.SKIPPED
        and check.details.get("offered") == []
    )


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
        data = json.loads(_read(path))
        if not isinstance(data, dict) or data.get("form") != FORM:
            raise ValueError(f"form must be {FORM}")
        report: Report = _converter.structure(data, Report)
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", report.date, re.ASCII):
            raise ValueError("date must be a day such as 2026-11-29")
        level = None if report.level is None else report.level.value
        if data.get("level", level) != level:
            raise ValueError(f"level is {data['level']!r}, but its checks show {level!r}")
        return report
    except BaseValidationError as error:
        reason = transform_error(error)[0]
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise BadReport(f"{path}: {reason[:_MAX_REASON]}")


def _read(path: Path) -> bytes:
    """
    Return the contents of a file that may be anything.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a regular file, or is too large.
    """
    # A named pipe must not make the server wait.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = opened.read(_MAX_SIZE * 1024**2 + 1)
    if len(data) > _MAX_SIZE * 1024**2:
        raise ValueError(f"it has more than {_MAX_SIZE} MiB")
    return data


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
