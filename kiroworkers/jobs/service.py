"""
All that has to do with jobs, put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import Logger

from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.paths import default_folder, jobs_file
from kiroworkers.jobs.retention import Retention
from kiroworkers.jobs.runner import Describe, JobRunner
from kiroworkers.jobs.ssrf import CallbackHosts
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.webhook_sender import WebhookSender
from kiroworkers.jobs.webhooks import Webhooks
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.settings import Settings, inherited_environment
from kiroworkers.tasks import Task
from kiroworkers.workspaces.state_folder import StateFolder

#: A shorter secret could be guessed.
_SHORTEST = 16


class JobService(MultiService):
    """
    Takes jobs on, has them asked, and tells their ends.

    Attributes:
        hosts: who may be called back; None while nobody is.

    Args:
        describe: what a `WorkError` means to a client.
        shown: a job as its client reads it.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        describe: Describe,
        shown: Callable[[Job], Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self._settings = settings
        self._folder: StateFolder | None = None
        self._callbacks: Webhooks | None = None
        self.hosts: CallbackHosts | None = None
        self.store = JobStore()
        self.once = IdempotencyCache(reactor, self.store)
        if settings.callback_secret_file is not None:
            secret = read_secret(settings.callback_secret_file)
            self.hosts = CallbackHosts(settings.callback_hosts)
            poster = WebhookSender(reactor, self.hosts)
            self._callbacks = Webhooks(reactor, self.store, poster.post, shown, secret)
            self._callbacks.setServiceParent(self)
        self.runner = JobRunner(
            reactor, groups, tasks, self.store, describe, settings.max_jobs, self._ended
        )
        self.runner.setServiceParent(self)
        Retention(reactor, self.store, settings.job_ttl).setServiceParent(self)

    def open(self, state: Path | None) -> None:
        """
        Have what an earlier server left, below `state` or, without one, where
        servers that listen here have it.  Blocks.

        Raises:
            CannotStart: when it cannot be had from `state`.
        """
        if state is None:
            state = self._usual_state()
        try:
            file = None if state is None else jobs_file(state)
        except OSError as problem:
            raise CannotStart(f"kiroworkers: --state-dir: {problem}") from None
        self.store.open(file)
        if self._callbacks is None:
            self.store.call_nobody()

    def close(self) -> None:
        """
        Nobody asks after jobs any more.
        """
        self.store.close()
        if self._folder is not None:
            self._folder.release()

    def _usual_state(self) -> Path | None:
        settings = self._settings
        port = settings.port if not settings.listen else -1
        folder = default_folder(inherited_environment(), settings.endpoint, port)
        if folder is None:
            return None
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = StateFolder(folder)
        except (OSError, CannotStart) as problem:
            self._log.warn(
                "jobs end with this server, since {folder} cannot be had ({problem}); "
                "give --state-dir",
                folder=folder,
                problem=problem,
            )
            return None
        return self._folder.path

    def _ended(self, job: Job) -> None:
        if self._callbacks is not None:
            self._callbacks.tell(job)


def read_secret(path: Path) -> bytes:
    """
    The secret in the file `path`, without the white space around it.

    Raises:
        InvalidSetting: when it is none.
    """
    name = "--callback-secret-file"
    try:
        secret = path.read_bytes().strip()
    except OSError as problem:
        raise InvalidSetting(name, str(path), str(problem)) from None
    if len(secret) < _SHORTEST:
        raise InvalidSetting(name, str(path), f"has fewer than {_SHORTEST} characters")
    return secret
