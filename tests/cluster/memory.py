"""
A database in memory for several servers, and the connections to it.

It does what the functions of the real one do, as far as runners and memberships can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.cluster.membership import (
    Census,
    HeldJobs,
    Identity,
    OwnFacts,
    QueuedJobs,
    Swept,
)
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.attempts import Ended
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.presence import ServerInfo
from kiroworkers.jobs.store import JobLimits, StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.pool.progress import Progress

T = TypeVar("T")


@define
class ServerRow:
    """
    A row of the table of servers.
    """

    identity: Identity
    facts: OwnFacts
    started: float
    seen: float
    lease_until: float


@define(slots=False)
class JobRow:
    """
    A row of the table of jobs.
    """

    job: Job
    sort_key: float
    claims: int = 0
    failures: int = 0
    owner: int | None = None
    is_webhook_due: bool = False

    def __attrs_post_init__(self) -> None:
        # The payload is deleted when the job ends.
        self.idea = str(self.job.payload.get("idea"))


@define
class Database:
    """
    The tables, and the clock of the database.
    """

    clock: Clock
    servers: dict[int, ServerRow] = field(factory=dict)
    jobs: dict[str, JobRow] = field(factory=dict)
    on_notification: list[Callable[[str, str], None]] = field(factory=list)

    def notify(self, topic: str, argument: str) -> None:
        for call in self.on_notification:
            call(topic, argument)

    def alive(self, server: int | None) -> bool:
        row = None if server is None else self.servers.get(server)
        return row is not None and row.lease_until > self.clock.seconds()


class Connection:
    """
    One server's connection; this is a `Registry` and has `Claims`, and what runners store.

    Attributes:
        down: Whether the database cannot be reached.
        loses_answers: Whether statements are run, but their results are lost.
        held: While this is a list, statements wait in it, to be run by `run_held`.
        is_late: Whether statements that wait are run at once, and only their results wait.
        statements: The names of the statements that were run.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.down = self.loses_answers = self.is_late = False
        self.held: list[tuple[Deferred[Any], Callable[[], Any]]] | None = None
        self.statements: list[str] = []
        self.connections = 1
        self.kept: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    @property
    def status(self) -> StorageStatus:
        return StorageStatus("it is down", 0.0) if self.down else StorageStatus()

    def _run(self, name: str, statement: Callable[[], T], keep: bool = False) -> Deferred[T]:
        def run() -> T:
            self.statements.append(name)
            return statement()

        if self.down:
            if keep:
                kept: Deferred[T] = Deferred()
                self.kept.append((kept, run))
                return kept
            return fail(StorageUnavailable("it is down", 1))
        if self.held is not None:
            waiting: Deferred[T] = Deferred()
            if self.is_late:
                late = run()
                self.held.append((waiting, lambda: late))
            else:
                self.held.append((waiting, run))
            return waiting
        result = run()
        if self.loses_answers and keep:
            repeated: Deferred[T] = Deferred()
            self.kept.append((repeated, run))
            return repeated
        if self.loses_answers:
            return fail(StorageUnavailable("it was cut off", 1))
        return succeed(result)

    def run_held(self) -> None:
        """
        Run the statements that wait, in their order.
        """
        held, self.held = self.held or [], None
        for waiting, run in held:
            result = run()
            if not waiting.called:
                waiting.callback(result)

    def cut(self, *, executed: bool) -> None:
        """
        Break the connection; statements that wait were executed before, or not at all.
        """
        self.down = True
        held, self.held = self.held or [], None
        for waiting, run in held:
            if executed:
                run()
            if not waiting.called:
                waiting.errback(StorageUnavailable("it was cut off", 1))

    def heal(self) -> None:
        """
        Reach the database again, and store what was kept.
        """
        self.down = self.loses_answers = False
        self.connections += 1
        kept, self.kept = self.kept, []
        for waiting, run in kept:
            waiting.callback(run())

    # The registry.

    def register(self, identity: Identity, seconds: float, facts: OwnFacts) -> Deferred[int]:
        def statement() -> int:
            number = max(self.database.servers, default=0) + 1
            now = self.database.clock.seconds()
            self.database.servers[number] = ServerRow(identity, facts, now, now, now + seconds)
            return number

        return self._run("register", statement)

    def heartbeat(
        self, server: int, seconds: float, facts: OwnFacts, held: HeldJobs
    ) -> Deferred[Sequence[str] | None]:
        def statement() -> list[str] | None:
            now = self.database.clock.seconds()
            row = self.database.servers.get(server)
            if row is None:
                return None
            row.facts, row.seen, row.lease_until = facts, now, now + seconds
            lost = []
            for id, claims in held.claims.items():
                job = self.database.jobs.get(id)
                if job is not None and job.claims == claims and job.job.state == "queued":
                    job.job, job.owner = evolve(job.job, state="running"), server
                elif (
                    job is None
                    or (job.claims, job.owner) != (claims, server)
                    or job.job.state != "running"
                ):
                    lost.append(id)
            if held.complete:
                for id, job in self.database.jobs.items():
                    unknown = id not in held.claims and job.job.state == "running"
                    if unknown and job.owner == server:
                        self._requeue(job, attempts=job.job.attempts - 1)
                        job.failures -= 1
            return lost

        return self._run("heartbeat", statement)

    def sweep(self, server: int) -> Deferred[Swept]:
        def statement() -> Swept:
            jobs = webhooks = 0
            for row in self.database.jobs.values():
                if self.database.alive(row.owner) or row.owner is None:
                    continue
                if row.job.state == "running":
                    self._requeue(row, attempts=row.job.attempts)
                    jobs += 1
                elif row.is_webhook_due:
                    row.owner = server
                    webhooks += 1
            return Swept(jobs, webhooks)

        return self._run("sweep", statement)

    def _requeue(self, row: JobRow, attempts: int, sort_key: float = float("-inf")) -> None:
        row.job = evolve(row.job, state="queued", attempts=attempts)
        row.sort_key = sort_key
        self.database.notify("queued", row.job.agent)

    def census(self) -> Deferred[Census]:
        def statement() -> Census:
            now = self.database.clock.seconds()
            servers = [
                ServerInfo(
                    number=number,
                    name=row.identity.name,
                    version=row.identity.version,
                    address=row.identity.address,
                    account=row.identity.account,
                    state=row.facts.state if row.lease_until > now else "lost",
                    agents=row.facts.agents,
                    jobs=sum(
                        job.owner == number and job.job.state == "running"
                        for job in self.database.jobs.values()
                    ),
                    started=row.started,
                    seen=row.seen,
                    silence=now - row.seen,
                )
                for number, row in self.database.servers.items()
            ]
            queued = [row.job for row in self.database.jobs.values() if row.job.state == "queued"]
            oldest = now - min((job.created for job in queued), default=now)
            return Census(servers, QueuedJobs(len(queued), oldest))

        return self._run("census", statement)

    def leave(self, server: int) -> Deferred[None]:
        def statement() -> None:
            row = self.database.servers[server]
            row.lease_until = self.database.clock.seconds()
            row.facts = evolve(row.facts, state="stopped")

        return self._run("leave", statement)

    # Claims.  The server is set by the test.

    server = 1

    def claim(self, wanted: Mapping[str, int]) -> Deferred[Sequence[ClaimedJob]]:
        def statement() -> list[ClaimedJob]:
            claimed = []
            for agent, number in wanted.items():
                waiting = [
                    row
                    for row in self.database.jobs.values()
                    if (row.job.agent, row.job.state) == (agent, "queued")
                ]
                waiting.sort(key=lambda row: row.sort_key)
                for row in waiting[:number]:
                    row.job = evolve(row.job, state="running", attempts=row.job.attempts + 1)
                    row.owner = self.server
                    row.claims += 1
                    row.failures += 1
                    claimed.append(ClaimedJob(row.job, row.claims, row.failures))
            return claimed

        return self._run("claim", statement)

    def _own(self, id: str, claims: int) -> JobRow | None:
        row = self.database.jobs.get(id)
        return row if row is not None and row.claims == claims else None

    def release(
        self, id: str, claims: int, attempts: int, failures: int, *, first: bool
    ) -> Deferred[None]:
        def statement() -> None:
            row = self._own(id, claims)
            if row is not None and row.job.state == "running":
                row.failures = failures
                now = self.database.clock.seconds()
                sort_key = float("-inf") if first else now - 60 * row.job.priority
                self._requeue(row, attempts, sort_key)

        return self._run("release", statement, keep=True)

    def end(self, id: str, claims: int, attempts: int, result: Ended) -> Deferred[Job | None]:
        def statement() -> Job | None:
            row = self._own(id, claims)
            if row is not None and (row.job.state, row.job.result) == (result.state, result.result):
                # It is repeated.
                return evolve(row.job, result=None)
            if row is None or row.job.state not in ("queued", "running"):
                return None
            row.job = evolve(
                row.job,
                state=result.state,
                attempts=attempts,
                result=result.result,
                payload={},
                ended=self.database.clock.seconds(),
            )
            return evolve(row.job, result=None)

        return self._run("end", statement, keep=True)

    # What a runner needs of the store.

    def add(
        self,
        job: Job,
        limits: JobLimits,
        key: IdempotencyKey | None = None,
        fingerprint: str = "",
    ) -> Deferred[tuple[Job, bool]]:
        def statement() -> tuple[Job, bool]:
            self.database.jobs[job.id] = JobRow(job, job.created - 60 * job.priority)
            self.database.notify("queued", job.agent)
            return job, True

        return self._run("add", statement)

    def get(self, id: str) -> Deferred[Job | None]:
        row = self.database.jobs.get(id)
        return self._run("get", lambda: None if row is None else row.job)

    def cancel(self, id: str, now: float) -> Deferred[Job | None]:
        def statement() -> Job | None:
            row = self.database.jobs.get(id)
            if row is None or row.job.state not in ("queued", "running"):
                return None
            was_running = row.job.state == "running"
            row.job = evolve(row.job, state="cancelled", payload={}, ended=now)
            if was_running:
                self.database.notify("cancelled", id)
            return row.job

        return self._run("cancel", statement)

    def withdraw(self, id: str) -> Deferred[None]:
        def statement() -> None:
            self.database.jobs.pop(id, None)

        return self._run("withdraw", statement, keep=True)


class Events:
    """
    Note what a runner says about jobs; these are `ClaimEvents`.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def report(self, id: str, progress: Progress) -> None:
        self.log.append((type(progress).__name__, id))

    def retry(self, id: str, reason: str) -> None:
        self.log.append(("retry", id))

    def queue_again(self, id: str) -> None:
        self.log.append(("queue_again", id))

    def begin(self, job: Job, claims: int, watched: bool) -> None:
        self.log.append((f"begin {claims}", job.id))

    def complete(self, id: str) -> None:
        self.log.append(("complete", id))

    def release(self, id: str) -> None:
        self.log.append(("release", id))

    def forget(self, id: str) -> None:
        self.log.append(("forget", id))

    def end(self, job: Job) -> None:
        self.log.append(("end", job.id))

    def of(self, id: str) -> list[str]:
        return [name for name, job in self.log if job == id and name != "PartialText"]
