"""
Assemble the agents, their pools of workers and their sessions from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any, TypeAlias, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from kiroworkers.agents import Agent, AgentSpec, choose_agent, isolate_env, read_output
from kiroworkers.agents.program import RunningCommands
from kiroworkers.conversations import AgentFailure, new_conversation
from kiroworkers.errors import CannotStart, FailureKind
from kiroworkers.pool.accepted_versions import AcceptedVersions
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.agent_source import AgentChanged, AgentSource
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.backoff import BackoffPolicy
from kiroworkers.pool.canary import Canary
from kiroworkers.pool.canary_turn import CanaryTurn
from kiroworkers.pool.circuit_breaker import LoginCheck, LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher, QueuePolicy
from kiroworkers.pool.health_monitor import HealthLimits, HealthMonitor
from kiroworkers.pool.recycling import RecyclePolicy
from kiroworkers.pool.shared_outage import SharedOutage
from kiroworkers.pool.versions import AnyVersion, VersionGate
from kiroworkers.pool.worker import SessionFactory, Supervisor, Worker
from kiroworkers.process import agent_process
from kiroworkers.process.login_check import LoginGate, NotLoggedIn, check_login
from kiroworkers.process.memory import has_free_memory, memory_by_tree
from kiroworkers.proof.canary import CanaryQuestion
from kiroworkers.proof.report import Level
from kiroworkers.proof.shipped import BUILT_IN, SHIPPED, Proof, find_proof, version_number
from kiroworkers.session.end_cause import EndCause
from kiroworkers.session.journal import JournalFolder
from kiroworkers.session.observer import SessionInfo, SessionObserver
from kiroworkers.session.session import Reset, Session, SessionTimeouts
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.workspaces.session_ids import SessionIds
from kiroworkers.workspaces.state_folder import PROOFS
from kiroworkers.workspaces.workspaces import Workspaces

_T = TypeVar("_T")

#: What runs a command in an environment and returns its output.
GetOutput: TypeAlias = Callable[[list[str], Mapping[str, str]], str]

#: The reports, and one line about each file that is not a report.
FoundProof: TypeAlias = tuple[Proof, tuple[str, ...]]


class Assembly:
    """
    Make the parts of one server, as its settings specify.

    Args:
        reactor: The reactor that everything runs on.
        settings: The settings of the server.
        workspaces: Prepares the folders that sessions run in.
        folder: The folder of --repo-path.
        session_ids: The identifiers of the agents' earlier sessions.
        get_output: Runs a command that prints an agent's version or help; see `choose_agent`.
        observe_session: Returns what observes a session, if anything.
        shared_outage: Returns what shares the outages of an agent's account; None to share none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        workspaces: Workspaces,
        folder: Path,
        session_ids: SessionIds,
        get_output: GetOutput = read_output,
        observe_session: Callable[[SessionInfo], SessionObserver | None] = lambda info: None,
        shared_outage: Callable[[str], SharedOutage | None] = lambda agent: None,
    ) -> None:
        self._reactor = reactor
        self._get_output = get_output
        self._observe_session = observe_session
        self._shared_outage = shared_outage
        self._settings = settings
        self._workspaces = workspaces
        self._folder = folder
        self._session_ids = session_ids
        self._groups: list[AgentGroup] = []
        self._own_proofs: Path | None = None
        self._accepted_versions = AcceptedVersions(self._in_thread)
        self._reported: set[str] = set()
        # The programs that are asked for their version at the moment.
        self._asked = RunningCommands()
        # The names of the agents that have said their version since the server started.
        self._says_version: set[str] = set()
        self.approvals = Approvals(reactor, partial(token_hex, 8))

    def groups(self) -> Iterator[AgentGroup]:
        """
        Yield the agents in the order of --agent, each with a pool that is not started yet.

        Raises:
            CannotStart: If an agent is not available on this machine.
        """
        settings = self._settings
        for number, spec in enumerate(isolate_env(agent_specs(settings))):
            agent = choose_agent(spec, inherited_environment(), self._get_output)
            self._note_version(agent)
            replace = partial(self._replace_agent, number)
            source = AgentSource(
                agent,
                partial(self._choose_again, spec, agent),
                self._in_thread,
                # With --canary, it has to be accepted first.
                replace if not settings.canary else lambda agent: None,
            )
            # The workers of the first agent are named as if there were no other agent.
            prefix = f"{agent.name}-worker" if number else "worker"
            workers = settings.workers_of(settings.agent[number])
            dispatcher = self._new_dispatcher(source, workers, prefix, replace)
            group = AgentGroup(agent, dispatcher, settings.models)
            self._groups.append(group)
            yield group

    def _choose_again(self, spec: AgentSpec, first: Agent) -> Agent:
        """
        Choose the agent of a running server.  Blocks.

        Args:
            spec: What the operator specified.
            first: The agent that was chosen when the server started.

        Raises:
            VersionUnknown: If it does not say its version, although it did before.
            CannotStart: If it is not available any more.
        """
        agent = choose_agent(
            spec,
            inherited_environment(),
            self._read_output,
            first.name,
            needs_version=first.name in self._says_version,
        )
        self._note_version(agent)
        if agent.needs_folders and self._workspaces.path is None:
            raise CannotStart(f"{agent.dialect.label} needs folders: restart the server")
        return agent

    def _read_output(self, command: list[str], environment: Mapping[str, str]) -> str:
        """
        Run `command` and return what it prints; nothing while the server is stopping.  Blocks.
        """
        if self._asked.stopped:
            return ""
        return read_output(command, environment, running=self._asked)

    def stop(self) -> None:
        """
        End the programs that are asked for their version: the process waits for its threads.
        """
        self._asked.stop()

    def _note_version(self, agent: Agent) -> None:
        if agent.version:
            self._says_version.add(agent.name)

    def use_state(self, folder: Path | None) -> None:
        """
        Read what is known about the agents' versions, and log it.  Blocks.

        Args:
            folder: The folder that is kept for the next server; None for none.
        """
        self._own_proofs = None if folder is None else folder / PROOFS
        if self._settings.canary:
            self._accepted_versions.open(folder)
        for group in self._groups:
            self._use_proof(group, group.agent, self._find_proof(group.agent))

    def _replace_agent(self, number: int, agent: Agent) -> None:
        """
        Use `agent`, which has changed, or which --canary has accepted.
        """
        group = self._groups[number]
        if agent != group.agent:
            group.agent = agent
            self._log.info(
                "{agent} has changed: answers come from {label} ({reason})",
                agent=agent.name,
                label=agent.dialect.label,
                reason=agent.reason,
            )
        # Also if it is the same: a new report may be why it was accepted.
        found = self._in_thread(partial(self._find_proof, agent))
        found.addCallback(partial(self._use_proof, group, agent))
        found.addErrback(lambda failure: self._log.failure("cannot read reports", failure))

    def _find_proof(self, agent: Agent) -> FoundProof:
        """
        Return what was proven about the version of `agent`, and what is wrong with files.  Blocks.
        """
        if agent.dialect.start.program is None:
            return BUILT_IN, ()
        # What was proven with the package's dialect says nothing about another one of its name.
        shipped = SHIPPED if agent.is_built_in else None
        return find_proof(agent.name, agent.dialect.name, agent.version, self._own_proofs, shipped)

    def _use_proof(self, group: AgentGroup, agent: Agent, found: FoundProof) -> None:
        """
        Show what was proven, and log it once for each version.
        """
        proof, problems = found
        if group.agent == agent:
            group.proof = proof
        for problem in problems:
            self._report_once(f"{problem}; this report does not count", warn=True)
        version = f"{agent.name}: version {version_number(agent.version) or 'unknown'}"
        if proof.level is None:
            self._report_once(f"{version} is not proven (kiroworkers prove)", warn=False)
        elif proof.is_bad:
            failed = ", ".join(proof.failed)
            line = f"{version} has the level {proof.level.value}; failed: {failed}"
            self._report_once(line, warn=True)

    def _report_once(self, line: str, *, warn: bool) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self._log.emit(LogLevel.warn if warn else LogLevel.info, "{line}", line=line)

    def _reason_without_canary(self, agent: Agent) -> Deferred[str | None]:
        """
        Return a Deferred of the reason why `agent` needs no canary; None if it needs one.
        """

        def find() -> str | None:
            proof, _ = self._find_proof(agent)
            if proof.source == "built-in":
                return "it is a part of the server"
            return "its report proves it exact" if proof.level is Level.EXACT else None

        return self._in_thread(find)

    def _in_thread(self, call: Callable[[], _T]) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call)

    def _new_dispatcher(
        self, source: AgentSource, workers: int, prefix: str, replace: Callable[[Agent], None]
    ) -> Dispatcher:
        settings, rng = self._settings, Random()
        gate: LoginGate | None = None
        check: LoginCheck | None = None
        arguments = source.agent.dialect.start.login_arguments
        if arguments:
            gate = LoginGate(partial(self._ask_login, source, arguments))
            check = gate.check
        versions: VersionGate = AnyVersion()
        if settings.canary:
            name = prefix.removesuffix("worker") + "canary"
            versions = Canary(
                self._reactor,
                source,
                self._accepted_versions,
                self._reason_without_canary,
                partial(self._new_canary_turn, name, self._new_session(source, gate, AnyVersion())),
                replace,
            )
        new_session = self._new_session(source, gate, versions)
        backoff = BackoffPolicy(
            delay=settings.restart_delay,
            max_delay=settings.restart_max_delay,
            burst=settings.start_limit_burst,
            stable_after=settings.start_limit_interval,
        )
        recycling = RecyclePolicy(
            max_requests=settings.max_requests,
            jitter=settings.max_requests // 5,
            max_age=settings.max_age,
            memory_max=settings.memory_max,
        )

        def new_worker(name: str, supervisor: Supervisor) -> Worker:
            return Worker(name, self._reactor, rng, new_session, backoff, recycling, supervisor)

        return Dispatcher(
            self._reactor,
            new_worker,
            AutoscalePolicy(
                workers=workers,
                max_workers=max(workers, settings.max_workers),
                min_spare=settings.min_spare,
                max_spare=settings.max_spare,
            ),
            QueuePolicy(settings.backlog, settings.queue_timeout, settings.request_timeout),
            LoginPolicy(check, settings.check_interval),
            has_free_memory,
            prefix,
            lambda: source.problem,
            self.approvals,
            source.agent.name,
            versions,
            self._shared_outage(source.agent.name),
        )

    def _new_canary_turn(self, name: str, new_session: SessionFactory, agent: Agent) -> CanaryTurn:
        return CanaryTurn(
            name,
            self._reactor,
            new_session,
            CanaryQuestion(token_hex(8)),
            agent.dialect.answer.layout,
            self._settings.request_timeout,
        )

    def new_monitor(self, dispatcher: Dispatcher) -> HealthMonitor:
        """
        Return the health monitor for the workers of `dispatcher`.
        """
        settings = self._settings
        timeouts = settings.startup_timeout, settings.request_timeout, settings.cancel_timeout
        return HealthMonitor(
            self._reactor,
            dispatcher,
            settings.check_interval,
            HealthLimits(idle=settings.idle_timeout, stuck=sum(timeouts) + settings.stop_timeout),
            memory_by_tree,
        )

    def _ask_login(self, source: AgentSource, arguments: Sequence[str]) -> Deferred[bool | None]:
        """
        Run the agent with `arguments` to find out whether somebody is logged in.
        """
        agent = source.agent
        command = (agent.executable, *arguments)
        logged_out = agent.dialect.start.logged_out
        return maybeDeferred(check_login, self._reactor, command, agent.environment, logged_out)

    def _new_session(
        self, source: AgentSource, gate: LoginGate | None, versions: VersionGate
    ) -> Callable[..., Session]:
        settings = self._settings
        timeouts = SessionTimeouts(
            startup=settings.startup_timeout,
            cancel=settings.cancel_timeout,
            stop=settings.stop_timeout,
        )

        def new_session(
            name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
        ) -> Session:
            agent = source.agent
            command = agent_process.Command(
                agent.executable,
                agent.arguments,
                agent.environment,
                self._folder,
                agent.dialect.window,
            )
            workspace = self._workspaces.allocate(
                name, command, agent.dialect.state_dirs, agent.minimal
            )

            def launch(program: agent_process.AgentProcess) -> Deferred[None] | None:
                def start(_: object = None) -> None:
                    if not versions.may_start():
                        raise AgentChanged("the agent's program has changed")
                    workspace.prepare(partial(agent_process.start, self._reactor, program))

                def check_login(_: object = None) -> Deferred[None] | None:
                    return None if gate is None else gate.wait()

                checked = source.check()
                if checked is not None:
                    checked.addCallback(check_login)
                # It may have changed since this session was made.
                elif not (source.is_current(agent) and versions.may_start()):
                    checked = fail(AgentChanged("the agent's program has changed"))
                else:
                    checked = check_login()
                    if checked is None:
                        start()
                        return None
                return checked.addCallback(start).addErrback(discard)

            def discard(failure: Failure) -> Failure:
                # The worker makes another session at once.
                session.exhausted = failure.check(AgentChanged) is not None
                if session.exhausted:
                    session.end_cause = EndCause.VERSION_CHANGED
                if failure.check(NotLoggedIn):
                    session.launch_failure = not_logged_in(agent)
                return failure

            def release(reason: str) -> None:
                if not (session.was_ready or session.exhausted or session.launch_failure):
                    source.record_failed_start()
                    if gate is not None:
                        gate.doubt()
                workspace.release()
                on_gone(reason)

            session = Session(
                name,
                self._reactor,
                new_conversation(
                    agent.dialect,
                    settings.max_output,
                    str(workspace.cwd),
                    model=agent.model,
                    effort=agent.effort,
                    agent_name=agent.agent_name,
                    session_meta=agent.session_meta,
                    known_sessions=self._session_ids.of(agent.name),
                ),
                launch,
                timeouts,
                on_idle,
                release,
                ToolPolicy(settings.tool_policy),
                self._journal(agent, workspace.command),
                Reset(settings.reset),
                self._observe_session(
                    SessionInfo(
                        name,
                        agent.name,
                        agent.dialect.window,
                        tuple(workspace.command.environment.items()),
                    )
                ),
            )
            return session

        return new_session

    def _journal(self, agent: Agent, command: agent_process.Command) -> JournalFolder | None:
        """
        Return where a session that runs `command` keeps its journal; None if it keeps none.
        """
        folder = agent.journal_folder(command.environment)
        if folder is None:
            return None
        return JournalFolder(
            folder,
            self._settings.max_output,
            partial(token_hex, 8),
            self._in_thread,
        )


def agent_specs(settings: Settings) -> list[AgentSpec]:
    """
    Return the agents that `settings` ask for, in the order of --agent.
    """
    # Where `acp` is among them, --agent-command is the command of `acp`.
    pass_env = settings.pass_env
    has_acp = any(count.agent == "acp" for count in settings.agent)
    specs = [
        AgentSpec(count.agent, settings.agent_command, settings.prompt_pattern, pass_env)
        if count.agent == "acp" or not has_acp
        else AgentSpec(count.agent, pass_env=pass_env)
        for count in settings.agent
    ]
    return [
        evolve(spec, model=settings.model, effort=settings.effort, kiro_agent=settings.kiro_agent)
        for spec in specs
    ]


def not_logged_in(agent: Agent) -> AgentFailure:
    """
    Return the failure of an agent that reports that nobody is logged in.
    """
    command = " ".join((Path(agent.executable).name, *agent.dialect.start.login_arguments))
    return AgentFailure(
        FailureKind.LOGIN_REQUIRED, f"You are not logged in, according to {command}"
    )
