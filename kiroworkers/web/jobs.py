"""
Serve the routes of jobs, and run requests once per idempotency key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode, InvalidInput, StorageUnavailable
from kiroworkers.jobs.idempotency import Execute
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, Webhook
from kiroworkers.jobs.service import JobService
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import OnProgress
from kiroworkers.web.addresses import rate_key
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import HttpError, job_error_json, respond
from kiroworkers.web.job_stream import JobStream
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.request_options import (
    header,
    page_limit,
    requested_agent,
    requested_model,
    wants_raw,
)
from kiroworkers.web.views import milliseconds

_CALLBACK = "X-Callback"
_KEY = "Idempotency-Key"

#: What an idempotency key consists of.
KEY_PATTERN = r"[!#-\[\]-~]{1,255}"

#: The longest time for which clients are advised to wait before they poll again, in seconds.
_MAX_RETRY_AFTER = 30


class JobRoutes:
    """
    Handle requests for jobs: a client sees its own, and an operator sees all.
    """

    def __init__(
        self, clock: IReactorTime, job_service: JobService, authorizer: Authorizer
    ) -> None:
        self._job_service = job_service
        self._authorizer = authorizer
        self._stream = JobStream(clock, job_service.store, job_service.events)

    async def create(
        self, request: IRequest, agent: str, payload: Mapping[str, Any], options: RequestOptions
    ) -> bytes:
        """
        Create a job, and respond with 202 and the job's location.

        If a job was created under the same idempotency key, respond with that one instead.

        Args:
            request: The request for the job.
            agent: The name of the agent to use.
            payload: The input, as the task accepted it.
            options: The request's client, task, priority, timeout and model.

        Raises:
            InvalidInput: A header is invalid.
            IdempotencyKeyMismatch: The key was used for a different request.
            TooManyJobs: The limit of unfinished jobs is reached.
            JobsTooLarge: The limit of the jobs' size is reached.
            StorageUnavailable: The job cannot be stored.
            ShuttingDown: The server accepts no more jobs.
        """
        job = await self.accept(request, agent, payload, options)
        location = _location(job)
        request.setHeader(b"location", location.encode())
        request.setHeader(b"preference-applied", b"respond-async")
        _set_retry_after(request, job)
        body = {
            "id": job.id,
            "state": job.state,
            "location": location,
            "requestId": job.request_id or None,
        }
        return respond(request, 202, body)

    async def accept(
        self, request: IRequest, agent: str, payload: Mapping[str, Any], options: RequestOptions
    ) -> Job:
        """
        Create a job, or return the one that was created under the same idempotency key.

        The arguments and the exceptions are those of `create`.
        """
        url = self._callback_url(request)
        key = _idempotency_key(request, options)
        fingerprint = _fingerprint(request, payload, url, is_job=True)
        if key is not None:
            self._job_service.idempotency.check_fingerprint(key, fingerprint)
        record = record_of(request)
        new_job = Job(
            id="",
            client=options.client,
            agent=agent,
            task=options.label,
            payload=payload,
            created=0.0,
            priority=options.priority,
            timeout=options.timeout,
            callback=None if url is None else Webhook(url),
            model=options.model,
            request_id=record.id,
            traceparent="" if record.trace is None else record.trace.traceparent,
        )
        try:
            job, is_new = await self._job_service.runner.accept(new_job, key, fingerprint)
        except StorageUnavailable as error:
            # A proxy sends a request that got 503 to another server.  With a key that is safe.
            if error.perhaps_begun and key is None:
                record.prompted = True
            raise
        if not is_new:
            request.setHeader(b"idempotency-replayed", b"true")
        record.job = job.id
        return job

    async def run_once(
        self,
        request: IRequest,
        payload: Mapping[str, Any],
        options: RequestOptions,
        execute: Execute,
        on_progress: OnProgress | None = None,
    ) -> StoredResponse:
        """
        Return the response to a request whose client waits for it.

        Requests with the same idempotency key are executed once and share the response.
        Without a key, the request is always executed.

        Args:
            request: The request.
            payload: The input, as the task accepted it.
            options: The request's client and task.
            execute: Executes the request.
            on_progress: Called with each step of the execution.

        Raises:
            InvalidInput: A header is invalid.
            IdempotencyKeyMismatch: The key was used for a different request.
            RequestTimedOut: The deadline passed while the response was awaited.
            StorageUnavailable: The response could not be stored, or cannot be read.
        """
        if header(request, _CALLBACK) is not None:
            raise InvalidInput(_CALLBACK, f"{_CALLBACK} requires Prefer: respond-async")
        key = _idempotency_key(request, options)
        if key is None:
            return await execute(on_progress)
        fingerprint = _fingerprint(request, payload, is_job=False)
        response, replayed = await self._job_service.idempotency.run(
            key, fingerprint, execute, on_progress, options.timeout
        )
        if replayed:
            request.setHeader(b"idempotency-replayed", b"true")
        return response

    async def list_page(self, request: IRequest, client: str) -> bytes:
        """
        Respond with a page of jobs, newest first, without their results.

        The field ``next`` of the response is the path of the next page, or null.
        """
        limit = page_limit(request)
        before = request.args.get(b"before")
        number = None
        if before is not None:
            number = (await self.find(request, client, before[0].decode("utf-8", "replace"))).number
        owner = None if self._authorizer.is_operator(request) else client
        jobs = await self._job_service.store.list_jobs(owner, number, limit + 1)
        page = jobs[:limit]
        next_path = f"/jobs?limit={limit}&before={page[-1].id}" if len(jobs) > limit else None
        items = [{**job_json(job), "client": job.client} for job in page]
        return respond(request, 200, {"jobs": items, "next": next_path})

    async def retrieve(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Respond with the job `id`, and with its position if it is queued.
        """
        job = await self.find(request, client, id)
        body = job_json(job)
        if job.position is not None:
            body["position"] = job.position
        _set_retry_after(request, job)
        return respond(request, 200, body)

    async def stream(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Respond with the events of the job `id`.
        """
        job = await self.find(request, client, id)
        record_of(request).job = job.id
        return await self._stream.respond(request, job)

    async def cancel_or_delete(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Cancel the job `id` and respond with it (200), or delete it if it has ended (204).
        """
        job = await self.find(request, client, id)
        if job.unfinished:
            # If it has just ended, respond with what it came to, which its client does not know.
            cancelled = await self._job_service.runner.cancel(job)
            ended = cancelled or await self.find(request, client, id)
            return respond(request, 200, job_json(ended))
        await self._job_service.store.delete(id)
        request.setResponseCode(204)
        return b""

    async def find(self, request: IRequest, client: str, id: str) -> Job:
        """
        Return the job `id` if the `client` that has sent `request` may see it.

        Raises:
            HttpError: There is no such job, or it is another client's (404 in both cases).
            StorageUnavailable: It cannot be read.
        """
        job = await self._job_service.store.get(id)
        # Earlier versions stored the address of an IPv6 client in place of its network.
        owners = () if job is None else (job.client, rate_key(job.client))
        if job is None or not (client in owners or self._authorizer.is_operator(request)):
            raise HttpError(ErrorCode.UNKNOWN_JOB, "Job not found")
        return job

    def _callback_url(self, request: IRequest) -> str | None:
        url = header(request, _CALLBACK)
        if url is None:
            return None
        if self._job_service.callback_hosts is None:
            problem: str | None = (
                "this server sends no callbacks (--callback-secret-file is not set)"
            )
        else:
            problem = self._job_service.callback_hosts.url_problem(url)
        if problem is not None:
            raise InvalidInput(_CALLBACK, f"{_CALLBACK}: {problem}")
        return str(url)


def job_json(job: Job) -> dict[str, Any]:
    """
    Return a job as clients read it, with its result or error if it has ended.
    """
    body = {
        "id": job.id,
        "task": job.task,
        "agent": job.agent,
        "state": job.state,
        "location": _location(job),
        "created": milliseconds(job.created),
        "ended": None if job.ended is None else milliseconds(job.ended),
        "attempts": job.attempts,
        "model": job.model or None,
        "requestId": job.request_id or None,
    }
    match job.result:
        case JobAnswer(value=value, credits=credits, context_percent=context_percent):
            body["result"] = value
            if (credits, context_percent) != (None, None):
                body["usage"] = {"credits": credits, "contextPercent": context_percent}
        case JobFailure() as failure:
            body["error"] = job_error_json(job, failure)
    return body


def _set_retry_after(request: IRequest, job: Job) -> None:
    if job.unfinished:
        request.setHeader(b"retry-after", b"%d" % min(job.position or 1, _MAX_RETRY_AFTER))


def _location(job: Job) -> str:
    return f"/jobs/{job.id}"


def _idempotency_key(request: IRequest, options: RequestOptions) -> IdempotencyKey | None:
    """
    Return the idempotency key of `request`, which may be quoted, or None.

    Raises:
        InvalidInput: The key is too long or has characters that are not allowed.
    """
    value = header(request, _KEY)
    if value is None:
        return None
    match = re.fullmatch(f'"({KEY_PATTERN})"|({KEY_PATTERN})', value)
    if match is None:
        raise InvalidInput(
            _KEY,
            f"{_KEY} must be 1 to 255 printable ASCII characters without spaces, quotes or "
            "backslashes",
        )
    return IdempotencyKey(options.client, options.label, match[1] or match[2])


def _fingerprint(
    request: IRequest, payload: Mapping[str, Any], callback: str | None = None, *, is_job: bool
) -> str:
    """
    Return a digest that is equal for requests that ask for the same thing in the same way.
    """
    parts = [payload, requested_agent(request), is_job, callback]
    if wants_raw(request):
        parts.append("raw")
    model = requested_model(request)
    if model is not None:
        parts.append({"model": model})
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
