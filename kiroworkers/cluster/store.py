"""
Store jobs with their results, and responses by their idempotency keys, in PostgreSQL.

Several servers share the database, and each of them may be stopped between two statements.  So
each operation that changes something is one statement, and no lock is held while a server does
not run.  What must be atomic is a function in the database; see the migrations.

If the connection breaks, it is not known whether the statement before was executed.  An
operation that is kept is then repeated, so each of those has the same effect when it is executed
twice.  One that is not kept is reported as failed; what it may have added is removed when the
storage works again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kiroworkers.cluster import statements
from kiroworkers.cluster.engine import Connection, PostgresQueue
from kiroworkers.cluster.rows import (
    COLUMNS_WITHOUT_RESULT,
    JOB_COLUMNS,
    decode_text,
    encode_text,
    job_from_row,
)
from kiroworkers.errors import IdempotencyKeyMismatch, JobsTooLarge, StorageUnavailable, TooManyJobs
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.json_rows import response_from_json, response_to_json, to_json
from kiroworkers.jobs.store import JobLimits, StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyKey, IdempotencyRecord, StoredResponse

T = TypeVar("T")

#: Seconds after which to retry when the jobs reach a limit.
_RETRY_AFTER = 60

_ADD = """
    SELECT outcome, id, number, "position" FROM add_job(
        %(id)s, %(client)s, %(agent)s, %(task)s, %(payload)s, %(created)s, %(priority)s,
        %(timeout)s, %(callback)s, %(model)s, %(request_id)s, %(traceparent)s,
        %(max_unfinished)s, %(max_bytes)s, %(max_client_bytes)s, %(key)s, %(fingerprint)s
    )
"""

#: The number of jobs up to which those before a queued job are counted.
_MAX_COUNT = 10_000

_GET = f"""
    SELECT {JOB_COLUMNS}, CASE WHEN state = 'queued' THEN (
        SELECT count(*) + 1 FROM (
            SELECT FROM jobs AS other
            WHERE other.state = 'queued' AND other.agent = jobs.agent
                AND other.number < jobs.number
            LIMIT {_MAX_COUNT}
        ) AS earlier
    ) END
    FROM jobs WHERE id = %s
"""

_FIND_RECORD = """
    SELECT fingerprint, job, response, job IS NULL AND response IS NULL FROM keys
    WHERE client = %s AND task = %s AND key = %s AND (
        job IS NOT NULL OR response IS NOT NULL OR owner <> %s AND is_alive(owner)
    )
"""

_RESERVE = """
    SELECT fingerprint, job, response, in_progress FROM reserve_key(%s, %s, %s, %s, %s)
"""

_SAVE_RESPONSE = "SELECT save_response(%s, %s, %s, %s, %s, %s, %s)"

_OLDEST = """
    SELECT least(
        (SELECT min(ended) FROM jobs WHERE ended IS NOT NULL AND due IS NULL),
        (SELECT min(kept) FROM keys WHERE kept IS NOT NULL)
    )
"""


class PostgresStore:
    """
    Store jobs, and the responses and jobs of idempotency keys; this is a `JobStore`.

    Args:
        queue: Runs operations on the database.
        server: Returns the number under which this server is registered; 0 if it is not yet.
            It is called in the executor's thread, when an operation runs.
    """

    def __init__(self, queue: PostgresQueue, server: Callable[[], int]) -> None:
        self._queue = queue
        self._server = server

    @property
    def status(self) -> StorageStatus:
        """
        Return whether the storage works.
        """
        return self._queue.status

    def check_available(self) -> None:
        """
        Raise `StorageUnavailable` while the storage fails.
        """
        if self.status.reason is not None:
            raise self._queue.unavailable()

    # Jobs.

    def add(
        self,
        job: Job,
        limits: JobLimits,
        key: IdempotencyKey | None = None,
        fingerprint: str = "",
    ) -> Deferred[tuple[Job, bool]]:
        """
        Add a new job; see `JobStore.add`.

        If it is not known whether the job was added, it is withdrawn.
        """
        assert key is None or (key.client, key.task) == (job.client, job.task), "it is the job's"

        def add(db: Connection) -> tuple[Job, bool]:
            values = {
                **_new_row(job),
                "max_unfinished": limits.unfinished,
                "max_bytes": limits.total_bytes,
                "max_client_bytes": limits.client_bytes,
                "key": None if key is None else encode_text(key.key),
                "fingerprint": fingerprint,
            }
            while True:
                [[outcome, id, number, position]] = db.execute(_ADD, values)
                match outcome:
                    case "added":
                        return evolve(job, number=number, position=position), True
                    case "existing":
                        earlier = _get(db, id)
                        if earlier is not None:
                            return earlier, False
                        # It has just been deleted, and the key with it.
                    case "mismatch":
                        raise IdempotencyKeyMismatch()
                    case "too_many":
                        raise TooManyJobs(limits.unfinished, _RETRY_AFTER)
                    case "too_large_client":
                        raise JobsTooLarge(limits.client_bytes, "client", _RETRY_AFTER)
                    case _:
                        raise JobsTooLarge(limits.total_bytes, "server", _RETRY_AFTER)

        return self._write_or_undo(add, lambda: self.withdraw(job.id))

    def get(self, id: str) -> Deferred[Job | None]:
        """
        Return the job `id`, with its position if it is queued; see `JobStore.get`.

        All positions behind the first ten thousand are the same: clients ask often, and counting
        all jobs of a long queue would take too long.
        """
        return self._queue.read(lambda db: _get(db, encode_text(id)))

    def list_jobs(self, client: str | None, before: int | None, limit: int) -> Deferred[list[Job]]:
        """
        Return jobs without their payloads and results, newest first; see `JobStore.list_jobs`.
        """
        where: list[str] = []
        values: list[Any] = []
        if client is not None:
            where.append("client = %s")
            values.append(encode_text(client))
        if before is not None:
            where.append("number < %s")
            values.append(before)
        condition = " AND ".join(where) or "true"
        return self._queue.read(
            lambda db: _select(db, f"{condition} ORDER BY number DESC LIMIT %s", *values, limit)
        )

    def cancel(self, id: str, now: float) -> Deferred[Job | None]:
        """
        Record that a job was cancelled; see `JobStore.cancel`.
        """
        return self._queue.write(lambda db: statements.cancel_job(db, id, self._registered(), now))

    def delete(self, id: str) -> Deferred[None]:
        """
        Delete the job `id`, and its idempotency key with it.
        """
        return self._queue.write(lambda db: _delete(db, id))

    def withdraw(self, id: str) -> Deferred[None]:
        """
        Delete a job that nobody knows of yet; see `JobStore.withdraw`.

        It stays if another server has answered a retry of its request with it, and if it has a
        key and was claimed: a retry is to get it then.
        """
        stored_id = encode_text(id)

        def withdraw(db: Connection) -> None:
            db.execute("SELECT withdraw_job(%s)", (stored_id,))

        return self._queue.keep(withdraw)

    # Webhooks.

    def pending_webhooks(self) -> Deferred[list[Job]]:
        """
        Return the jobs whose webhooks this server is to call; see `JobStore.pending_webhooks`.
        """
        return self._queue.keep(
            lambda db: _select(db, "due IS NOT NULL AND owner = %s ORDER BY due", self._server())
        )

    def record_webhook_attempt(self, id: str, due: float | None) -> Deferred[Job | None]:
        """
        Record an attempt to call a webhook; see `JobStore.record_webhook_attempt`.
        """
        stored_id = encode_text(id)
        # The number of attempts before this one, once it is known.
        tries: int | None = None

        def record(db: Connection) -> Job | None:
            nonlocal tries
            if tries is None:
                row = db.execute("SELECT tries FROM jobs WHERE id = %s", (stored_id,)).fetchone()
                if row is None:
                    return None
                tries = int(row[0])
            # If it is repeated, the attempt may have been counted.
            db.execute(
                "UPDATE jobs SET tries = tries + 1, due = %s WHERE id = %s AND tries = %s",
                (due, stored_id, tries),
            )
            return next(iter(_select(db, "id = %s", stored_id)), None)

        return self._queue.keep(record)

    # Idempotency keys.

    def find_record(self, key: IdempotencyKey) -> Deferred[IdempotencyRecord | None]:
        """
        Return what was asked under `key`, or None if nothing was, or only by this server.
        """
        values = _key_values(key)
        return self._queue.read(
            lambda db: _record(db.execute(_FIND_RECORD, (*values, self._server())).fetchone())
        )

    def reserve_key(
        self, key: IdempotencyKey, fingerprint: str
    ) -> Deferred[IdempotencyRecord | None]:
        """
        Reserve `key`, or return what was asked under it; see `JobStore.reserve_key`.

        If it is not known whether the key was reserved, it is released.
        """
        values = (*_key_values(key), fingerprint)
        return self._write_or_undo(
            lambda db: _record(db.execute(_RESERVE, (self._registered(), *values)).fetchone()),
            lambda: self.release_key(key),
        )

    def release_key(self, key: IdempotencyKey) -> Deferred[None]:
        """
        Give up a key that this server has reserved; see `JobStore.release_key`.
        """
        values = _key_values(key)

        def release(db: Connection) -> None:
            db.execute("SELECT release_key(%s, %s, %s, %s)", (self._server(), *values))

        return self._queue.keep(release)

    def save_response(
        self, key: IdempotencyKey, fingerprint: str, response: StoredResponse, now: float
    ) -> Deferred[None]:
        """
        Save the response to the request under `key`; see `JobStore.save_response`.

        It changes nothing if another server has taken the key over, because this one had lost
        the database.
        """

        def save(db: Connection) -> None:
            values = (*_key_values(key), fingerprint, response_to_json(response), now)
            db.execute(_SAVE_RESPONSE, (self._server(), *values))

        return self._queue.keep(save)

    # Expiry.

    def oldest(self) -> Deferred[float | None]:
        """
        Return when the oldest record that can expire was made; see `JobStore.oldest`.
        """

        def oldest(db: Connection) -> float | None:
            at: float | None
            [[at]] = db.execute(_OLDEST)
            return at

        return self._queue.read(oldest)

    def delete_expired(self, until: float, limit: int = 100) -> Deferred[bool]:
        """
        Delete old jobs and responses; see `JobStore.delete_expired`.
        """

        def delete(db: Connection) -> bool:
            [[was_done]] = db.execute("SELECT delete_expired(%s, %s)", (until, limit))
            return bool(was_done)

        return self._queue.write(delete)

    def _registered(self) -> int:
        """
        Return the number of this server.

        Raises:
            StorageUnavailable: The database does not know it yet.
        """
        number = self._server()
        if not number:
            raise StorageUnavailable("the database does not know this server yet", 1)
        return number

    def _write_or_undo(
        self, function: Callable[[Connection], T], undo: Callable[[], Deferred[None]]
    ) -> Deferred[T]:
        """
        Call `function`, which writes; call `undo` if it is not known whether it has.

        That is so if the storage fails while it is called, or if the Deferred is cancelled.
        """
        called = False

        def call(db: Connection) -> T:
            nonlocal called
            called = True
            return function(db)

        def on_failure(failure: Failure) -> Failure:
            error = failure.value
            if called and isinstance(error, StorageUnavailable):
                error = evolve(error, perhaps_begun=True)
            elif not isinstance(error, CancelledError):
                return failure
            # The queue reports what could not be stored before the server ended.
            undo().addErrback(lambda _: None)
            return Failure(error)

        return self._queue.write(call).addErrback(on_failure)


def _select(db: Connection, where: str, *values: Any) -> list[Job]:
    """
    Return the jobs for which `where` is true, without payloads and results.
    """
    query = f"SELECT {COLUMNS_WITHOUT_RESULT} FROM jobs WHERE {where}"
    return [job_from_row(row) for row in db.execute(query.encode(), values)]


def _get(db: Connection, stored_id: str) -> Job | None:
    row = db.execute(_GET, (stored_id,)).fetchone()
    return None if row is None else evolve(job_from_row(row[:-1]), position=row[-1])


def _delete(db: Connection, id: str) -> None:
    db.execute("DELETE FROM jobs WHERE id = %s", (encode_text(id),))


def _new_row(job: Job) -> dict[str, Any]:
    """
    Return the values of a new job as they are stored.
    """
    texts = {
        name: encode_text(getattr(job, name))
        for name in ("id", "client", "agent", "task", "model", "request_id", "traceparent")
    }
    return {
        **texts,
        "payload": to_json(job.payload),
        "created": job.created,
        "priority": job.priority,
        "timeout": job.timeout,
        "callback": None if job.callback is None else encode_text(job.callback.url),
    }


def _key_values(key: IdempotencyKey) -> tuple[str, str, str]:
    return encode_text(key.client), encode_text(key.task), encode_text(key.key)


def _record(row: Sequence[Any] | None) -> IdempotencyRecord | None:
    """
    Return what a row says about a key; None for no row.
    """
    if row is None:
        return None
    fingerprint, job, response, in_progress = row
    return IdempotencyRecord(
        fingerprint,
        None if job is None else decode_text(job),
        response_from_json(response),
        in_progress,
    )
