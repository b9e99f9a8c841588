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
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.signals import Signals
from kiroworkers.tasks import BadTask, Catalogue, Task
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
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
    Make the parts of a server when it starts, and run them.
    """

    def __init__(self, reactor: Any, settings: Settings) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._exit_status = ExitStatus()

    def privilegedStartService(self) -> None:
        """
        Put the server together and open its port.

        Raises:
            CannotStart: If an agent, a file that an option names, or the address cannot be
                used.
        """
        # Here, not in `__init__`: the current folder, the environment and PATH
        # are those of the process that will run.
        try:
            running = RunningServer(self._reactor, self._settings, self._exit_status)
        except InvalidSetting as error:
            raise CannotStart(f"kiroworkers: {error}") from None
        running.setServiceParent(self)
        super().privilegedStartService()


class RunningServer(MultiService):
    """
    Run everything that serves requests, from the port to the agents' processes.

    The port is opened first, so that a server whose port is taken starts no sessions.

    Args:
        reactor: Runs everything.
        settings: The settings of the server.
        exit_status: Set when requests are left unfinished.

    Raises:
        CannotStart: If an agent or a task file cannot be used.
        InvalidSetting: If the token file is no longer valid, or the secret for webhooks is not.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, exit_status: ExitStatus) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._exit_status = exit_status
        self._watchdog = Watchdog(reactor)
        self._folder = settings.repo_path or Path.cwd()
        self._workspaces = new_workspaces(reactor, settings, self._folder)
        assembly = Assembly(reactor, settings, self._watchdog, self._workspaces, self._folder)
        self._groups = groups = AgentGroups(assembly.groups())
        check = partial(check_tasks, groups=groups, longest=settings.request_timeout)
        self._tasks = Catalogue(settings.tasks, check)
        try:
            self._reload_tasks()
        except BadTask as error:
            raise CannotStart(f"kiroworkers: {error}") from None
        self._authorizer = Authorizer(rate_limiter=new_rate_limiter(reactor, settings))
        self._reload_tokens()
        self._job_service = JobService(reactor, settings, groups, self._tasks, job_json)
        application = Application(reactor, groups, self._tasks, self._authorizer, self._job_service)
        site = ApiSite(reactor, application.resource(), request_limits(settings))
        self._connections = ConnectionLimiter(
            site, settings.max_connections, settings.max_connections_per_address
        )
        listener = Listener(reactor, settings, self._connections)
        dispatchers = [group.dispatcher for group in groups]
        monitors = map(assembly.new_monitor, dispatchers)
        for service in (listener, *dispatchers, *monitors, self._job_service):
            service.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """
        Open the port, and log which agents answer.

        Raises:
            CannotStart: If the address cannot be used.
        """
        signals = Signals(self._reactor, self._reactor.stop, self._groups.stop_now, self._reload)
        self._reactor.callWhenRunning(signals.install)
        super().privilegedStartService()
        shared = self._workspaces.workdir is Workdir.SHARED
        for group in self._groups:
            log = self._log.warn if group.name == "offline" else self._log.info
            log(
                "{group}answers come from {label} ({reason}); sessions run in {folder}{workdir}",
                group="" if len(self._groups.names) == 1 else f"{group.name}: ",
                label=group.agent.dialect.label,
                reason=group.agent.reason,
                folder=self._folder,
                workdir="" if shared else f" (--workdir {self._settings.workdir})",
            )
        self._warn_of_unknown_agents()

    def startService(self) -> None:
        """
        Open the state folder and the job store, and start the sessions.

        Raises:
            CannotStart: If the state folder or the job store cannot be used.
        """
        # Not before: twistd has only now changed to the user who is to own the files.
        state_dir = self._settings.state_dir
        state_dirs = any(group.agent.dialect.state_dirs for group in self._groups)
        shared = self._workspaces.workdir is Workdir.SHARED
        if state_dirs or not shared or state_dir is not None:
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
        self._job_service.runner.stop_dispatch()
        unfinished = self._count_requests()
        if unfinished:
            self._log.info("stopping: {n} request(s) to finish", n=unfinished)
        await self._groups.drain(self._settings.graceful_timeout)
        self._job_service.runner.requeue_running()
        # Only requests whose clients wait are left: the next server runs the jobs.
        if self._count_requests():
            self._exit_status.value = _UNFINISHED_REQUESTS
            self._log.warn("stopping: unfinished requests are refused")
        stopped = maybeDeferred(super().stopService)
        await self._connections.close(self._reactor)
        await stopped
        self._job_service.close()
        await self._workspaces.close()
        self._watchdog.stop()

    def _count_requests(self) -> int:
        """
        Return the number of requests that wait or run.
        """
        return sum(1 for group in self._groups for _ in group.dispatcher.requests())

    def _reload(self) -> None:
        """
        Reload the tokens and the tasks, and replace every session, one at a time.
        """
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
        replaced = self._tasks.read()
        if self._settings.tasks is not None:
            for task in replaced:
                self._log.warn("{task.source} replaces the built-in task {task.name}", task=task)
            self._log.info("tasks: {names}", names=", ".join(self._tasks))

    def _warn_of_unknown_agents(self) -> None:
        """
        Log the agents that --pass-env names but this server does not run.
        """
        names = {pattern.rpartition(":")[0] for pattern in self._settings.pass_env} - {""}
        for name in sorted(names - {*self._groups.names}):
            self._log.warn(
                "--pass-env names the agent {name}, which this server does not run", name=name
            )


class ExitStatus:
    """
    Make the process exit with the server's own status, which twistd has no way to set.

    Create it before anything else registers with `atexit`, so that it is called last.

    Attributes:
        value: The status; 0 leaves that of twistd.
    """

    def __init__(self) -> None:
        self.value = 0
        atexit.register(self._exit)

    def _exit(self) -> None:
        if self.value:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.value)


def new_workspaces(reactor: Any, settings: Settings, folder: Path) -> Workspaces:
    """
    Return the workspaces of the sessions, as `settings` specify.

    Args:
        reactor: Runs git.
        settings: Say where sessions run.
        folder: The folder of --repo-path.
    """
    workdir = Workdir(settings.workdir)
    worktrees = None
    if workdir is Workdir.GIT_WORKTREE:
        worktrees = Worktrees(folder, inherited_environment())
    return Workspaces(runner(reactor), workdir, worktrees)


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
        BadTask: If a task names an agent that the server does not run, or has a deadline
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
