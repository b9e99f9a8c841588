"""
Define the interface of the store of jobs, idempotency keys and webhooks.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.stored_response import IdempotencyKey, IdempotencyRecord, StoredResponse


@frozen
class JobLimits:
    """
    Hold what may be stored when another job is added.

    Attributes:
        unfinished: The maximum number of unfinished jobs, the new one included.
        total_bytes: The maximum size of all jobs, the new one included: the inputs of
            unfinished jobs and the results of the others.
        client_bytes: Likewise for the jobs of one client.
    """

    unfinished: int
    total_bytes: int
    client_bytes: int


@frozen
class StorageStatus:
    """
    Describe whether the storage works.

    Attributes:
        reason: Why it does not; None while it works.
        since: When it began to fail, in seconds since the epoch; None while it works.
    """

    reason: str | None = None
    since: float | None = None


class JobStore(Protocol):
    """
    Store jobs, with their results and webhooks, and the outcomes of idempotency keys.

    No method blocks.  Each returns a Deferred that fires when what it did is stored.

    Methods either fail with `StorageUnavailable` while the storage fails, or *persist*:
    what they record is kept in memory and stored as soon as possible, even if the
    Deferred is cancelled.  Such a change may be stored after a later one, so each of
    them applies only to a job in a state in which it makes sense.

    Attributes:
        status: Whether the storage works.
    """

    @property
    def status(self) -> StorageStatus:
        """
        Return whether the storage works.
        """

    def check_available(self) -> None:
        """
        Check that the storage works as far as is known.

        Raises:
            StorageUnavailable: It does not.
        """

    # Jobs.

    def add(
        self,
        job: Job,
        limits: JobLimits,
        key: IdempotencyKey | None = None,
        fingerprint: str = "",
    ) -> Deferred[tuple[Job, bool]]:
        """
        Add a new job, unless one was added under its idempotency key before.

        Args:
            job: The job, with an id of its own.
            limits: What may be stored.
            key: The idempotency key, if the request had one.
            fingerprint: Identifies what was asked under the key.

        Returns:
            The stored job, and whether it is the new one.  The Deferred fails with
            `IdempotencyKeyMismatch` if the key was used for something else, and with
            `TooManyJobs` or `JobsTooLarge` if `limits` do not permit another job.
        """

    def get(self, id: str) -> Deferred[Job | None]:
        """
        Return the job `id`, with its position if it is queued, or None if there is none.
        """

    def list_jobs(self, client: str | None, before: int | None, limit: int) -> Deferred[list[Job]]:
        """
        Return jobs without their payloads and results, newest first.

        Args:
            client: The client whose jobs to return; None for all clients.
            before: Only jobs with a smaller number than this; None for the newest.
            limit: The maximum number of jobs to return.
        """

    def cancel(self, id: str, now: float) -> Deferred[Job | None]:
        """
        Record that an unfinished job was cancelled, as `mark_ended` does.

        Returns:
            The job, or None if it is not unfinished any more.
        """

    def delete(self, id: str) -> Deferred[None]:
        """
        Delete the job `id`, and its idempotency key with it.
        """

    def withdraw(self, id: str) -> Deferred[None]:
        """
        Delete the job `id`, which nobody knows of yet.  This persists.
        """

    # Webhooks.

    def pending_webhooks(self) -> Deferred[list[Job]]:
        """
        Return the jobs whose webhooks are still to be called, without payloads and results.

        They are in the order in which they are due.  The Deferred does not fire before the
        storage works.
        """

    def record_webhook_attempt(self, id: str, due: float | None) -> Deferred[Job | None]:
        """
        Record an attempt to call the webhook of the job `id`.  This persists.

        Args:
            id: The job's id.
            due: When to try again, in seconds since the epoch; None for never.

        Returns:
            The job without its result, or None if it was deleted.
        """

    # Idempotency keys.

    def find_record(self, key: IdempotencyKey) -> Deferred[IdempotencyRecord | None]:
        """
        Return what was asked under `key`, or None if nothing was.
        """

    def save_response(
        self, key: IdempotencyKey, fingerprint: str, response: StoredResponse, now: float
    ) -> Deferred[None]:
        """
        Save the response to the request under `key`.  This persists.

        Args:
            key: The idempotency key.
            fingerprint: Identifies what was asked.
            response: The response.
            now: The current time in seconds since the epoch.
        """

    def reserve_key(
        self, key: IdempotencyKey, fingerprint: str
    ) -> Deferred[IdempotencyRecord | None]:
        """
        Return what was asked under `key`; or None if nothing was, and this server is to do it.

        With several servers, the others learn that this one does, until `save_response` or
        `release_key`, or until it has lost the database for longer than its lease.

        Args:
            key: The idempotency key.
            fingerprint: Identifies what is asked.
        """

    def release_key(self, key: IdempotencyKey) -> Deferred[None]:
        """
        Give up a key that was reserved, because there is no response to keep.  This persists.
        """

    # Expiry.

    def oldest(self) -> Deferred[float | None]:
        """
        Return when the oldest record that can expire was made, or None if there is none.

        The time is in seconds since the epoch: the end of a job, or when a response was
        saved.
        """

    def delete_expired(self, until: float, limit: int = 100) -> Deferred[bool]:
        """
        Delete old jobs and responses.

        A job whose webhook is still to be called stays.

        Args:
            until: Delete what ended or was saved up to this time, in seconds since the epoch.
            limit: The maximum number of jobs, and of responses, to delete in one call.

        Returns:
            A Deferred that fires with False if another server is doing it, else with True.
        """


class QueueStore(JobStore, Protocol):
    """
    Store the jobs of one server, which queues them in memory.
    """

    def unfinished(self) -> Deferred[list[Job]]:
        """
        Return the jobs that are queued or running, oldest first, without their payloads.

        The Deferred does not fire before the storage works.
        """

    def mark_started(self, id: str, attempts: int) -> Deferred[None]:
        """
        Record that an unfinished job was given to a worker.  This persists.

        Args:
            id: The job's id.
            attempts: The number of times that it has been given to one.
        """

    def requeue(self, id: str) -> Deferred[None]:
        """
        Record that a running job is queued again, to be run later.  This persists.
        """

    def mark_ended(
        self, id: str, state: JobState, result: JobAnswer | JobFailure, now: float
    ) -> Deferred[Job | None]:
        """
        Record the end of an unfinished job, and delete its payload.  This persists.

        The job's webhook, if it has one, is due at once.

        Args:
            id: The job's id.
            state: Its final state.
            result: The answer, or the failure.
            now: The current time in seconds since the epoch.

        Returns:
            The job, or None if it is not unfinished any more.
        """
