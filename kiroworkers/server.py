"""
Start and stop the whole server, its parts in the right order.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.assembly import Assembly
from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.jobs.job import StoredResponse
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.signals import Signals
from kiroworkers.tasks import BadTask, Catalogue, Task
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.errors import error_json
from kiroworkers.web.jobs import job_json
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.listener import Listener
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.site import ApiSite
from kiroworkers.web.tokens import read_tokens
from kiroworkers.workspaces.workspaces import Workdir, Workspaces, runner
from kiroworkers.workspaces.worktrees import Worktrees

#: The exit status of a server that stopped before it finished every accepted request.
_UNFINISHED_REQUESTS = 1

#: The thresholds of Python's garbage collector: it runs after this many new objects, and
#: each older generation every tenth time.  With the defaults it scans what thousands of
#: waiting requests hold so often that each answer costs a third more
#: (``python -m bench queue``).
_GC_THRESHOLDS = (10_000, 10, 10)


class Server(MultiService):
    """
    Run everything that serves requests, from the port to the agents' processes.

    The port comes first, so that a server whose port is taken starts no session.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._watchdog = Watchdog(reactor)
        self._groups: AgentGroups | None = None
        self._tasks: Catalogue | None = None
        self._workspaces: Workspaces | None = None
        self._needs_state_dir = False
        self._job_service: JobService | None = None
        self._connections: ConnectionLimiter | None = None
        self._authorizer = Authorizer(rate_limiter=new_rate_limiter(reactor, settings))
        # Registered before anything else registers, so that it is called last.
        self._exit_status = 0
        atexit.register(self._exit_with_status)

    def privilegedStartService(self) -> None:
        """
        Put the server together and open its port.

        Raises:
            CannotStart: If an agent, a task file or the address cannot be used.
            InvalidSetting: If the file of tokens is no longer valid.
        """
        # Here, not in `__init__`: the current folder, the environment and PATH
        # are those of the process that will run.
        settings = self._settings
        folder = settings.repo_path or Path.cwd()
        self._workspaces = workspaces = self._new_workspaces(folder)
        assembly = Assembly(self._reactor, settings, self._watchdog, workspaces, folder)
        self._groups = groups = AgentGroups(assembly.groups())
        state_dirs = any(group.agent.dialect.state_dirs for group in groups)
        self._needs_state_dir = state_dirs or workspaces.workdir is not Workdir.SHARED
        check = partial(check_tasks, groups=groups, longest=settings.request_timeout)
        self._tasks = Catalogue(settings.tasks, check)
        try:
            self._reload_tasks()
        except BadTask as error:
            raise CannotStart(f"kiroworkers: {error}") from None
        self._reload_tokens()
        self._job_service = job_service = JobService(
            self._reactor,
            settings,
            groups,
            self._tasks,
            lambda error: StoredResponse(*error_json(error)),
            job_json,
        )
        application = Application(self._reactor, groups, self._tasks, self._authorizer, job_service)
        site = ApiSite(self._reactor, application.resource(), request_limits(settings))
        self._connections = ConnectionLimiter(
            site, settings.max_connections, settings.max_connections_per_address
        )
        listener = Listener(self._reactor, settings, self._connections)
        dispatchers = [group.dispatcher for group in groups]
        monitors = map(assembly.new_monitor, dispatchers)
        for service in (listener, *dispatchers, *monitors, job_service):
            service.setServiceParent(self)
        signals = Signals(self._reactor, self._reactor.stop, self._stop_now, self._reload)
        self._reactor.callWhenRunning(signals.install)
        super().privilegedStartService()
        shared = workspaces.workdir is Workdir.SHARED
        for group in groups:
            log = self._log.warn if group.name == "offline" else self._log.info
            log(
                "{group}answers come from {label} ({reason}); sessions run in {folder}{workdir}",
                group="" if len(dispatchers) == 1 else f"{group.name}: ",
                label=group.agent.dialect.label,
                reason=group.agent.reason,
                folder=folder,
                workdir="" if shared else f" (--workdir {settings.workdir})",
            )
        self._warn_of_unknown_agents(groups)

    def startService(self) -> None:
        """
        Open the state folder and the store of jobs, and start the sessions.
        """
        # Not before: twistd has only now changed to the user who is to own the files.
        assert self._workspaces is not None and self._job_service is not None, (
            "privilegedStartService made them"
        )
        state_dir = self._settings.state_dir
        if self._needs_state_dir or state_dir is not None:
            self._workspaces.open(state_dir)
        self._job_service.open(None if state_dir is None else self._workspaces.path)
        gc.set_threshold(*_GC_THRESHOLDS)
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        Finish accepted requests, within --graceful-timeout, and stop everything.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._groups is not None and self._connections is not None:
            if self._job_service is not None:
                self._job_service.runner.stop_dispatch()
            unfinished = self._count_requests()
            if unfinished:
                self._log.info("stopping: {n} request(s) to finish", n=unfinished)
            await self._groups.drain(self._settings.graceful_timeout)
            if self._job_service is not None:
                self._job_service.runner.requeue_running()
            # Only requests whose clients wait are left: the next server runs the jobs.
            if self._count_requests():
                self._exit_status = _UNFINISHED_REQUESTS
                self._log.warn("stopping: unfinished requests are refused")
        stopped = maybeDeferred(super().stopService)
        if self._connections is not None:
            await self._connections.close(self._reactor)
        await stopped
        if self._job_service is not None:
            self._job_service.close()
        if self._workspaces is not None:
            await self._workspaces.close()
        self._watchdog.stop()

    def _count_requests(self) -> int:
        """
        Return the number of requests that wait or run.
        """
        assert self._groups is not None, "privilegedStartService made them"
        return sum(1 for group in self._groups for _ in group.dispatcher.requests())

    def _stop_now(self) -> None:
        """
        Stop without waiting for the requests that run.
        """
        assert self._groups is not None, "signals are handled once the server runs"
        self._groups.stop_now()

    def _reload(self) -> None:
        """
        Reload the tokens and the tasks, and replace every session, one at a time.
        """
        assert self._groups is not None, "signals are handled once the server runs"
        try:
            self._reload_tokens()
        except InvalidSetting as error:
            self._log.error("the tokens were not reloaded: {error}", error=error)
        try:
            self._reload_tasks()
        except BadTask as error:
            self._log.error("the tasks were not reloaded: {error}", error=error)
        self._groups.restart_workers("SIGHUP")

    def _reload_tokens(self) -> None:
        if self._settings.token_file is not None:
            self._authorizer.tokens = tuple(read_tokens(self._settings.token_file))

    def _reload_tasks(self) -> None:
        assert self._tasks is not None, "privilegedStartService made it"
        replaced = self._tasks.read()
        if self._settings.tasks is not None:
            for task in replaced:
                self._log.warn("{task.source} replaces the built-in task {task.name}", task=task)
            self._log.info("tasks: {names}", names=", ".join(self._tasks))

    def _exit_with_status(self) -> None:
        """
        Exit with the server's own status, unless that is 0: twistd cannot be given one.
        """
        if self._exit_status:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._exit_status)

    def _new_workspaces(self, folder: Path) -> Workspaces:
        workdir = Workdir(self._settings.workdir)
        worktrees = None
        if workdir is Workdir.GIT_WORKTREE:
            worktrees = Worktrees(folder, inherited_environment())
        return Workspaces(runner(self._reactor), workdir, worktrees)

    def _warn_of_unknown_agents(self, groups: AgentGroups) -> None:
        """
        Log the agents that --pass-env names and that this server does not run.
        """
        names = {pattern.rpartition(":")[0] for pattern in self._settings.pass_env} - {""}
        for name in sorted(names - {*groups.names}):
            self._log.warn(
                "--pass-env names the agent {name}, which this server does not run", name=name
            )


def request_limits(settings: Settings) -> RequestLimits:
    """
    Return the limits that `settings` set for requests, their origins and host names.
    """
    # With tokens any name is safe: a page that gave this address a name of its own (DNS
    # rebinding) has no token to send.
    return RequestLimits(
        max_body=settings.max_body,
        receive_timeout=settings.receive_timeout,
        cors_origins=settings.cors_origin,
        hosts=settings.allow_host,
        any_host=settings.open_to_others and not settings.allow_host,
    )


def new_rate_limiter(clock: IReactorTime, settings: Settings) -> RateLimiter | None:
    """
    Return the limiter of each client's requests, or None if `settings` set no limit.
    """
    return RateLimiter(clock, settings.rate, settings.rate_burst) if settings.rate else None


def check_tasks(tasks: Mapping[str, Task], groups: AgentGroups, longest: float) -> None:
    """
    Check that this server can serve `tasks`.

    Args:
        tasks: The tasks by name.
        groups: The agents that the server runs.
        longest: The deadline of any request, in seconds.

    Raises:
        BadTask: If a task names an agent that the server does not run, or a deadline
            above `longest`.
    """
    for task in tasks.values():
        if task.agent is not None and task.agent not in groups.names:
            raise BadTask(
                task.source,
                f"agent: this server does not run {task.agent!r}, only {', '.join(groups.names)}; "
                "add it with --agent",
            )
        if task.limits.timeout is not None and task.limits.timeout > longest:
            raise BadTask(
                task.source, f"limits.timeout: is above --request-timeout, {longest:g} seconds"
            )
