"""
Prove that agents give exact answers, from fresh conversations: ``kiroworkers prove [AGENT…]``.

Each agent is started by a server of its own, with a new home directory and a model server on
loopback that sees every prompt.  A line is printed for each check, and a report is written.
Neither the agent's service nor your own configuration is used, and nothing is spent, unless
``--spend`` allows it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import react

from kiroworkers.agents.choice import choose_agent
from kiroworkers.agents.dialects import AGENT_DIALECTS, named_dialects
from kiroworkers.agents.program import read_output
from kiroworkers.agents.spec import AgentSpec
from kiroworkers.clean_text import clean_text
from kiroworkers.cli.cancellation import run_until_signal
from kiroworkers.cli.dialect_files import load, load_recording
from kiroworkers.clocks import make_monotonic
from kiroworkers.conversations import BadDialect
from kiroworkers.conversations.terminal.recording import BadRecording
from kiroworkers.errors import CannotStart
from kiroworkers.proof.checks.catalogue import UnknownCheck, select
from kiroworkers.proof.checks.check import Check
from kiroworkers.proof.checks.ready import READY
from kiroworkers.proof.prover import CannotProve, Target, prove
from kiroworkers.proof.recorded import check_answers
from kiroworkers.proof.report import CheckResult, Level, Model, Outcome, Report, write_report
from kiroworkers.proof.run import MAX_TURNS, ProofOptions
from kiroworkers.proof.server_process import StartPython
from kiroworkers.proof.shipped import version_number
from kiroworkers.settings import inherited_environment

_EPILOG = """\
levels:
  exact   answers arrive as the model wrote them, each from a fresh conversation
  lossy   some answers are altered or lost
  leaks   a conversation or an answer contains text of another request
  unsafe  the agent runs tools that were denied, or runs tools unnoticed

exit status:
  0    every agent is exact; with --checks or --skip: the chosen checks succeeded
  1    an agent is not, or could not be proven
  2    the command line is invalid
  130  cancelled by Ctrl-C
"""

_NOT_EXACT, _USAGE_ERROR = 1, 2

#: Seconds that a program may take to print its version.
_VERSION_TIMEOUT = 60.0

#: How outcomes are printed.
_WORDS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}

#: What is printed about the model that answers.
_MODELS: Mapping[Model, str] = {
    "loopback": "a model server on loopback answers, not the agent's service; your own "
    "configuration is not used",
    "mock": "the agent reads its model's answers from a file, not from its service; your own "
    "configuration is not used",
    "service": "the agent's own service answers, with your own configuration and login",
}


def installed_agents(environment: Mapping[str, str]) -> list[str]:
    """
    Return the names of the agents whose program is on PATH.

    An interface that another name chooses if the version has it, such as ``kiro-acp``, is not
    named a second time.
    """
    path = environment.get("PATH", os.defpath)
    chosen = {name for names in AGENT_DIALECTS.values() if len(names) > 1 for name in names}
    programs = {
        name: named_dialects(name)[0].start.program for name in AGENT_DIALECTS if name not in chosen
    }
    return [
        name
        for name, program in programs.items()
        if program is not None and shutil.which(program, path=path) is not None
    ]


def find_target(agent: str, options: argparse.Namespace, environment: Mapping[str, str]) -> Target:
    """
    Return what is to be proven of `agent`.

    Args:
        agent: A name, or the path of a dialect file.
        options: The command line.
        environment: The environment of this process.

    Raises:
        BadDialect: If the name is unknown or the file is invalid.
        CannotStart: If the agent is not installed, or its version cannot be driven.
    """
    if agent.endswith(".toml"):
        agent = str(Path(agent).expanduser().resolve())
    named_dialects(agent)
    # A report without a version is of little use, so a slow machine gets more time.
    read_version = partial(read_output, timeout=_VERSION_TIMEOUT)
    with TemporaryDirectory(prefix="kiroworkers-prove-") as home:
        # Some programs write to their home directory even if they are asked for their version.
        neutral = {
            name: value
            for name, value in environment.items()
            if not name.startswith(("KIROWORKERS_", "XDG_"))
        }
        chosen = choose_agent(AgentSpec(agent=agent), {**neutral, "HOME": home}, read_version)
    return Target(
        agent,
        chosen.name,
        chosen.dialect,
        chosen.version,
        ProofOptions(options.turns, options.spend),
        options.startup_timeout,
        options.timeout,
    )


def report_name(report: Report) -> str:
    """
    Return the name of the file of `report`: ``AGENT-VERSION.json``.

    One that proves nothing is ``AGENT-VERSION-partial.json``: it must not replace one that does.
    """
    partial = "-partial" if report.level is None else ""
    return f"{report.agent}-{version_number(report.agent_version) or 'unknown'}{partial}.json"


def result_line(result: CheckResult) -> str:
    """
    Return the line about one check.
    """
    level = f" ({result.level.value})" if result.outcome is Outcome.FAILED and result.level else ""
    evidence = clean_text(result.evidence)
    return f"  {result.name:22}  {_WORDS[result.outcome]:7}  {evidence}{level}"


def summary(reports: Sequence[Report | tuple[str, str]]) -> list[str]:
    """
    Return a table with a row for each agent.

    Args:
        reports: The reports; the name and the reason for an agent that has none.
    """
    rows = [("agent", "version", "dialect", "level")]
    for report in reports:
        if isinstance(report, Report):
            level = report.level.value if report.level is not None else _not_proven(report)
            rows.append((report.agent, report.agent_version or "-", report.dialect, level))
        else:
            rows.append((report[0], "-", "-", f"not proven: {report[1]}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        clean_text(
            "  ".join(
                [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]
            )
        )
        for row in rows
    ]


def _not_proven(report: Report) -> str:
    """
    Return what the table says about an agent of which nothing is proven.
    """
    if any(check.outcome is Outcome.FAILED and check.name == READY for check in report.checks):
        return "not proven"
    groups = dict.fromkeys(name.partition(":")[0] for name in report.missing)
    return f"not proven: nothing failed, but not everything was checked ({', '.join(groups)})"


def has_succeeded(report: Report, checks: Iterable[Check]) -> bool:
    """
    Return whether the agent is exact, as far as `checks` can show.
    """
    if report.level is not None:
        return report.level is Level.EXACT
    return not {check.name for check in checks}.intersection(report.missing)


async def prove_all(
    reactor: Any,
    agents: Sequence[str],
    checks: Sequence[Check],
    options: argparse.Namespace,
    environment: Mapping[str, str],
    start_python: StartPython | None = None,
) -> int:
    """
    Prove `agents` one after the other, print what is found, and return the exit status.

    Args:
        reactor: Runs everything.
        agents: The agents.
        checks: The checks to make of each.
        options: The command line.
        environment: The environment of this process.
        start_python: Starts the servers, as in `ServerProcess`.
    """
    outcomes: list[Report | tuple[str, str]] = []
    # The labels of the dialects so far.
    proven: set[str] = set()
    for agent in agents:
        try:
            target = find_target(agent, options, environment)
            kind = target.model_kind
        except (BadDialect, CannotStart, CannotProve) as error:
            reason = str(error).removeprefix("kiroworkers: ")
            print(f"{agent}: not proven: {clean_text(reason)}", flush=True)
            outcomes.append((agent, reason))
            continue
        if not options.agents and target.dialect.label in proven:
            continue  # It has two names.
        proven.add(target.dialect.label)
        version = target.version or "version unknown"
        print(clean_text(f"{target.name}: {version}, {target.dialect.label}"))
        print(f"{_MODELS[kind]}", flush=True)
        report = await prove(
            reactor,
            target,
            checks,
            environment,
            lambda result: print(result_line(result), flush=True),
            start_python,
        )
        outcomes.append(report)
        path = options.output / report_name(report)
        # A server that reads the folder at this moment must not see half a report.
        new = path.with_suffix(f".{os.getpid()}.new")
        new.write_text(write_report(report), encoding="utf-8")
        new.replace(path)
        print(f"report: {path}\n", flush=True)
    print("\n".join(summary(outcomes)), flush=True)
    exact = all(isinstance(each, Report) and has_succeeded(each, checks) for each in outcomes)
    return 0 if exact and outcomes else _NOT_EXACT


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Prove the agents that the command line names, and exit.

    Args:
        arguments: The arguments; by default those of this process.

    Raises:
        SystemExit: Always, with the exit status.
    """
    parser = new_parser()
    options = parser.parse_args(arguments)
    if options.from_recording is not None:
        if len(options.agents) != 1:
            parser.error("--from-recording takes one AGENT, the name or the file of a dialect")
        try:
            status = check_recording(options.agents[0], options.from_recording)
        except (BadDialect, BadRecording, OSError) as error:
            parser.error(f"--from-recording: {clean_text(str(error))}")
        raise SystemExit(status)
    environment = inherited_environment()
    try:
        checks = select(split_names(options.checks), split_names(options.skip))
        for agent in options.agents:
            _check_name(agent)
        options.output.mkdir(parents=True, exist_ok=True)
        if not os.access(options.output, os.W_OK | os.X_OK):
            raise PermissionError(f"{options.output} is not writable")
    except (UnknownCheck, BadDialect) as error:
        parser.error(clean_text(str(error)))
    except OSError as error:
        parser.error(f"--output: {error}")
    agents = options.agents or installed_agents(environment)
    if not agents:
        parser.error("no agent is installed; name a dialect file")
    react(_run, (agents, checks, options, environment))


def check_recording(dialect: str, file: str) -> int:
    """
    Check that a dialect finds the answers of a recording as the server did that made it.

    Prints a line for each answer, and returns the exit status.

    Args:
        dialect: The name or the file of a dialect.
        file: The recording.

    Raises:
        BadDialect: If there is no such dialect, or if it does not fit the recording.
        BadRecording: If the recording cannot be read or followed.
        OSError: If a file cannot be read.
    """
    recording = load_recording(file)
    results = check_answers(recording.events(load(dialect)), recording.marks)
    for result in results:
        name = clean_text(result.request or "(no request)")
        print(f"  {name:36}  {_WORDS[result.outcome]:7}  {result.evidence}")
    failed = sum(result.outcome is Outcome.FAILED for result in results)
    passed = sum(result.outcome is Outcome.PASSED for result in results)
    print(f"{passed} of {len(results)} answers are the same, {failed} differ")
    return _NOT_EXACT if failed or not passed else 0


async def _run(
    reactor: Any,
    agents: Sequence[str],
    checks: Sequence[Check],
    options: argparse.Namespace,
    environment: Mapping[str, str],
) -> None:
    """
    Prove, and stop and clean up at SIGINT and SIGTERM.

    Raises:
        SystemExit: With the exit status, unless that is 0.
    """
    make_monotonic(reactor)
    work = prove_all(reactor, agents, checks, options, environment)
    status = await run_until_signal(reactor, work)
    if status:
        raise SystemExit(status)


def _check_name(agent: str) -> None:
    if agent not in AGENT_DIALECTS and not agent.endswith(".toml"):
        names = ", ".join(AGENT_DIALECTS)
        raise BadDialect(f"{agent} is neither a dialect file (.toml) nor one of {names}")
    named_dialects(agent)


def split_names(text: str) -> list[str]:
    """
    Return the names in the value of --checks or --skip.
    """
    return [name for name in re.split(r"\s*,\s*", text.strip()) if name]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _turns(text: str) -> int:
    number = int(text)
    if number < MAX_TURNS:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86400:
        raise ValueError
    return seconds


def new_parser() -> argparse.ArgumentParser:
    """
    Return the parser of the command line.
    """
    parser = argparse.ArgumentParser(
        "kiroworkers prove",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "agents",
        nargs="*",
        metavar="AGENT",
        help="agent, named as for --agent of the server, or a dialect file "
        "[default: every agent that is installed]",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for the reports, AGENT-VERSION.json [default: the current folder]",
    )
    parser.add_argument(
        "--spend",
        type=_turns,
        default=0,
        metavar="N",
        help="for an agent that cannot use another model server: spend up to N turns of its "
        f"own service, with your own configuration and login; at least {MAX_TURNS}, because "
        "one answer may take so many",
    )
    parser.add_argument(
        "--checks", default="", metavar="NAME,...", help="checks or groups of checks to make"
    )
    parser.add_argument(
        "--skip", default="", metavar="NAME,...", help="checks or groups of checks to leave out"
    )
    parser.add_argument(
        "--turns",
        type=_positive,
        default=100,
        metavar="N",
        help="turns over which memory and files are measured [default: 100]",
    )
    parser.add_argument(
        "--from-recording",
        metavar="FILE",
        help="start nothing: check that the dialect AGENT finds the answers in a recording of a "
        "server (--record) as the server did",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="S",
        help="longest wait for an answer (seconds) [default: 120]",
    )
    parser.add_argument(
        "--startup-timeout",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="longest wait for the agent to become ready (seconds) [default: 60]",
    )
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
