"""
From settings to pools: what a session is started with, and all that keeps it.
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
from kiroworkers.process.memory import held_by, is_free
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.session.journal import JournalFolder
from kiroworkers.session.session import Reset, Session, SessionTimeouts
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.workspaces.workspaces import Workspaces


class Assembly:
    """
    Puts together what `settings` ask for, around the `reactor`.

    Args:
        watchdog: who ends the sessions of a server that was killed.
        workspaces: where sessions run, from `folder` on.
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
        The agents that are wanted, in their order, each with a pool that is not started.

        Raises:
            CannotStart: when one is not to be had.
        """
        settings = self._settings
        for number, wanted in enumerate(isolate_env(wanted_agents(settings))):
            agent = choose_agent(wanted, inherited_environment(), read_version)
            # The first's workers have the names that they have without others.
            called = f"{agent.name}-worker" if number else "worker"
            workers = settings.workers_of(settings.agent[number])
            yield AgentGroup(agent, self._new_pool(agent, workers, called))

    def _new_pool(self, agent: Agent, workers: int, called: str) -> Dispatcher:
        settings, chance = self._settings, Random()
        new_session = self._new_session(agent)
        restarts = BackoffPolicy(
            delay=settings.restart_delay,
            max_delay=settings.restart_max_delay,
            burst=settings.start_limit_burst,
            long_life=settings.start_limit_interval,
        )
        recycling = RecyclePolicy(
            max_requests=settings.max_requests,
            jitter=settings.max_requests // 5,
            max_age=settings.max_age,
            memory_max=settings.memory_max,
        )

        def new_worker(name: str, supervisor: Supervisor) -> Worker:
            return Worker(name, self._reactor, chance, new_session, restarts, recycling, supervisor)

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
            is_free,
            called,
        )

    def monitor(self, pool: Dispatcher) -> HealthMonitor:
        """
        Who looks after the sessions of `pool`.
        """
        settings = self._settings
        allowed = settings.startup_timeout, settings.request_timeout, settings.cancel_timeout
        return HealthMonitor(
            self._reactor,
            pool.worker_pool,
            settings.check_interval,
            HealthLimits(
                idle=settings.idle_timeout, unsettled=sum(allowed) + settings.stop_timeout
            ),
            held_by,
        )

    def _login_check(self, agent: Agent) -> LoginCheck | None:
        arguments = agent.dialect.login_arguments
        if not arguments:
            return None
        command = (agent.executable, *arguments)
        return lambda: maybeDeferred(check_login, self._reactor, command, agent.environment)

    def _new_session(self, agent: Agent) -> Callable[..., Session]:
        settings = self._settings
        limits = SessionTimeouts(
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
            workspace = self._workspaces.take(name, command, agent.dialect.state_dirs)

            def launch(program: agent_process.AgentProcess) -> None:
                workspace.prepare(partial(agent_process.start, self._reactor, program))

            def gone(reason: str) -> None:
                workspace.release()
                on_gone(reason)

            return Session(
                name,
                self._reactor,
                new_conversation(agent.dialect, settings.max_output, str(workspace.works_in)),
                launch,
                self._watchdog,
                limits,
                on_idle,
                gone,
                settings.allow_tools,
                _journal(agent.dialect, workspace.command, settings.max_output),
                Reset(settings.reset),
            )

        return new_session


def wanted_agents(settings: Settings) -> list[AgentSpec]:
    """
    The agents that `settings` ask for.
    """
    # Among several agents the command is that of `acp`.
    passed = settings.pass_env
    several = any(each.agent == "acp" for each in settings.agent)
    return [
        AgentSpec(each.agent, settings.agent_command, settings.prompt_pattern, passed)
        if each.agent == "acp" or not several
        else AgentSpec(each.agent, pass_env=passed)
        for each in settings.agent
    ]


def _journal(dialect: Dialect, command: agent_process.Command, limit: int) -> JournalFolder | None:
    """
    Where a session that runs `command` writes down what it answers.
    """
    folder, home = dialect.journal, command.environment.get("HOME")
    if not folder or not home:
        return None
    return JournalFolder(Path(home) / folder, limit, partial(token_hex, 8))
