"""
Assemble the services that accept, run, report and expire jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.jobs.backend import Backend, RunnerParts
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.paths import default_state_dir, jobs_file
from kiroworkers.jobs.retention import Retention
from kiroworkers.jobs.ssrf import CallbackHosts
from kiroworkers.jobs.store import JobLimits
from kiroworkers.jobs.webhook_sender import WebhookSender
from kiroworkers.jobs.webhooks import Webhooks
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.request_record import OnRequestEvent
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.tasks import Task
from kiroworkers.telemetry.request_history import RequestHistory
from kiroworkers.workspaces.state_folder import StateFolder

#: Characters; a shorter secret could be guessed.
_MIN_SECRET_LENGTH = 16


class JobService(MultiService):
    """
    Own the store of jobs and the services that work on it.

    Attributes:
        callback_hosts: Decides which webhooks may be called; None if webhooks are disabled.
        store: Holds jobs and responses.
        idempotency: Executes requests once per idempotency key.
        runner: Accepts and runs jobs.
        events: Keeps the events of jobs for those who listen.
        presence: Tells which servers share the jobs.
        history: Keeps the request history; it is saved if there is a state folder.
        state: The folder that is kept for the next server; None before `open`, and if there
            is none.
        ended: The number of jobs that have ended so far, by state.
        job_ttl: Seconds for which the results of jobs are kept.

    Args:
        reactor: Schedules and connects.
        settings: Limits, and where to keep jobs.
        backend: Keeps the jobs, and distributes them.
        groups: The agents and their pools.
        tasks: The tasks by their names.
        job_json: Returns a job as its client reads it.
        wall_clock: Returns the time in seconds since the epoch.
        offload: Runs searches for answers that may take long.
        on_event: Called with the events of each execution of a job; None if nobody observes them.

    Raises:
        InvalidSetting: The secret for webhooks cannot be read or is too short.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        backend: Backend,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        job_json: Callable[[Job], Mapping[str, Any]],
        wall_clock: WallClock = time.time,
        offload: Runner = run_here,
        on_event: OnRequestEvent | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._folder: StateFolder | None = None
        self.state: Path | None = None
        self.ended: dict[str, int] = dict.fromkeys(("done", "failed", "cancelled"), 0)
        self.job_ttl = settings.job_ttl
        self._webhooks: Webhooks | None = None
        self.callback_hosts: CallbackHosts | None = None
        self._backend = backend
        self.store = backend.store
        self.events = backend.events
        self.history = RequestHistory(reactor, wall_clock, settings.history, settings.history_age)
        self.idempotency = IdempotencyCache(
            reactor, wall_clock, self.store, settings.request_timeout, backend.key_changes
        )
        if settings.callback_secret_file is not None:
            secret = read_secret(settings.callback_secret_file)
            self.callback_hosts = CallbackHosts(settings.callback_hosts)
            sender = WebhookSender(reactor, self.callback_hosts)
            self._webhooks = Webhooks(
                reactor, wall_clock, self.store, sender.post, job_json, secret
            )
            self._webhooks.setServiceParent(self)
            backend.on_adopted(self._webhooks.resume)
        limits = JobLimits(
            settings.max_jobs, settings.max_job_bytes, settings.max_job_bytes_per_client
        )
        parts = RunnerParts(groups, tasks, limits, self._on_ended, offload, on_event)
        distribution = backend.distribute(parts)
        self.runner = distribution.runner
        self.presence = distribution.presence
        for service in distribution.services:
            service.setServiceParent(self)
        retention = Retention(reactor, wall_clock, self.store, self.job_ttl)
        retention.setServiceParent(self)

    def open(self, state: Path | None) -> None:
        """
        Open the store, with the jobs that an earlier server left.  This blocks.

        Args:
            state: The state folder.  If None, use the default folder of this endpoint, or
                keep jobs in memory if that folder cannot be used.

        Raises:
            CannotStart: `state` cannot be used, or the database is not usable.
        """
        if state is None:
            state = self._open_default_state()
        self.state = state
        try:
            file = None if state is None else jobs_file(state)
        except OSError as error:
            raise CannotStart(f"kiroworkers: --state-dir: {error}") from None
        settings = self._settings
        has_webhooks = self._webhooks is not None
        saved = self._backend.open(file, has_webhooks, settings.history, settings.history_age)
        if saved.storage is not None:
            self.history.open(saved.storage, saved.history)

    def stopService(self) -> Deferred[None]:
        """
        Stop all services, and end all streams of jobs.
        """
        stopped: Deferred[None] = super().stopService()
        self.events.close()
        return stopped

    def close(self) -> Deferred[None]:
        """
        Close the store, and release the default state folder if it was used.
        """

        def release(_: object) -> None:
            if self._folder is not None:
                self._folder.release()

        def on_failure(failure: Failure) -> None:
            self._log.failure("cannot save the request history", failure)

        saved = self.history.close().addErrback(on_failure)
        return saved.addCallback(lambda _: self._backend.close()).addCallback(release)

    def _open_default_state(self) -> Path | None:
        """
        Return the default state folder, locked for this server, or None if there is none.
        """
        settings = self._settings
        port = settings.port if not settings.listen else -1
        folder = default_state_dir(inherited_environment(), settings.endpoint, port)
        if folder is None:
            return None
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = StateFolder(folder)
        except (OSError, CannotStart) as error:
            self._log.warn(
                "jobs will not survive a restart, because {folder} cannot be used ({error}); "
                "set --state-dir",
                folder=folder,
                error=error,
            )
            return None
        return self._folder.path

    @property
    def webhooks(self) -> Webhooks | None:
        """
        Return what calls webhooks; None if they are disabled.
        """
        return self._webhooks

    def _on_ended(self, job: Job) -> None:
        self.ended[job.state] += 1
        if self._webhooks is not None:
            self._webhooks.schedule(job)


def read_secret(path: Path) -> bytes:
    """
    Return the secret in the file at `path`, without the white space around it.

    Raises:
        InvalidSetting: The file cannot be read, or the secret is too short.
    """
    name = "--callback-secret-file"
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise InvalidSetting(name, str(path), str(error)) from None
    if len(secret) < _MIN_SECRET_LENGTH:
        raise InvalidSetting(name, str(path), f"must have at least {_MIN_SECRET_LENGTH} characters")
    return secret
