"""
Check the agents: which ones would answer, whether they are logged in, and whether they start.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool

from kiroworkers.agents import Agent, AgentSpec, choose_agent, read_output
from kiroworkers.agents.program import RunningCommands
from kiroworkers.assembly import Assembly, GetOutput
from kiroworkers.doctor.finding import Finding, failure, ok, skipped, warning
from kiroworkers.errors import CannotStart
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.process.login_check import check_login
from kiroworkers.proof.shipped import BUILT_IN, SHIPPED, Proof, find_proof, version_number
from kiroworkers.server import new_workspaces
from kiroworkers.settings import Settings
from kiroworkers.workspaces.session_ids import SessionIds
from kiroworkers.workspaces.state_folder import PROOFS


class AgentCommands:
    """
    Run the commands that print an agent's version or help, each of them once.

    An agent may take many seconds to print them.
    """

    def __init__(self) -> None:
        self._outputs: dict[tuple[str, ...], str] = {}
        self._running = RunningCommands()

    def get_output(self, command: list[str], environment: Mapping[str, str]) -> str:
        """
        Return what `command` prints, as `read_output` does; nothing after `stop`.  Blocks.
        """
        key = tuple(command)
        if key not in self._outputs and not self._running.stopped:
            self._outputs[key] = read_output(command, environment, running=self._running)
        return self._outputs.get(key, "")

    def stop(self) -> None:
        """
        End the commands that run in other threads.
        """
        self._running.stop()


def check_agent(
    spec: AgentSpec, environ: Mapping[str, str], get_output: GetOutput
) -> tuple[Finding, Agent | None]:
    """
    Choose the agent for `spec` as the server does, and say why it was chosen.

    Args:
        spec: What the operator specified.
        environ: The server's environment.
        get_output: Runs a command, such as that which prints the agent's version.

    Returns:
        The finding, and the agent; None if there is none.
    """
    name = "agent" if spec.agent == "auto" or spec.command else f"agent {Path(spec.agent).stem}"
    try:
        agent = choose_agent(spec, environ, get_output)
    except CannotStart as error:
        reason = str(error).removeprefix("kiroworkers: ")
        path = environ.get("PATH", os.defpath)
        return failure(
            name, reason, f"Install it, correct PATH ({path}), or choose another --agent"
        ), None
    detail = f"{agent.dialect.label}: {agent.executable} ({agent.reason})"
    if agent.dialect.start.program is None and spec.agent == "auto":
        return warning(
            name,
            f"{detail}; it answers by rules and understands nothing",
            "Install Kiro CLI for the server's user, or confirm with --agent offline",
        ), agent
    if agent.dialect.start.version_arguments and not agent.version:
        command = shlex.join([agent.executable, *agent.dialect.start.version_arguments])
        return warning(
            name, f"{detail}; it does not say its version", f"Run {command} to see why"
        ), agent
    return ok(name, detail), agent


def check_proof(agent: Agent, state_dir: Path | None) -> Finding:
    """
    Say what was proven about the agent's version.

    Args:
        agent: The agent.
        state_dir: The folder of the operator's own reports; None for none.
    """
    name, number = f"proof {agent.name}", version_number(agent.version) or "unknown"
    proof, problems = _find_proof(agent, state_dir)
    if problems:
        return warning(name, "; ".join(problems), "Remove the file: it is not a report")
    if proof.level is None:
        return warning(
            name,
            f"version {number} is not proven",
            f"Run kiroworkers prove {agent.name}, or expect altered answers",
        )
    shown = f"version {number}: {proof.level.value} ({proof.source}, {proof.date})"
    if proof.source == "built-in":
        return ok(name, "exact; it is a part of the server")
    if proof.is_bad:
        return warning(
            name,
            f"{shown}; failed: {', '.join(proof.failed)}",
            "Read what that means with kiroworkers prove --help, or install another version",
        )
    return ok(name, shown)


def _find_proof(agent: Agent, state_dir: Path | None) -> tuple[Proof, tuple[str, ...]]:
    if agent.dialect.start.program is None:
        return BUILT_IN, ()
    shipped = SHIPPED if agent.is_built_in else None
    own = None if state_dir is None else state_dir / PROOFS
    return find_proof(agent.name, agent.dialect.name, agent.version, own, shipped)


async def check_logged_in(reactor: Any, agent: Agent, user: str) -> Finding:
    """
    Check that somebody is logged in to the agent, as the server does.

    Args:
        reactor: Runs the agent's own command.
        agent: The agent.
        user: The name of this user.
    """
    name, start = f"login {agent.name}", agent.dialect.start
    if not start.login_arguments:
        return skipped(name, "this agent has no command that checks the login")
    command = [agent.executable, *start.login_arguments]
    program = Path(agent.executable).name
    shown = shlex.join([program, *start.login_arguments])
    logged_in = await maybeDeferred(
        check_login, reactor, command, agent.environment, start.logged_out
    )
    if logged_in:
        return ok(name, f"somebody is logged in, according to {shown}")
    if logged_in is False:
        return failure(
            name,
            f"nobody is logged in, according to {shown}",
            f"Log in to {program} as the user {user}, who is to run the server",
        )
    return warning(name, f"{shown} does not tell", "Run it by hand to see what is wrong")


async def check_start(
    reactor: Any, settings: Settings, number: int, name: str, get_output: GetOutput
) -> Finding:
    """
    Start one session of an agent, wait for its prompt, and end it.  Nothing is asked.

    The session runs as those of a server do, except that its folders are temporary.

    Args:
        reactor: Runs the session.
        settings: The server's settings.
        number: The position of the agent in --agent.
        name: The agent's name.
        get_output: Returns again what `check_agent` has read.
    """
    check = f"session {name}"
    count = evolve(settings.agent[number], workers=1)
    alone = evolve(settings, agent=(count,), workers=1, max_workers=0, canary=False)
    folder = settings.repo_path or Path.cwd()
    with TemporaryDirectory(prefix="kiroworkers-doctor-") as temporary:
        workspaces = new_workspaces(reactor, alone, folder)
        workspaces.open(Path(temporary) / "state")
        session_ids = SessionIds(partial(_in_thread, reactor))
        session_ids.open(None)
        assembly = Assembly(reactor, alone, workspaces, folder, session_ids, get_output)
        try:
            [group] = assembly.groups()
            started_at = reactor.seconds()
            problem = await _start_and_stop(reactor, group, settings)
            took = reactor.seconds() - started_at
        finally:
            assembly.stop()
            await session_ids.close()
            await workspaces.close()
    if problem is None:
        return ok(check, f"a session showed its prompt after {took:.1f} s, and was asked nothing")
    command = shlex.join([group.agent.executable, *group.agent.arguments])
    return failure(
        check,
        problem,
        f"Run {command} by hand in {folder} to see what it shows. If it only takes longer, raise "
        "--startup-timeout",
    )


async def _start_and_stop(reactor: Any, group: AgentGroup, settings: Settings) -> str | None:
    """
    Start the only worker of `group`, and stop it when its session is ready or has failed.

    Returns:
        Why no session became ready; None if one did.
    """
    dispatcher = group.dispatcher
    pool = dispatcher.worker_pool
    decided: Deferred[str | None] = Deferred()

    def decide() -> None:
        [worker] = dispatcher.workers()
        if decided.called:
            return
        if worker.healthy:
            decided.callback(None)
        elif dispatcher.state().name not in ("starting", "serving", "trying"):
            decided.callback(dispatcher.state().detail or dispatcher.state().name)
        elif pool.last_cause() is not None:
            decided.callback(f"the session ended: {pool.last_cause()}")

    def give_up() -> None:
        if not decided.called:
            decided.callback(f"no prompt after {limit:g} s")

    pool.on_change = decide
    # The session itself ends at --startup-timeout; before it, somebody may ask for the login.
    limit = settings.startup_timeout + settings.stop_timeout + 60
    timer = reactor.callLater(limit, give_up)
    dispatcher.startService()
    try:
        return await decided
    finally:
        if timer.active():
            timer.cancel()
        pool.on_change = lambda: None
        dispatcher.stop_now()
        await dispatcher.stopService()


def _in_thread(reactor: Any, call: Callable[[], Any]) -> Deferred[Any]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), call)
