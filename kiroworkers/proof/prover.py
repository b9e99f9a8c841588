"""
Prove one agent: prepare a home, run a model server and a server, and make all checks.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from time import gmtime, strftime
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.python.failure import Failure

from kiroworkers import __version__
from kiroworkers.conversations import Dialect
from kiroworkers.model_server.server import serve
from kiroworkers.proof.case import level_without_answer
from kiroworkers.proof.checks.check import Check, CheckFailed, Finding, failed, skipped
from kiroworkers.proof.checks.ready import READY
from kiroworkers.proof.program_log import ProgramEnded
from kiroworkers.proof.report import CheckResult, Level, Model, Outcome, Report
from kiroworkers.proof.run import ProofOptions, ProofRun
from kiroworkers.proof.scripted_model import ScriptedModel
from kiroworkers.proof.server_process import (
    NotReady,
    ServerOptions,
    ServerProcess,
    StartPython,
)
from kiroworkers.proof.setup import Setup, has_answers_file, new_setup, own_setup

#: How many lines of the server's log a report has of a failed check.
_LOG_LINES = 40

#: A process that reads its model's answers from a file must answer all cases, in their order.
_IN_ORDER = ("--max-requests", "1000000")


#: The names of variables that may hold a secret, and the length from which a value can be one.
_SECRET, _MIN_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE), 8


class CannotProve(Exception):
    """
    Raised when an agent cannot be proven; the message says why.
    """


@frozen
class Target:
    """
    Hold what is proven.

    Attributes:
        agent: The value of --agent.
        name: The agent's name.
        dialect: The dialect that its version is driven with.
        version: The line in which the program says its version; empty if it says none.
        options: What the user chose.
        startup_timeout: Seconds that a session may take to become ready.
        request_timeout: Seconds that a request may take.
    """

    agent: str
    name: str
    dialect: Dialect
    version: str
    options: ProofOptions = field(factory=ProofOptions)
    startup_timeout: float = 60.0
    request_timeout: float = 120.0

    @property
    def model_kind(self) -> Model:
        """
        Return the model that answers.

        Raises:
            CannotProve: If there is none.
        """
        settings = self.dialect.model_server
        if settings is not None and not (settings.environment or settings.files):
            settings = None  # A dialect takes back that of the one that it extends.
        if settings is not None and not has_answers_file(settings):
            return "loopback"
        if self.options.spend:
            return "service"
        if settings is not None:
            return "mock"
        raise CannotProve(
            f"the dialect {self.dialect.name} does not say how to use another model server "
            "(table [model-server]); --spend N allows N turns of the agent's own service"
        )


async def prove(
    reactor: Any,
    target: Target,
    checks: Iterable[Check],
    inherited: Mapping[str, str],
    on_result: Callable[[CheckResult], object] = lambda result: None,
    start_python: StartPython | None = None,
) -> Report:
    """
    Make `checks` of one agent, and return the report.

    Nothing is left behind, also if this is cancelled.

    Args:
        reactor: Runs everything.
        target: What to prove.
        checks: The checks in their order; the first makes the server ready.
        inherited: The environment of this process.
        on_result: Called with each result.
        start_python: Starts the server, as in `ServerProcess`.

    Raises:
        CannotProve: If no model can answer.
    """
    kind = target.model_kind
    # Resolved, because agents compare folders with those that their settings name.
    root = Path(mkdtemp(prefix="kiroworkers-prove-")).resolve()
    model = ScriptedModel(reactor.seconds)
    port = serve(reactor, model.reply_to, model.note_abandoned, model.note)
    server: ServerProcess | None = None
    try:
        address: Any = port.getHost()
        url = f"http://127.0.0.1:{address.port}"
        setup = _setup(kind, root, target, url, inherited)
        server = ServerProcess(reactor, setup, _server_options(kind, target), start_python)
        proof = ProofRun(
            reactor, kind, setup, server, model, target.options, target.dialect.answer.layout
        )
        results = await make_checks(proof, checks, on_result)
    finally:
        if server is not None:
            await server.stop()
        await maybeDeferred(port.stopListening)
        # An agent that outlived a killed server may still write to it.
        shutil.rmtree(root, ignore_errors=True)
    return Report(
        agent=target.name,
        dialect=target.dialect.name,
        agent_version=target.version,
        server_version=__version__,
        model=kind,
        date=strftime("%Y-%m-%d", gmtime()),
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        checks=tuple(hidden(result, root, inherited) for result in results),
    )


def hidden(result: CheckResult, root: Path, inherited: Mapping[str, str]) -> CheckResult:
    """
    Return `result` without the folders and the secrets of this machine: reports are shared.

    Args:
        result: The result.
        root: The temporary folder of the proof.
        inherited: The environment of this process.
    """
    names = {str(root): "$proof", str(Path(__file__).parents[2]): "$package"}
    for name, value in inherited.items():
        is_secret = _SECRET.search(name) is not None and len(value) >= _MIN_SECRET
        if is_secret or (name == "HOME" and len(value) > 1):
            names[value] = f"${name}"
    # The longest first, because one may be below another.
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))

    def hide(value: Any) -> Any:
        match value:
            case str():
                return pattern.sub(lambda match: names[match[0]], value)
            case Mapping():
                return {key: hide(member) for key, member in value.items()}
            case list() | tuple():
                return [hide(member) for member in value]
        return value

    return evolve(result, evidence=hide(result.evidence), details=hide(result.details))


def _setup(
    kind: Model, root: Path, target: Target, url: str, inherited: Mapping[str, str]
) -> Setup:
    if kind == "service":
        return own_setup(root, inherited)
    return new_setup(root, target.name, target.dialect, url, inherited)


def _server_options(kind: Model, target: Target) -> ServerOptions:
    options = ServerOptions(
        target.agent,
        startup_timeout=target.startup_timeout,
        request_timeout=target.request_timeout,
    )
    return evolve(options, workers=1, extra=_IN_ORDER) if kind == "mock" else options


async def make_checks(
    proof: ProofRun, checks: Iterable[Check], on_result: Callable[[CheckResult], object]
) -> list[CheckResult]:
    """
    Make `checks` one after the other, and return their results.
    """
    checks = tuple(checks)
    results = []
    # Why the other checks cannot be made.
    obstacle = ""
    for check in checks:
        started_at, mark = proof.reactor.seconds(), proof.server.log.count
        finding = skipped(obstacle) if obstacle else await _run(proof, check)
        seconds = proof.reactor.seconds() - started_at
        details = dict(finding.details)
        if finding.outcome is Outcome.FAILED:
            details.setdefault("log", proof.server.log.since(mark)[-_LOG_LINES:])
        result = CheckResult(
            check.name,
            finding.outcome,
            finding.evidence,
            finding.level or check.level,
            details,
            round(seconds, 2),
        )
        results.append(result)
        on_result(result)
        if finding.outcome is Outcome.FAILED and check is not checks[-1]:
            obstacle = await _recover(proof, check)
    return results


async def _run(proof: ProofRun, check: Check) -> Finding:
    """
    Make one check within its time limit.
    """
    if check.needs_model_server and proof.model_kind != "loopback":
        return skipped("it needs a model server that sees every request")
    # The level of a check that cannot be judged: answers are missing, and nothing worse was seen.
    level = None if check.level is None else Level.LOSSY
    running = Deferred.fromCoroutine(_coroutine(proof, check))
    running.addTimeout(check.time_limit, proof.reactor)
    try:
        return await running
    except CheckFailed as failure:
        return failure.finding
    except TimeoutError:
        return failed(f"not done within {check.time_limit:g} s", level=level)
    except CancelledError:
        raise
    except (NotReady, ProgramEnded) as error:
        return failed(str(error), level=level and level_without_answer(str(error)))
    except Exception as error:
        # What cannot be judged is not exact.
        trace = Failure().getTraceback()
        return failed(f"cannot be judged: {error!r}", level=level, traceback=trace)


async def _coroutine(proof: ProofRun, check: Check) -> Finding:
    return await check.run(proof)


async def _recover(proof: ProofRun, check: Check) -> str:
    """
    Start a new server after `check` failed.

    Returns:
        Why the other checks cannot be made; empty if they can.
    """
    if check.name == READY:
        return "the agent is not ready"
    await proof.server.stop()
    try:
        await proof.server.start()
    except NotReady as error:
        return f"the agent is not ready after the check {check.name}: {error}"
    return ""
