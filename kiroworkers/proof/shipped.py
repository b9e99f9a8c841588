"""
Find what was proven about the version of an agent that is installed.

Reports come with the package, in the folder ``reports`` next to this module.  Operators add
theirs, written by ``kiroworkers prove --output``, to the folder ``proofs`` in --state-dir.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from kiroworkers.proof.report import BadReport, Level, Outcome, Report, read_report

#: Where a `Proof` comes from: a report of the package or of the operator; or this package's own
#: tests, for the agent that is a part of it.
Source: TypeAlias = Literal["package", "state-dir", "built-in"]

#: The folder of the reports that are part of the package.
SHIPPED = Path(__file__).with_name("reports")

#: A version number with everything that belongs to it, such as ``0.62.0-preview.1``.
_VERSION_NUMBER = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+(?:[.+~-]?\w+)*)")


#: The maximum number of failed checks that are named, and the maximum length of a name.
_MAX_FAILED, _MAX_NAME = 40, 60


@frozen
class Proof:
    """
    Hold what is known about one version of an agent.

    Attributes:
        level: What may be relied on; None if nothing is proven.
        date: The day of the proof, as ``2026-11-29``; None without a report.
        source: Where the level comes from; None if nothing is proven.
        failed: The names of the checks that failed.
    """

    level: Level | None = None
    date: str | None = None
    source: Source | None = None
    failed: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        """
        Return whether the version is known to do what it must not do.
        """
        return self.level is not None and self.level is not Level.EXACT


#: What is known about a version that has no report.
UNPROVEN = Proof()

#: The offline agent needs no report: it is released with the server, has no model, no memory and
#: no tools, and this package's tests compare its answers.
BUILT_IN = Proof(Level.EXACT, source="built-in")


def version_number(line: str) -> str:
    """
    Return the version number in the line in which a program says its version; or "".
    """
    match = _VERSION_NUMBER.search(line)
    return match[1] if match else ""


def find_proof(
    agent: str, dialect: str, version_line: str, own: Path | None, shipped: Path | None = SHIPPED
) -> tuple[Proof, tuple[str, ...]]:
    """
    Return what was proven about a version of an agent.  Blocks: it reads files.

    A report counts only for exactly the version number that it names, under the same name,
    because ``kiro-acp`` and ``kiro-tui`` are interfaces of one program.  The newest report counts;
    of the same day, the operator's.

    Args:
        agent: The agent's name.
        dialect: The name of the dialect that the agent is driven with.
        version_line: The line in which the program says its version; empty if it says none.
        own: The folder of the operator's reports, which need not exist; None for none.
        shipped: The folder of the package's reports; None for a dialect of the operator's.

    Returns:
        The reports, and one line about each file that is not a report.
    """
    number = version_number(version_line)
    problems: list[str] = []
    best: Proof | None = None
    folders: tuple[tuple[Path | None, Source], ...] = ((shipped, "package"), (own, "state-dir"))
    for folder, source in folders:
        for report in _reports_in(folder, problems):
            if (
                number
                and (report.agent, report.dialect) == (agent, dialect)
                and version_number(report.agent_version) == number
                and report.level is not None
                and (best is None or report.date >= (best.date or ""))
            ):
                best = Proof(report.level, report.date, source, _failed(report))
    return best or UNPROVEN, tuple(problems)


def _reports_in(folder: Path | None, problems: list[str]) -> Iterator[Report]:
    """
    Yield the reports in `folder`, and add a line to `problems` for each other file.
    """
    if folder is None:
        return
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{folder}: {error.strerror}")
        return
    for path in paths:
        try:
            yield read_report(path)
        except BadReport as error:
            problems.append(str(error))


def _failed(report: Report) -> tuple[str, ...]:
    """
    Return the names of the checks that failed, of which the log and ``/health`` show a few.
    """
    names = [
        check.name[:_MAX_NAME]
        for check in report.checks
        if check.outcome is Outcome.FAILED and check.level is not None
    ]
    return tuple(names[:_MAX_FAILED])
