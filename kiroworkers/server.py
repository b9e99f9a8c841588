"""
Start and stop the whole server, its parts in the right order.
"""

from __future__ import annotations

import gc
import os
import pwd
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.util import runAsEffectiveUser

from kiroworkers import __version__
from kiroworkers.assembly import Assembly
from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.exit_status import CANNOT_START, UNFINISHED_REQUESTS, ExitStatus
from kiroworkers.jobs.backend import Backend
from kiroworkers.jobs.embedded import EmbeddedBackend
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.presence import default_server_name, shown_address
from kiroworkers.jobs.service import JobService
from kiroworkers.lame_duck import LameDuck
from kiroworkers.offload.process_pool import ProcessPool
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.pool.usage import UsageMonitor
from kiroworkers.process.systemd import ServiceManager
from kiroworkers.process.usage import usage_by_tree
from kiroworkers.reload import Reloader
from kiroworkers.service_state import service_state
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.settings import Settings, inherited_environment, unknown_variables
from kiroworkers.signals import Signals
from kiroworkers.tasks import BadTask, Catalogue, ReadTasks, Task
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.telemetry.loop_monitor import LoopMonitor
from kiroworkers.telemetry.metrics import Metrics
from kiroworkers.telemetry.observers import ObserveSession, RequestObservers, observe_all
from kiroworkers.telemetry.recordings import Recordings
from kiroworkers.telemetry.request_history import UNSAVED_EVENTS
from kiroworkers.telemetry.request_metrics import COUNTED_EVENTS, RequestMetrics
from kiroworkers.telemetry.server_logs import LogOptions, ServerLogs
from kiroworkers.telemetry.session_metrics import SessionMetrics
from kiroworkers.telemetry.tracing import Tracing
from kiroworkers.web import metrics as web_metrics
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.dashboard.feed import Feed, FeedSources
from kiroworkers.web.jobs import job_json
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.listener import Listener
from kiroworkers.web.proxies import TrustedProxies
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.recorded_request import AccessLog
from kiroworkers.web.site import ApiSite
from kiroworkers.web.terminals import TerminalHandler, new_live_terminals
from kiroworkers.web.tokens import ApiToken, read_tokens
from kiroworkers.workspaces.session_ids import SessionIds
from kiroworkers.workspaces.workspaces import Workdir, Workspaces, runner
from kiroworkers.workspaces.worktrees import Worktrees

#: The thresholds of Python's garbage collector: it runs after this many new objects, and
#: each older generation every tenth time.  With the defaults it scans what thousands of
#: waiting requests hold so often that each answer costs a third more
#: (``python -m bench queue``).
_GC_THRESHOLDS = (10_000, 10, 10)


#: The ids of the user and the group that twistd changes to once the port is open; None for
#: those of the process.
User: TypeAlias = tuple[int | None, int | None]


class Server(MultiService):
    """
    Make the parts of a server when it starts, and run them.

    Args:
        reactor: Runs everything.
        settings: The settings of the server.
        log_writer: Writes the log, and is started with the server.
        logs_to_stdout: Whether the log goes to standard output.  If so, the reason why the
            server cannot start is not logged as well.
        user: The user and the group that the server will run as.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log_writer: LogWriter | None = None,
        *,
        logs_to_stdout: bool = False,
        user: User = (None, None),
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._log_writer = log_writer
        self._logs_to_stdout = logs_to_stdout
        self._user = user
        self._exit_status = ExitStatus()

    def privilegedStartService(self) -> None:
        """
        Put the server together and open its port.

        Raises:
            CannotStart: If an agent, a file or a folder that an option names, or the
                address cannot be used.
        """
        if self._log_writer is not None:
            # Not before: twistd may have forked just now.
            self._log_writer.start()
        with self._reporting_failure():
            # Here, not in `__init__`: the current folder, the environment and PATH
            # are those of the process that will run.
            running = RunningServer(
                self._reactor, self._settings, self._exit_status, self._user, self._log_writer
            )
            running.privilegedStartService()
            # Not before: twistd stops what has a parent, also if it did not start.
            running.setServiceParent(self)

    def startService(self) -> None:
        """
        Start the sessions.

        Raises:
            CannotStart: If that is impossible.
        """
        with self._reporting_failure():
            super().startService()

    @contextmanager
    def _reporting_failure(self) -> Iterator[None]:
        """
        Print the reason why the server cannot start, in one line, and set the exit status.
        """
        try:
            yield
        except (CannotStart, InvalidSetting, OSError) as error:
            reason = str(error) if isinstance(error, CannotStart) else f"kiroworkers: {error}"
            if not self._logs_to_stdout:
                self._log.critical("{reason}", reason=reason)
            if self._log_writer is not None:
                self._log_writer.close()
            # `sys.stderr` is the log by now.
            print(reason, file=sys.__stderr__, flush=True)
            failure = CannotStart(reason)
            failure.code = CANNOT_START
            raise failure from None


@frozen
class _ReadFiles:
    """
    Hold the files that were read again; an error stands for those that cannot be used.

    Attributes:
        tokens: The tokens.
        tasks: The tasks.
        config_changed: Whether the configuration file is another one than at the start.
    """

    tokens: list[ApiToken] | InvalidSetting
    tasks: ReadTasks | BadTask
    config_changed: bool


class RunningServer(MultiService):
    """
    Run everything that serves requests, from the port to the agents' processes.

    The port is opened before sessions start, so that a server whose port is taken starts
    none; and after the state folder, so that nobody connects to a server that cannot run.

    Args:
        reactor: Runs everything.
        settings: The settings of the server.
        exit_status: Set when requests are left unfinished.
        user: The user and the group that the server will run as.
        log_writer: Writes the log.

    Raises:
        CannotStart: If an agent or a task file cannot be used.
        InvalidSetting: If the token file is no longer valid, or the secret for webhooks is not.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        exit_status: ExitStatus,
        user: User = (None, None),
        log_writer: LogWriter | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._exit_status = exit_status
        self._user = user
        self._lame_duck = LameDuck(reactor, settings.lame_duck_time)
        self._folder = settings.repo_path or Path.cwd()
        self._config_version = _version(settings.config)
        self._workspaces = new_workspaces(reactor, settings, self._folder)
        self._session_ids = SessionIds(
            lambda write: deferToThreadPool(reactor, reactor.getThreadPool(), write)
        )
        self._backend = new_backend(reactor, settings)
        self._request_observers = RequestObservers(reactor)
        request_metrics, session_metrics = RequestMetrics(), SessionMetrics()
        self._request_observers.add(request_metrics, COUNTED_EVENTS)
        session_observers: list[ObserveSession] = [session_metrics.observe]
        tracing = new_tracing(reactor, settings)
        if tracing is not None:
            self._request_observers.observers.append(tracing)
            session_observers.append(tracing.observe)
        self._recordings = Recordings(
            reactor,
            settings.record_max,
            enabled=settings.record,
            pass_env=settings.pass_env,
        )
        if settings.record:
            session_observers.append(self._recordings.observe_session)
            self._request_observers.observers.append(self._recordings)
        assembly = Assembly(
            reactor,
            settings,
            self._workspaces,
            self._folder,
            self._session_ids,
            observe_session=observe_all(session_observers),
            shared_outage=self._backend.shared_outage,
        )
        self._assembly = assembly
        self._groups = groups = AgentGroups(assembly.groups())
        live_terminals = new_live_terminals(reactor)
        session_observers.append(live_terminals.observe)
        self._logs = ServerLogs(
            reactor,
            LogOptions(
                settings.log_format,
                settings.log_level,
                settings.log_prompts,
                settings.slow_request,
                in_folder=settings.state_dir is not None,
            ),
            live_terminals.last_screen,
        )
        session_observers += self._logs.session_observers
        self._request_observers.observers += self._logs.request_observers
        self._terminals = TerminalHandler(reactor, groups, live_terminals)
        check = partial(check_tasks, agents=groups.names, longest=settings.request_timeout)
        self._tasks = Catalogue(settings.tasks, check, settings.task_defaults, settings.config)
        rate_limiter = new_rate_limiter(reactor, settings)
        if rate_limiter is not None:
            self._backend.share_rates(rate_limiter)
        self._authorizer = Authorizer(
            rate_limiter=rate_limiter,
            anonymous_limiter=new_anonymous_limiter(reactor, settings),
            proxies=TrustedProxies(settings.trusted_proxy),
        )
        try:
            self._use_tasks(self._tasks.read())
        except BadTask as error:
            raise CannotStart(f"kiroworkers: {error}") from None
        self._use_tokens(self._read_tokens())
        self._service_manager = ServiceManager(
            reactor, inherited_environment(), os.getpid(), partial(service_state, groups)
        )
        self._reloader = Reloader(
            reactor,
            lambda read: deferToThreadPool(reactor, reactor.getThreadPool(), read),
            self._read_files,
            self._use_files,
            self._service_manager.set_reloading,
        )
        process_pool = ProcessPool(reactor)
        self._job_service = JobService(
            reactor,
            settings,
            self._backend,
            groups,
            self._tasks,
            job_json,
            offload=process_pool.run,
            on_event=self._request_observers,
        )
        if settings.state_dir is None:
            self._request_observers.add(self._job_service.history, UNSAVED_EVENTS)
        else:
            self._request_observers.observers.append(self._job_service.history)
        sources = FeedSources(
            groups,
            assembly.approvals,
            self._job_service.history,
            lambda pids: deferToThreadPool(reactor, reactor.getThreadPool(), usage_by_tree, pids),
            self._job_service.presence,
        )
        self._feed = Feed(reactor, time.time, self._authorizer, sources)
        self._request_observers.observers.append(self._feed)
        usage = UsageMonitor(
            reactor,
            groups,
            usage_by_tree,
            lambda measure: deferToThreadPool(reactor, reactor.getThreadPool(), measure),
        )
        metrics = Metrics(
            [
                request_metrics.collect,
                session_metrics.collect,
                web_metrics.pools(groups),
                web_metrics.usage(groups, usage),
                web_metrics.jobs(self._job_service),
                web_metrics.servers(self._job_service.presence),
                web_metrics.build,
            ]
        )
        application = Application(
            reactor,
            groups,
            self._tasks,
            self._authorizer,
            self._job_service,
            run_in_thread=lambda build: deferToThreadPool(reactor, reactor.getThreadPool(), build),
            offload=process_pool.run,
            approvals=assembly.approvals,
            strict_input=settings.strict_input,
            feed=self._feed,
            terminals=self._terminals,
            recordings=self._recordings,
            metrics=web_metrics.MetricsPage(
                metrics,
                lambda render: deferToThreadPool(reactor, reactor.getThreadPool(), render),
                usage.refresh,
                self._job_service.presence.refresh,
            ),
        )
        limits = request_limits(settings)
        self._access_log = AccessLog(reactor, on_event=self._request_observers)
        # Whoever reads what happened learns of all responses that were sent before.
        self._job_service.history.before_read = self._access_log.flush
        metrics.sources.insert(0, lambda samples: self._access_log.flush())
        site = ApiSite(
            reactor,
            application.resource(),
            limits,
            self._authorizer.admit,
            self._access_log,
        )
        self._connections = ConnectionLimiter(
            site,
            settings.max_connections,
            settings.max_connections_per_address,
            limits.trusted_proxies,
            self._access_log.write_rejected,
        )
        listener = Listener(reactor, settings, self._connections)
        dispatchers = [group.dispatcher for group in groups]
        monitors = map(assembly.new_monitor, dispatchers)
        loop_monitor = LoopMonitor(reactor)
        metrics.sources += [
            web_metrics.event_loop(loop_monitor),
            web_metrics.connections(self._connections),
        ]
        writers = [writer for writer in (log_writer, self._logs.writer) if writer is not None]
        metrics.sources.append(web_metrics.log(*writers))
        services = (loop_monitor, process_pool, listener, *dispatchers, *monitors)
        for service in (*services, self._job_service):
            service.setServiceParent(self)
        if tracing is not None:
            metrics.sources.append(tracing.collect)
            tracing.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """
        Open the state folder, the job store and the port, and log which agents answer.

        Raises:
            CannotStart: If the state folder, the job store or the address cannot be used.
        """
        signals = Signals(self._reactor, self._reactor.stop, self._stop_now, self._reloader.request)
        self._reactor.callWhenRunning(signals.install)
        self._open_state()
        try:
            super().privilegedStartService()
        except BaseException:
            self._workspaces.abandon()
            raise
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
        self._assembly.use_state(self._job_service.state)
        self._warn_of_unknown_agents()
        if self._settings.callback_secret_file is not None:
            self._warn_if_readable("--callback-secret-file", self._settings.callback_secret_file)
        if self._settings.config is not None:
            self._warn_if_writable(self._settings.config)
        for name, nearest in unknown_variables(inherited_environment()):
            hint = f"; did you mean {nearest}?" if nearest else ""
            self._log.warn("the variable {name} is unknown{hint}", name=name, hint=hint)

    def startService(self) -> None:
        """
        Start the sessions.
        """
        self._logs.start()
        super().startService()
        for group in self._groups:
            group.dispatcher.worker_pool.on_change = self._pool_changed
        self._service_manager.start()
        self._log.info(
            "kiroworkers {version}: started, pid {pid}, agents {agents}",
            version=__version__,
            pid=os.getpid(),
            agents=", ".join(self._groups.names),
        )
        gc.set_threshold(*_GC_THRESHOLDS)
        # What exists by now stays, so that a collection need not scan it: that is 40 ms.
        gc.collect()
        gc.freeze()

    def stopService(self) -> Deferred[None]:
        """
        Finish accepted requests, within --graceful-timeout, and stop everything.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._service_manager.stopping()
        if self.running and self._lame_duck.seconds:
            self._log.info(
                "stopping: not ready any more, accepting requests for {seconds:g} s",
                seconds=self._lame_duck.seconds,
            )
            self._groups.announce_drain()
            self._feed.changed()
            await self._lame_duck.wait()
        self._job_service.runner.stop_dispatch()
        unfinished = self._count_requests()
        if unfinished:
            self._log.info("stopping: {requests} request(s) to finish", requests=unfinished)
        drained = self._groups.drain(self._settings.graceful_timeout)
        self._feed.changed()
        await drained
        self._job_service.runner.requeue_running()
        # Only requests whose clients wait are left: the next server runs the jobs.
        if self._count_requests():
            self._exit_status.value = UNFINISHED_REQUESTS
            self._log.warn("stopping: unfinished requests are refused")
        self._assembly.stop()
        self._feed.stop()
        stopped = maybeDeferred(super().stopService)
        self._terminals.stop()
        await self._connections.close(self._reactor)
        self._access_log.flush()
        await stopped
        await self._session_ids.close()
        await self._recordings.close()
        await self._job_service.close()
        # Before the state folder is released to the next server.
        self._log.info("stopped")
        self._logs.stop()
        await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._logs.close)
        await self._workspaces.close()
        self._service_manager.stop()

    def _stop_now(self) -> None:
        self._lame_duck.skip()
        self._groups.stop_now()

    def _pool_changed(self) -> None:
        self._service_manager.changed()
        self._feed.pool_changed()

    def _count_requests(self) -> int:
        """
        Return the number of requests that wait or run.
        """
        return sum(1 for group in self._groups for _ in group.dispatcher.requests())

    def _open_state(self) -> None:
        """
        Open the state folder and the job store, as the user that is to own their files.

        Raises:
            CannotStart: If one of them cannot be used.
        """
        uid, gid = self._user
        uid = os.geteuid() if uid is None else uid
        if gid is None:
            gid = os.getegid() if uid == os.geteuid() else pwd.getpwuid(uid).pw_gid
        runAsEffectiveUser(uid, gid, self._open_own_state)

    def _open_own_state(self) -> None:
        state_dir = self._settings.state_dir
        needed = any(group.agent.needs_folders for group in self._groups)
        shared = self._workspaces.workdir is Workdir.SHARED
        if needed or not shared or state_dir is not None:
            self._workspaces.open(state_dir)
        if state_dir is not None and self._workspaces.path is not None:
            self._logs.open(self._workspaces.path)
        self._job_service.open(None if state_dir is None else self._workspaces.path)
        self._session_ids.open(self._job_service.state)
        if self._settings.record and self._job_service.state is None:
            raise CannotStart("kiroworkers: --record needs a folder for recordings: --state-dir")
        self._recordings.open(self._job_service.state)

    def _read_files(self) -> _ReadFiles:
        """
        Read the tokens and the tasks; an error stands for those that cannot be used.
        """
        tokens: list[ApiToken] | InvalidSetting
        tasks: ReadTasks | BadTask
        try:
            tokens = self._read_tokens()
        except InvalidSetting as error:
            tokens = error
        try:
            tasks = self._tasks.read()
        except BadTask as error:
            tasks = error
        config_changed = _version(self._settings.config) != self._config_version
        return _ReadFiles(tokens, tasks, config_changed)

    def _use_files(self, files: _ReadFiles) -> None:
        """
        Use the tokens and the tasks that were read, and replace every session, one at a time.
        """
        if not self.running:
            return
        self._log.info("SIGHUP: the tokens and the tasks were read again; sessions are replaced")
        tokens, tasks = files.tokens, files.tasks
        if isinstance(tokens, InvalidSetting):
            self._log.error("the tokens were not reloaded: {error}", error=tokens)
        else:
            self._use_tokens(tokens)
        if isinstance(tasks, BadTask):
            self._log.error("the tasks were not reloaded: {error}", error=tasks)
        else:
            self._use_tasks(tasks)
        if files.config_changed:
            self._log.warn(
                "--config {file} has changed, and is read at the start only: restart the server "
                "to use it",
                file=self._settings.config,
            )
        self._groups.restart_workers(EndReason(EndCause.RELOAD, "SIGHUP"))

    def _read_tokens(self) -> list[ApiToken]:
        file = self._settings.token_file
        if file is None:
            return []
        tokens = read_tokens(file)
        self._warn_if_readable("--token-file", file)
        return tokens

    def _warn_if_readable(self, option: str, file: Path) -> None:
        if file.stat().st_mode & stat.S_IROTH:
            self._log.warn(
                "{option} {file}: any user can read it; change that with chmod o-r",
                option=option,
                file=file,
            )

    def _warn_if_writable(self, config: Path) -> None:
        # The file may be gone, or out of reach in a --chroot: it was read before.
        with suppress(OSError):
            if config.stat().st_mode & stat.S_IWOTH:
                self._log.warn(
                    "--config {file}: any user can write to it, and it may name programs that the "
                    "server runs; change that with chmod o-w",
                    file=config,
                )

    def _use_tokens(self, tokens: list[ApiToken]) -> None:
        if self._settings.token_file is not None:
            self._authorizer.tokens = tuple(tokens)

    def _use_tasks(self, tasks: ReadTasks) -> None:
        self._tasks.replace(tasks)
        if self._settings.tasks is not None:
            for task in tasks.replacing:
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


def _version(file: Path | None) -> tuple[int, ...]:
    """
    Return numbers that change when `file` does; none if there is no file.
    """
    try:
        state = os.stat(file or "")
    except OSError:
        return ()
    return (state.st_mtime_ns, state.st_size, state.st_ino)


def new_tracing(reactor: Any, settings: Settings) -> Tracing | None:
    """
    Return what exports traces, or None if `settings` name no collector.

    Raises:
        CannotStart: If OpenTelemetry is not installed.
        InvalidSetting: If the collector's URL is none.
    """
    endpoint = settings.otlp_endpoint
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        problem = "must begin with http:// or https://"
        raise InvalidSetting("--otlp-endpoint", endpoint, problem)
    try:
        # An extra of the package, and a fifth of a second.
        from kiroworkers.telemetry.otlp import OtlpExporter
    except ImportError as error:
        raise CannotStart(
            f"kiroworkers: --otlp-endpoint needs OpenTelemetry ({error}): "
            "pip install 'kiroworkers[otel]'"
        ) from None
    return Tracing(
        reactor,
        OtlpExporter(reactor, endpoint, inherited_environment()),
        lambda call: deferToThreadPool(reactor, reactor.getThreadPool(), call),
        with_content=settings.trace_content,
    )


def new_backend(reactor: Any, settings: Settings) -> Backend:
    """
    Return what keeps and distributes the jobs.

    Raises:
        CannotStart: If psycopg is not installed.
        InvalidSetting: If the database's address cannot be used.
    """
    name = settings.server_name or default_server_name(settings.endpoint)
    executor = ThreadExecutor(reactor)
    if settings.database_file is None:
        address = shown_address(settings.endpoint)
        return EmbeddedBackend(reactor, time.time, executor, name, address)
    try:
        # An extra of the package.
        from kiroworkers.cluster.backend import ClusterBackend
    except ImportError as error:
        raise CannotStart(
            f"kiroworkers: --database-file needs psycopg ({error}): "
            "pip install 'kiroworkers[postgres]'"
        ) from None
    return ClusterBackend(reactor, time.time, executor, settings, name)


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
        trusted_proxies=TrustedProxies(settings.trusted_proxy),
    )


def new_rate_limiter(clock: IReactorTime, settings: Settings) -> RateLimiter | None:
    """
    Return the limiter of each client's requests, or None if `settings` set no limit.
    """
    return RateLimiter(clock, settings.rate, settings.rate_burst) if settings.rate else None


def new_anonymous_limiter(clock: IReactorTime, settings: Settings) -> RateLimiter | None:
    """
    Return the limiter of requests without a valid token, or None if `settings` set no limit.

    A tenth of the requests of a minute may be sent at once: with the default, enough for a
    page with its files and for the probes of several load balancers.
    """
    rate = settings.anonymous_rate
    return RateLimiter(clock, rate, max(1, rate // 10)) if rate else None


def check_tasks(tasks: Mapping[str, Task], agents: Sequence[str], longest: float) -> None:
    """
    Check that this server can serve `tasks`.

    Args:
        tasks: The tasks by name.
        agents: The names of the agents that the server runs.
        longest: The deadline of any request, in seconds.

    Raises:
        BadTask: If a task names an agent that the server does not run, or has a deadline
            above `longest`.
    """
    for task in tasks.values():
        if task.agent is not None and task.agent not in agents:
            raise BadTask(
                task.source,
                f"agent: this server does not run {task.agent!r}, only {', '.join(agents)}; "
                "add it with --agent",
            )
        if task.limits.timeout is not None and task.limits.timeout > longest:
            raise BadTask(
                task.source, f"limits.timeout: is above --request-timeout, {longest:g} seconds"
            )
