"""
Write the tables of proven versions in ``agents.rst`` and ``README.rst``.

They are made from the reports that come with the package.

After a new report in ``kiroworkers/proof/reports``, made by ``kiroworkers prove``::

    python docs/agent_proofs.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kiroworkers.agents.dialects import named_dialects
from kiroworkers.proof.report import Outcome, Report, read_report
from kiroworkers.proof.shipped import SHIPPED, version_number

PAGE = Path(__file__).with_name("agents.rst")
README = Path(__file__).parents[1] / "README.rst"

#: The lines of a page around its table.
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


#: The rows of README's table: names for ``--agent``, how people call the program, and what is known
#: where the package has no report.
_AGENTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("kiro",), "`Kiro CLI <docs/agents.rst>`_", "not proven: captures and stand-ins"),
    (("q",), "Amazon Q Developer CLI", "not proven: captures and stand-ins"),
    (("claude",), "Claude Code", ""),
    (("copilot",), "GitHub Copilot CLI", ""),
    (("codex",), "OpenAI Codex CLI", ""),
    (("gemini-acp", "gemini"), "Gemini CLI", ""),
    (("opencode",), "opencode", ""),
    (("llm",), "`llm <https://llm.datasette.io>`_", ""),
    (("offline",), "the built-in offline agent", "*exact*, by the tests of this package"),
)

_README_HEAD = ("Agent", "``--agent``", "Transport", "Proven level")

_README_REST = (
    (
        "any program that speaks `ACP <https://agentclientprotocol.com>`_",
        "``acp`` and ``--agent-command``",
        "ACP",
        "prove it yourself",
    ),
    (
        "any program with a prompt",
        "``--agent-command``, or a `file <docs/writing-a-dialect.rst>`_",
        "terminal",
        "prove it yourself",
    ),
)


def table() -> str:
    """
    Return the table of `PAGE`, with a row for each report.
    """
    return _HEAD + "".join(map(_row, _reports()))


def readme_table() -> str:
    """
    Return the table of `README`, with a row for each agent.
    """
    reports = {report.agent: report for report in _reports()}
    rows = [_readme_row(names, label, known, reports) for names, label, known in _AGENTS]
    return _simple_table(_README_HEAD, [*rows, *_README_REST])


def page() -> str:
    """
    Return `PAGE` with its table as it must be.
    """
    return _with_table(PAGE, table())


def readme() -> str:
    """
    Return `README` with its table as it must be.
    """
    return _with_table(README, readme_table())


def _with_table(path: Path, table: str) -> str:
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}{table}{_END}{rest.partition(_END)[2]}"


def _readme_row(
    names: tuple[str, ...], label: str, known: str, reports: Mapping[str, Report]
) -> tuple[str, ...]:
    dialects = [dialect for name in names for dialect in named_dialects(name)]
    transports = dict.fromkeys(dialect.transport.replace("acp", "ACP") for dialect in dialects)
    levels = [
        f"{_level(report)} ({version_number(report.agent_version)}"
        f"{f', ``{name}``' if len(names) > 1 else ''})"
        for name in names
        if (report := reports.get(name)) is not None
    ]
    return (
        label,
        ", ".join(f"``{name}``" for name in names),
        ", ".join(transports),
        "; ".join(levels) or known,
    )


def _simple_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    Return a table with one line for each row.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def _level(report: Report) -> str:
    return "not proven" if report.level is None else f"*{report.level.value}*"


def _reports() -> Iterator[Report]:
    for path in sorted(SHIPPED.glob("*.json")):
        yield read_report(path)


def _row(report: Report) -> str:
    problems = [_named(report, outcome) for outcome in (Outcome.FAILED, Outcome.SKIPPED)]
    return (
        f"   * - ``{report.agent}``\n"
        f"     - {version_number(report.agent_version)}\n"
        f"     - {_level(report)}\n"
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
    README.write_text(readme(), encoding="utf-8")
