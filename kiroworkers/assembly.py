"""
Assemble the agents, their pools of workers and their sessions from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any

from twisted.internet.defer import maybeDeferred

from kiroworkers.agents import Agent, AgentSpec, choose_agent, isolate_env, read_version
from kiroworkers.conversations import Dialect, new_conversation
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.backoff import BackoffPolicy
from kiroworkers.pool.circuit_breaker import LoginCheck, LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher, QueuePolicy
from kiroworkers.pool.health_monitor import HealthLimits, HealthMonitor
from kiroworkers.pool.recycling import RecyclePolicy
from kiroworkers.pool.worker import Supervisor, Worker
from kiroworkers.process import agent_process
from kiroworkers.process.login_check import check_login
from kiroworkers.process.memory import has_free_memory, memory_by_group
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.session.journal import JournalFolder
from kiroworkers.session.session import Reset, Session, SessionTimeouts
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.workspaces.workspaces import Workspaces


class Assembly:
    """
    Make the parts of one server, as its settings specify.

    Args:
        reactor: The reactor that everything runs on.
        settings: The settings of the server.
        watchdog: Ends the sessions if the server is killed.
        workspaces: Prepares the folders that sessions run in.
        folder: The folder of --repo-path.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        watchdog: Watchdog,
        workspaces: Workspaces,
        folder: Path,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._watchdog = watchdog
        self._workspaces = workspaces
        self._folder = folder

    def groups(self) -> Iterator[AgentGroup]:
        """
        Yield the agents in the order of --agent, each with a pool that is not started yet.

        Raises:
            CannotStart: If an agent is not available on this machine.
        """
        settings = self._settings
        for number, spec in enumerate(isolate_env(agent_specs(settings))):
            agent = choose_agent(spec, inherited_environment(), read_version)
            # The workers of the first agent are named as if there were no other agent.
            prefix = f"{agent.name}-worker" if number else "worker"
            workers = settings.workers_of(settings.agent[number])
            yield AgentGroup(agent, self._new_dispatcher(agent, workers, prefix))

    def _new_dispatcher(self, agent: Agent, workers: int, prefix: str) -> Dispatcher:
        settings, rng = self._settings, Random()
        new_session = self._new_session(agent)
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
            LoginPolicy(self._login_check(agent), settings.check_interval),
            has_free_memory,
            prefix,
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
            memory_by_group,
        )

    def _login_check(self, agent: Agent) -> LoginCheck | None:
        arguments = agent.dialect.start.login_arguments
        if not arguments:
            return None
        command = (agent.executable, *arguments)
        return lambda: maybeDeferred(check_login, self._reactor, command, agent.environment)

    def _new_session(self, agent: Agent) -> Callable[..., Session]:
        settings = self._settings
        timeouts = SessionTimeouts(
            startup=settings.startup_timeout,
            cancel=settings.cancel_timeout,
            stop=settings.stop_timeout,
        )
        command = agent_process.Command(
            agent.executable,
            agent.arguments,
            agent.environment,
            self._folder,
            agent.dialect.window,
        )

        def new_session(
            name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
        ) -> Session:
            workspace = self._workspaces.allocate(name, command, agent.dialect.state_dirs)

            def launch(program: agent_process.AgentProcess) -> None:
                workspace.prepare(partial(agent_process.start, self._reactor, program))

            def release(reason: str) -> None:
                workspace.release()
                on_gone(reason)

            return Session(
                name,
                self._reactor,
                new_conversation(agent.dialect, settings.max_output, str(workspace.cwd)),
                launch,
                self._watchdog,
                timeouts,
                on_idle,
                release,
                settings.allow_tools,
                _journal(agent.dialect, workspace.command, settings.max_output),
                Reset(settings.reset),
            )

        return new_session


def agent_specs(settings: Settings) -> list[AgentSpec]:
    """
    Return the agents that `settings` ask for, in the order of --agent.
    """
    # Where `acp` is among them, --agent-command is the command of `acp`.
    pass_env = settings.pass_env
    has_acp = any(count.agent == "acp" for count in settings.agent)
    return [
        AgentSpec(count.agent, settings.agent_command, settings.prompt_pattern, pass_env)
        if count.agent == "acp" or not has_acp
        else AgentSpec(count.agent, pass_env=pass_env)
        for count in settings.agent
    ]


def _journal(dialect: Dialect, command: agent_process.Command, limit: int) -> JournalFolder | None:
    """
    Return where a session that runs `command` keeps its journal, or None if it keeps none.
    """
    folder, home = dialect.answer.journal, command.environment.get("HOME")
    if not folder or not home:
        return None
    return JournalFolder(Path(home) / folder, limit, partial(token_hex, 8))
