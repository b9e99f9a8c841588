"""
The routes of jobs, and what a request says of being asked once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput
from kiroworkers.jobs.idempotency import Execute
from kiroworkers.jobs.job import IdempotencyKey, Job, StoredResponse, Webhook
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import OnProgress
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import HttpError, respond
from kiroworkers.web.request_options import header, requested_agent, wants_job, wants_raw
from kiroworkers.web.views import milliseconds

_CALLBACK = "X-Callback"
_KEY = "Idempotency-Key"

#: A page of jobs: by default, and at most.
_PAGE, _LARGEST_PAGE = 50, 200

#: The longest that a client is told to wait before it asks again, in seconds.
_LONGEST_WAIT = 30


class JobRoutes:
    """
    Jobs as clients see them: each its own, and operators all.
    """

    def __init__(self, job_service: JobService, authorizer: Authorizer) -> None:
        self._job_service = job_service
        self._authorizer = authorizer

    def accept(
        self, request: IRequest, agent: str, payload: Mapping[str, Any], options: RequestOptions
    ) -> bytes:
        """
        202, and where to ask for the answer.
        """
        callback = self._callback(request)
        key = _key_of(request, options)
        fingerprint = _fingerprint(request, payload, callback)
        job = None
        if key is not None:
            id = self._job_service.once.job(key, fingerprint)
            job = None if id is None else self._job_service.runner.find(id)
        if job is not None:
            request.setHeader(b"idempotency-replayed", b"true")
        else:
            new = Job(
                id="",
                client=options.client,
                agent=agent,
                task=options.label,
                payload=payload,
                created=0.0,
                priority=options.priority,
                timeout=options.timeout,
                callback=None if callback is None else Webhook(callback),
            )
            job = self._job_service.runner.accept(new, key, fingerprint)
        location = _location(job)
        request.setHeader(b"location", location.encode())
        request.setHeader(b"preference-applied", b"respond-async")
        self._tell_wait(request, job)
        return respond(request, 202, {"id": job.id, "state": job.state, "location": location})

    async def said(
        self,
        request: IRequest,
        payload: Mapping[str, Any],
        options: RequestOptions,
        asking: Execute,
        on_progress: OnProgress | None = None,
    ) -> StoredResponse:
        """
        What is said to a request that waits for it, asked once under its key.
        """
        if header(request, _CALLBACK) is not None:
            raise InvalidInput(_CALLBACK, f"{_CALLBACK} goes with Prefer: respond-async")
        key = _key_of(request, options)
        if key is None:
            return await asking(on_progress)
        fingerprint = _fingerprint(request, payload)
        said, replayed = await self._job_service.once.ask(key, fingerprint, asking, on_progress)
        if replayed:
            request.setHeader(b"idempotency-replayed", b"true")
        return said

    def listed(self, request: IRequest) -> bytes:
        """
        A page of jobs, the newest first, without what they came to.
        """
        client = self._authorizer.authorize(request, "ask")
        limit = _limit(request)
        before = request.args.get(b"before")
        number = None
        if before is not None:
            number = self._owned(request, client, before[0].decode("utf-8", "replace")).number
        owner = None if self._authorizer.is_operator(request) else client
        found = self._job_service.store.listed(owner, number, limit + 1)
        page = found[:limit]
        more = f"/jobs?limit={limit}&before={page[-1].id}" if len(found) > limit else None
        jobs = [{**job_json(each), "client": each.client} for each in page]
        for each in jobs:
            each.pop("result", None)
            each.pop("error", None)
        return respond(request, 200, {"jobs": jobs, "next": more})

    def shown(self, request: IRequest, id: str) -> bytes:
        """
        One job.
        """
        job = self._owned(request, self._authorizer.authorize(request, "ask"), id)
        body = job_json(job)
        if job.state == "queued":
            body["position"] = self._job_service.store.position(job)
        self._tell_wait(request, job)
        return respond(request, 200, body)

    def removed(self, request: IRequest, id: str) -> bytes:
        """
        Cancel a job that is unfinished: 200.  Forget one that has ended: 204.
        """
        job = self._owned(request, self._authorizer.authorize(request, "ask"), id)
        if job.unfinished:
            self._job_service.runner.cancel(job)
            return respond(request, 200, job_json(self._job_service.runner.find(id) or job))
        self._job_service.store.remove(id)
        request.setResponseCode(204)
        return b""

    def _owned(self, request: IRequest, client: str, id: str) -> Job:
        job = self._job_service.runner.find(id)
        if job is None or not (job.client == client or self._authorizer.is_operator(request)):
            raise HttpError(404, "unknown_job", "There is no such job of yours")
        return job

    def _callback(self, request: IRequest) -> str | None:
        url = header(request, _CALLBACK)
        if url is None:
            return None
        if self._job_service.hosts is None:
            why = "is not served here: that needs --callback-secret-file"
        else:
            why = self._job_service.hosts.refuses(url) or ""
        if why:
            raise InvalidInput(_CALLBACK, f"{_CALLBACK}: {why}")
        return str(url)

    def _tell_wait(self, request: IRequest, job: Job) -> None:
        if job.unfinished:
            position = self._job_service.store.position(job) if job.state == "queued" else 1
            request.setHeader(b"retry-after", b"%d" % min(position, _LONGEST_WAIT))


def job_json(job: Job) -> dict[str, Any]:
    """
    A job, and what it came to.
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
    }
    if job.said is not None:
        if job.state == "done":
            body["result"] = job.said.body
        else:
            body["error"] = {"status": job.said.status, **job.said.body}
    return body


def _location(job: Job) -> str:
    return f"/jobs/{job.id}"


def _key_of(request: IRequest, options: RequestOptions) -> IdempotencyKey | None:
    """
    The key of `request`, with quotes around it or without.

    Raises:
        InvalidInput: when it can be none.
    """
    key = header(request, _KEY)
    if key is None:
        return None
    found = re.fullmatch(r'"([!#-\[\]-~]{1,255})"|([!#-\[\]-~]{1,255})', key)
    if found is None:
        raise InvalidInput(_KEY, f"{_KEY} must be 1 to 255 printable ASCII characters, no spaces")
    return IdempotencyKey(options.client, options.label, found[1] or found[2])


def _fingerprint(request: IRequest, payload: Mapping[str, Any], callback: str | None = None) -> str:
    """
    By what two requests are known to be the same: what they ask of whom, and how
    they want to hear.
    """
    same = [payload, requested_agent(request), wants_job(request), callback]
    if wants_raw(request):
        same.append("raw")
    return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def _limit(request: IRequest) -> int:
    text = request.args.get(b"limit", [b"%d" % _PAGE])[0]
    if not re.fullmatch(rb"[0-9]{1,3}", text) or not 1 <= int(text) <= _LARGEST_PAGE:
        raise InvalidInput("limit", f"limit must be a whole number from 1 to {_LARGEST_PAGE}")
    return int(text)
