"""
The composition root: from options to a service tree.

The only module that knows the reactor.  Nothing is opened or spawned before
the services start, because twistd may fork (to run in the background) between
making them and starting them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from kiroworkers.agents import Agent, Wanted, ask_version, check_agent, choose_agent
from kiroworkers.errors import BadSetting, CannotStart
from kiroworkers.sessions import process
from kiroworkers.sessions.guard import Guard
from kiroworkers.sessions.journal import JournalFolder
from kiroworkers.sessions.monitor import HealthLimits, HealthMonitor
from kiroworkers.sessions.pool import Pool
from kiroworkers.sessions.session import Limits, Session
from kiroworkers.settings import Settings, inherited_environment, knobs
from kiroworkers.tasks import builtin_tasks
from kiroworkers.terminal import new_conversation
from kiroworkers.web.app import Application
from kiroworkers.web.request import Door


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
        [
            each.flag.removeprefix("--"),
            None,
            None,
            each.meaning + (f" [default: {each.shown}]" if each.shown else ""),
        ]
        for each in knobs()
        if not each.is_switch
    ]

    settings: Settings

    def postOptions(self) -> None:
        flags = {
            name: ("yes" if value else None) if isinstance(value, int) else value
            for name, value in self.items()
        }
        try:
            self.settings = Settings.read(flags)
            check_agent(_wanted(self.settings))
            if not (self.settings.listen or self.settings.insecure):
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

    def privilegedStartService(self) -> None:
        # Here, not in `__init__`: the current folder, the environment and PATH
        # are those of the process that will run.
        settings = self._settings
        folder = settings.repo_path or Path.cwd()
        agent = choose_agent(_wanted(settings), inherited_environment(), ask_version)
        pool = Pool(
            self._reactor,
            self._new_session(agent, folder),
            workers=settings.workers,
            restart_delay=settings.restart_delay,
            backlog=settings.backlog,
            queue_timeout=settings.queue_timeout,
            request_timeout=settings.request_timeout,
        )
        allowed = settings.startup_timeout, settings.request_timeout, settings.cancel_timeout
        monitor = HealthMonitor(
            self._reactor,
            pool,
            settings.check_interval,
            HealthLimits(
                idle=settings.idle_timeout, unsettled=sum(allowed) + settings.stop_timeout
            ),
        )
        application = Application(self._reactor, pool, builtin_tasks(), agent)
        door = Door(application.resource(), settings.max_body, settings.cors_origin)
        for service in (Listener(self._reactor, settings, door), pool, monitor):
            service.setServiceParent(self)
        super().privilegedStartService()
        announce = self._log.warn if agent.name == "offline" else self._log.info
        announce(
            "answers come from {label} ({reason}); sessions run in {folder}",
            label=agent.dialect.label,
            reason=agent.reason,
            folder=folder,
        )

    def stopService(self) -> Deferred[None]:
        stopped = maybeDeferred(super().stopService)

        def let_go(result: object) -> None:
            self._guard.stop()

        return stopped.addBoth(let_go)

    def _new_session(self, agent: Agent, folder: Path) -> Callable[..., Session]:
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
            agent.dialect.rows,
            agent.dialect.columns,
        )

        journal = _journal(agent, settings.max_output)

        def launch(program: process.TerminalProcess) -> None:
            process.start(self._reactor, program, command)

        def new_session(
            name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
        ) -> Session:
            return Session(
                name,
                self._reactor,
                new_conversation(agent.dialect, settings.max_output),
                launch,
                self._guard,
                limits,
                on_idle,
                on_gone,
                settings.allow_tools,
                journal,
            )

        return new_session


def _wanted(settings: Settings) -> Wanted:
    return Wanted(settings.agent, settings.agent_command, settings.prompt_pattern)


def _journal(agent: Agent, limit: int) -> JournalFolder | None:
    """
    Where the sessions of `agent` write down what they answer.
    """
    folder, home = agent.dialect.journal, agent.environment.get("HOME")
    if not folder or not home:
        return None
    return JournalFolder(Path(home) / folder, limit, partial(token_hex, 8))


class Listener(Service):
    """
    Listens before anything else starts, or says in one line why it cannot.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, door: Door) -> None:
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
        if host is not None and not self._settings.insecure:
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
            "bind a loopback address, or say --insecure",
        )
