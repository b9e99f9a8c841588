"""
The composition root: from options to a service tree.

The only module that knows the reactor.  Nothing is opened or spawned before
the services start, because twistd may fork (to run in the background) between
making them and starting them.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any, ClassVar

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from kiroworkers.agents import Agent, Wanted, ask_version, check_agents, choose_agent, side_by_side
from kiroworkers.errors import BadSetting, CannotStart
from kiroworkers.groups import Group, Groups
from kiroworkers.sessions import process
from kiroworkers.sessions.guard import Guard
from kiroworkers.sessions.journal import JournalFolder
from kiroworkers.sessions.login import check_login
from kiroworkers.sessions.memory import held_by, is_free
from kiroworkers.sessions.monitor import HealthLimits, HealthMonitor
from kiroworkers.sessions.outage import LoginCheck, LoginPolicy
from kiroworkers.sessions.pool import Pool, QueuePolicy
from kiroworkers.sessions.recycling import RecyclePolicy
from kiroworkers.sessions.restarts import RestartPolicy
from kiroworkers.sessions.rooms import Rooms, Workdir, runner
from kiroworkers.sessions.scaling import Scale
from kiroworkers.sessions.session import Limits, Reset, Session
from kiroworkers.sessions.worker import Supervisor, Worker
from kiroworkers.sessions.worktrees import Worktrees
from kiroworkers.settings import Knob, Settings, inherited_environment, knobs
from kiroworkers.signals import Signals
from kiroworkers.tasks import Task, builtin_tasks
from kiroworkers.terminal import Dialect, new_conversation
from kiroworkers.web.app import Application
from kiroworkers.web.connections import Connections
from kiroworkers.web.gate import Gate
from kiroworkers.web.request import Door
from kiroworkers.web.tokens import read_tokens

#: The exit status of a server that had to refuse what it had taken.
_CUT_SHORT = 1


def _help(knob: Knob) -> str:
    return knob.meaning + (f" [default: {knob.shown}]" if knob.shown else "")


class Options(UsageOptions):
    """
    The command line of ``twistd kiroworkers``, made from the table of knobs.
    """

    synopsis = "[options]"
    longdesc = (
        "Keeps sessions of a terminal AI agent warm and serves them as typed JSON: "
        "GET /health, /ready and /kiro, POST /kiro/generate-story, /kiro/generate-test and "
        "/kiro/analyze-invest.  Every option is also an environment variable, "
        "KIROWORKERS_<NAME>; PORT and REPO_PATH work too; a flag beats a variable.  Durations are "
        "in seconds, or with s, m or h; sizes in bytes, or with k, m or g."
    )
    optFlags: ClassVar = [
        [each.flag.removeprefix("--"), None, each.meaning] for each in knobs() if each.is_switch
    ]
    optParameters: ClassVar = [
        [each.flag.removeprefix("--"), None, None, _help(each)]
        for each in knobs()
        if not (each.is_switch or each.is_repeatable)
    ]

    settings: Settings

    def opt_agent(self, text: str) -> None:
        self["agent"] = f"{self['agent']},{text}" if "agent" in self else text

    opt_agent.__doc__ = next(_help(each) for each in knobs() if each.is_repeatable)

    def postOptions(self) -> None:
        flags = {
            name: ("yes" if value else None) if isinstance(value, int) else value
            for name, value in self.items()
        }
        try:
            self.settings = Settings.read(flags)
            check_agents(_wanted(self.settings))
            if self.settings.token_file is not None:
                read_tokens(self.settings.token_file)
            if not (self.settings.listen or self.settings.open_to_others):
                _refuse_others("--interface", self.settings.interface)
        except BadSetting as problem:
            raise UsageError(str(problem)) from None


def makeService(options: Options) -> IService:
    """
    The server that `options` ask for.
    """
    from twisted.internet import reactor

    return Server(reactor, options.settings)


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
        self._guard = Guard(reactor)
        self._groups: Groups | None = None
        self._rooms: Rooms | None = None
        self._needs_rooms = False
        self._connections: Connections | None = None
        self._gate = Gate(any_host=settings.insecure)
        # Made before anything else registers, so that it is the last to be called.
        self._status = 0
        atexit.register(self._leave)

    def privilegedStartService(self) -> None:
        # Here, not in `__init__`: the current folder, the environment and PATH
        # are those of the process that will run.
        settings = self._settings
        folder = settings.repo_path or Path.cwd()
        self._rooms = rooms = self._new_rooms(folder)
        self._groups = groups = Groups(self._new_groups(folder, rooms))
        stores = any(group.agent.dialect.stores for group in groups)
        self._needs_rooms = stores or rooms.workdir is not Workdir.SHARED
        tasks = builtin_tasks()
        check_tasks(tasks.values(), groups)
        self._renew_tokens()
        application = Application(self._reactor, groups, tasks, self._gate)
        door = Door(application.resource(), settings.max_body, settings.cors_origin)
        self._connections = Connections(door)
        listener = Listener(self._reactor, settings, self._connections)
        pools = [group.pool for group in groups]
        for service in (listener, *pools, *map(self._new_monitor, pools)):
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
                how="" if rooms.workdir is Workdir.SHARED else f" (--workdir {settings.workdir})",
            )
        self._note_strangers(groups)

    def _new_groups(self, folder: Path, rooms: Rooms) -> Iterator[Group]:
        settings = self._settings
        for number, wanted in enumerate(side_by_side(_wanted(settings))):
            agent = choose_agent(wanted, inherited_environment(), ask_version)
            # The first's workers have the names that they have without others.
            called = f"{agent.name}-worker" if number else "worker"
            workers = settings.workers_of(settings.agent[number])
            yield Group(agent, self._new_pool(agent, folder, rooms, workers, called))

    def _new_pool(
        self, agent: Agent, folder: Path, rooms: Rooms, workers: int, called: str
    ) -> Pool:
        settings, chance = self._settings, Random()
        new_session = self._new_session(agent, folder, rooms)
        restarts = RestartPolicy(
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

        return Pool(
            self._reactor,
            new_worker,
            Scale(
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

    def _new_monitor(self, pool: Pool) -> HealthMonitor:
        settings = self._settings
        allowed = settings.startup_timeout, settings.request_timeout, settings.cancel_timeout
        return HealthMonitor(
            self._reactor,
            pool.crew,
            settings.check_interval,
            HealthLimits(
                idle=settings.idle_timeout, unsettled=sum(allowed) + settings.stop_timeout
            ),
            held_by,
        )

    def startService(self) -> None:
        # Not before: the user may be another one then, who has to own it.
        if self._needs_rooms:
            assert self._rooms is not None, "they were chosen before"
            self._rooms.open(self._settings.state_dir)
        super().startService()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """
        Finish what was taken, say so to whoever asked, then end everything.
        """
        if self._groups is not None and self._connections is not None:
            waiting = sum(1 for group in self._groups for _ in group.pool.requests())
            if waiting:
                self._log.info("stopping: {n} request(s) to finish", n=waiting)
            if not await self._groups.drain(self._settings.graceful_timeout):
                self._status = _CUT_SHORT
                self._log.warn("stopping: requests that were not finished are refused")
        stopped = maybeDeferred(super().stopService)
        if self._connections is not None:
            await self._connections.close(self._reactor)
        await stopped
        if self._rooms is not None:
            await self._rooms.close()
        self._guard.stop()

    def _hurry(self) -> None:
        """
        Stop, and wait for nobody.
        """
        assert self._groups is not None, "signals are taken when all runs"
        self._groups.hurry()

    def _renew(self) -> None:
        """
        Read the tokens again, and have new sessions, one at a time.
        """
        assert self._groups is not None, "signals are taken when all runs"
        try:
            self._renew_tokens()
        except BadSetting as problem:
            self._log.error("the tokens stay as they were: {problem}", problem=problem)
        self._groups.renew("SIGHUP")

    def _renew_tokens(self) -> None:
        if self._settings.token_file is not None:
            self._gate.bearers = tuple(read_tokens(self._settings.token_file))

    def _leave(self) -> None:
        """
        Tell who started the server how it ended; twistd has no way to.
        """
        if self._status:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._status)

    def _login_check(self, agent: Agent) -> LoginCheck | None:
        arguments = agent.dialect.login_arguments
        if not arguments:
            return None
        command = (agent.executable, *arguments)
        return lambda: maybeDeferred(check_login, self._reactor, command, agent.environment)

    def _new_rooms(self, folder: Path) -> Rooms:
        workdir = Workdir(self._settings.workdir)
        worktrees = None
        if workdir is Workdir.GIT_WORKTREE:
            worktrees = Worktrees(folder, inherited_environment())
        return Rooms(runner(self._reactor), workdir, worktrees)

    def _note_strangers(self, groups: Groups) -> None:
        """
        Say which agents the operator named in vain.
        """
        named = {each.rpartition(":")[0] for each in self._settings.pass_env} - {""}
        for name in sorted(named - {*groups.names}):
            self._log.warn("--pass-env names the agent {name}, which does not serve", name=name)

    def _new_session(self, agent: Agent, folder: Path, rooms: Rooms) -> Callable[..., Session]:
        settings = self._settings
        limits = Limits(
            startup=settings.startup_timeout,
            cancel=settings.cancel_timeout,
            stop=settings.stop_timeout,
        )
        command = process.Command(
            agent.executable,
            agent.arguments,
            agent.environment,
            folder,
            agent.dialect.window,
        )

        def new_session(
            name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
        ) -> Session:
            room = rooms.take(name, command, agent.dialect.stores)

            def launch(program: process.AgentProcess) -> None:
                room.enter(partial(process.start, self._reactor, program))

            def gone(reason: str) -> None:
                room.leave()
                on_gone(reason)

            return Session(
                name,
                self._reactor,
                new_conversation(agent.dialect, settings.max_output, str(room.works_in)),
                launch,
                self._guard,
                limits,
                on_idle,
                gone,
                settings.allow_tools,
                _journal(agent.dialect, room.command, settings.max_output),
                Reset(settings.reset),
            )

        return new_session


def _wanted(settings: Settings) -> list[Wanted]:
    # Among several agents the command is that of `acp`.
    passed = settings.pass_env
    several = any(each.agent == "acp" for each in settings.agent)
    return [
        Wanted(each.agent, settings.agent_command, settings.prompt_pattern, passed)
        if each.agent == "acp" or not several
        else Wanted(each.agent, pass_env=passed)
        for each in settings.agent
    ]


def check_tasks(tasks: Iterable[Task], groups: Groups) -> None:
    """
    Does every agent that a task names answer here?

    @raise CannotStart: if not.
    """
    for task in tasks:
        if task.agent is not None and task.agent not in groups.names:
            raise CannotStart(
                f"kiroworkers: the task {task.name} is for the agent {task.agent!r}, and there is "
                f"only {', '.join(groups.names)}; name it with --agent"
            )


def _journal(dialect: Dialect, command: process.Command, limit: int) -> JournalFolder | None:
    """
    Where a session that runs `command` writes down what it answers.
    """
    folder, home = dialect.journal, command.environment.get("HOME")
    if not folder or not home:
        return None
    return JournalFolder(Path(home) / folder, limit, partial(token_hex, 8))


class Listener(Service):
    """
    Listens before anything else starts, or says in one line why it cannot.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, door: IProtocolFactory) -> None:
        self._reactor = reactor
        self._settings = settings
        self._door = door
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        description = self._settings.endpoint
        try:
            endpoint = serverFromString(self._reactor, description)
        except (ValueError, TypeError, KeyError, IndexError) as problem:
            raise CannotStart(f"kiroworkers: --listen {description}: {problem}") from None
        listening = endpoint.listen(self._door)
        failed: list[Failure] = []
        listening.addCallbacks(self._listens, failed.append)
        if failed:
            why = getattr(failed[0].value, "socketError", failed[0].value)
            raise CannotStart(f"kiroworkers: cannot listen on {description}: {why}")
        if self._port is None:
            raise CannotStart(f"kiroworkers: --listen {description}: did not listen at once")
        host = getattr(self._port.getHost(), "host", None)
        if host is not None and not self._settings.open_to_others:
            try:
                _refuse_others("--listen", host)
            except BadSetting as problem:
                self._port.stopListening()
                raise CannotStart(f"kiroworkers: {problem}") from None

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        self._log.info("listening on {where}", where=port.getHost())


def _refuse_others(name: str, host: str) -> None:
    """
    @raise BadSetting: when other machines can reach `host`.
    """
    if not ip_address(host.partition("%")[0]).is_loopback:
        raise BadSetting(
            name,
            host,
            "other machines can reach it, and nobody is asked who they are; "
            "bind a loopback address, give --token-file, or say --insecure",
        )
