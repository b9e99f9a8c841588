"""
Write the table of proven versions in ``agents.rst``, from the reports that come with the package.

After a new report in ``kiroworkers/proof/reports``, made by ``kiroworkers prove``::

    python docs/agent_proofs.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kiroworkers.proof.report import Outcome, Report, read_report
from kiroworkers.proof.shipped import SHIPPED, version_number

PAGE = Path(__file__).with_name("agents.rst")

#: The lines of the page around the table.
_BEGIN = ".. The table is written by docs/agent_proofs.py.\n\n"
_END = "\n.. The end of the table.\n"

_HEAD = """\
.. list-table::
   :header-rows: 1

   * - Agent
     - Version
     - Level
     - Memory of a session
     - What failed, and what was skipped
"""


def table() -> str:
    """
    Return the table, with a row for each report.
    """
    return _HEAD + "".join(map(_row, _reports()))


def page() -> str:
    """
    Return the page with the table as it must be.
    """
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}{table()}{_END}{rest.partition(_END)[2]}"


def _reports() -> Iterator[Report]:
    for path in sorted(SHIPPED.glob("*.json")):
        yield read_report(path)


def _row(report: Report) -> str:
    level = "not proven" if report.level is None else f"*{report.level.value}*"
    problems = [_named(report, outcome) for outcome in (Outcome.FAILED, Outcome.SKIPPED)]
    return (
        f"   * - ``{report.agent}``\n"
        f"     - {version_number(report.agent_version)}\n"
        f"     - {level}\n"
        f"     - {_memory(report)}\n"
        f"     - {'; '.join(filter(None, problems)) or 'nothing'}\n"
    )


def _named(report: Report, outcome: Outcome) -> str:
    names = [f"``{check.name}``" for check in report.checks if check.outcome is outcome]
    return f"{outcome.value}: {', '.join(names)}" if names else ""


def _memory(report: Report) -> str:
    """
    Return how much memory a session used after many turns; empty if that was not measured.
    """
    for check in report.checks:
        match check.details:
            case {"memory": {"late": int() | float() as late}}:
                return f"{late / 2**20:.0f} MiB"
    return ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
