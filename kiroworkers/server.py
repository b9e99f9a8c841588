"""
The server as a whole: what starts and stops, and in which order.
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
from kiroworkers.web.listener import Listener
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.site import ApiSite, RequestLimits
from kiroworkers.web.tokens import read_tokens
from kiroworkers.workspaces.workspaces import Workdir, Workspaces, runner
from kiroworkers.workspaces.worktrees import Worktrees

#: The exit status of a server that had to refuse what it had taken.
_CUT_SHORT = 1

#: Python looks for garbage after so many new objects, at ten times as many and at a
#: hundred times.  By default it looks so often at all that thousands of waiting
#: requests hold that each answer costs a third more (``python -m bench queue``).
_COLLECTED = (10_000, 10, 10)


class Server(MultiService):
    """
    Everything, in the order in which it starts: the port first, so that a port
    that is taken leaves no session behind.
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
        self._needs_rooms = False
        self._job_service: JobService | None = None
        self._connections: ConnectionLimiter | None = None
        self._authorizer = Authorizer(rates=rates_of(reactor, settings))
        # Made before anything else registers, so that it is the last to be called.
        self._status = 0
        atexit.register(self._leave)

    def privilegedStartService(self) -> None:
        # Here, not in `__init__`: the current folder, the environment and PATH
        # are those of the process that will run.
        settings = self._settings
        folder = settings.repo_path or Path.cwd()
        self._workspaces = workspaces = self._new_rooms(folder)
        assembly = Assembly(self._reactor, settings, self._watchdog, workspaces, folder)
        self._groups = groups = AgentGroups(assembly.groups())
        state_dirs = any(group.agent.dialect.state_dirs for group in groups)
        self._needs_rooms = state_dirs or workspaces.workdir is not Workdir.SHARED
        check = partial(check_tasks, groups=groups, longest=settings.request_timeout)
        self._tasks = Catalogue(settings.tasks, check)
        try:
            self._renew_tasks()
        except BadTask as problem:
            raise CannotStart(f"kiroworkers: {problem}") from None
        self._renew_tokens()
        self._job_service = job_service = JobService(
            self._reactor,
            settings,
            groups,
            self._tasks,
            lambda problem: StoredResponse(*error_json(problem)),
            job_json,
        )
        application = Application(self._reactor, groups, self._tasks, self._authorizer, job_service)
        door = ApiSite(self._reactor, application.resource(), rules_of(settings))
        self._connections = ConnectionLimiter(
            door, settings.max_connections, settings.max_connections_per_address
        )
        listener = Listener(self._reactor, settings, self._connections)
        pools = [group.pool for group in groups]
        for service in (listener, *pools, *map(assembly.monitor, pools), job_service):
            service.setServiceParent(self)
        signals = Signals(self._reactor, self._reactor.stop, self._hurry, self._renew)
        self._reactor.callWhenRunning(signals.install)
        super().privilegedStartService()
        for group in groups:
            announce = self._log.warn if group.name == "offline" else self._log.info
            announce(
                "{whose}answers come from {label} ({reason}); sessions run in {folder}{how}",
                whose="" if len(pools) == 1 else f"{group.name}: ",
                label=group.agent.dialect.label,
                reason=group.agent.reason,
                folder=folder,
                how=""
                if workspaces.workdir is Workdir.SHARED
                else f" (--workdir {settings.workdir})",
            )
        self._note_strangers(groups)

    def startService(self) -> None:
        # Not before: the user may be another one then, who has to own it.
        assert self._workspaces is not None and self._job_service is not None, (
            "they were chosen before"
        )
        given = self._settings.state_dir
        if self._needs_rooms or given is not None:
            self._workspaces.open(given)
        self._job_service.open(None if given is None else self._workspaces.path)
        gc.set_threshold(*_COLLECTED)
        super().startService()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """
        Finish what was taken, say so to whoever asked, then end everything.
        """
        if self._groups is not None and self._connections is not None:
            if self._job_service is not None:
                self._job_service.runner.stop_dispatch()
            waiting = self._requests()
            if waiting:
                self._log.info("stopping: {n} request(s) to finish", n=waiting)
            await self._groups.drain(self._settings.graceful_timeout)
            if self._job_service is not None:
                self._job_service.runner.requeue_running()
            # Jobs are not refused, but left to the next server.
            if self._requests():
                self._status = _CUT_SHORT
                self._log.warn("stopping: requests that were not finished are refused")
        stopped = maybeDeferred(super().stopService)
        if self._connections is not None:
            await self._connections.close(self._reactor)
        await stopped
        if self._job_service is not None:
            self._job_service.close()
        if self._workspaces is not None:
            await self._workspaces.close()
        self._watchdog.stop()

    def _requests(self) -> int:
        """
        How many requests wait or run.
        """
        assert self._groups is not None, "there are some"
        return sum(1 for group in self._groups for _ in group.pool.requests())

    def _hurry(self) -> None:
        """
        Stop, and wait for nobody.
        """
        assert self._groups is not None, "signals are taken when all runs"
        self._groups.hurry()

    def _renew(self) -> None:
        """
        Read the tokens and the tasks again, and have new sessions, one at a time.
        """
        assert self._groups is not None, "signals are taken when all runs"
        try:
            self._renew_tokens()
        except InvalidSetting as problem:
            self._log.error("the tokens stay as they were: {problem}", problem=problem)
        try:
            self._renew_tasks()
        except BadTask as problem:
            self._log.error("the tasks stay as they were: {problem}", problem=problem)
        self._groups.renew("SIGHUP")

    def _renew_tokens(self) -> None:
        if self._settings.token_file is not None:
            self._authorizer.tokens = tuple(read_tokens(self._settings.token_file))

    def _renew_tasks(self) -> None:
        assert self._tasks is not None, "they are made before they are read"
        replaced = self._tasks.read()
        if self._settings.tasks is not None:
            for each in replaced:
                self._log.warn("{task.source} replaces the built-in task {task.name}", task=each)
            self._log.info("tasks: {names}", names=", ".join(self._tasks))

    def _leave(self) -> None:
        """
        Tell who started the server how it ended; twistd has no way to.
        """
        if self._status:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._status)

    def _new_rooms(self, folder: Path) -> Workspaces:
        workdir = Workdir(self._settings.workdir)
        worktrees = None
        if workdir is Workdir.GIT_WORKTREE:
            worktrees = Worktrees(folder, inherited_environment())
        return Workspaces(runner(self._reactor), workdir, worktrees)

    def _note_strangers(self, groups: AgentGroups) -> None:
        """
        Say which agents the operator named in vain.
        """
        named = {each.rpartition(":")[0] for each in self._settings.pass_env} - {""}
        for name in sorted(named - {*groups.names}):
            self._log.warn("--pass-env names the agent {name}, which does not serve", name=name)


def rules_of(settings: Settings) -> RequestLimits:
    """
    What the door of a server with these `settings` lets in.
    """
    # A page that gave this address a name of its own has no token to send.
    return RequestLimits(
        max_body=settings.max_body,
        receive_timeout=settings.receive_timeout,
        cors_origins=settings.cors_origin,
        hosts=settings.allow_host,
        any_host=settings.open_to_others and not settings.allow_host,
    )


def rates_of(clock: IReactorTime, settings: Settings) -> RateLimiter | None:
    """
    How often clients may ask by these `settings`; None for any number.
    """
    return RateLimiter(clock, settings.rate, settings.rate_burst) if settings.rate else None


def check_tasks(tasks: Mapping[str, Task], groups: AgentGroups, longest: float) -> None:
    """
    Does every agent that a task names answer here, and can every limit hold?

    Args:
        longest: seconds that any request may take.

    Raises:
        BadTask: if not.
    """
    for task in tasks.values():
        if task.agent is not None and task.agent not in groups.names:
            raise BadTask(
                task.source,
                f"agent: {task.agent!r} does not answer here, only {', '.join(groups.names)}; "
                "name it with --agent",
            )
        if task.limits.timeout is not None and task.limits.timeout > longest:
            raise BadTask(
                task.source, f"limits.timeout: is above --request-timeout, {longest:g} seconds"
            )
