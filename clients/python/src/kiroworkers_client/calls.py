"""
Make the requests to a server and read its responses, without I/O.

Each method of `Calls` returns a script (see `steps`), which `Kiro` and `AsyncKiro` perform.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast
from urllib.parse import quote

from kiroworkers_client.answers import Answer, Review, Story, Test, answer_from_headers
from kiroworkers_client.base_errors import InvalidResponseError
from kiroworkers_client.errors import TimedOutError
from kiroworkers_client.events import Answered
from kiroworkers_client.jobs import Job, JobPage, JobReceipt, job_from, page_from
from kiroworkers_client.options import JobOptions, Options, headers_from, timeout_from
from kiroworkers_client.readiness import Readiness, readiness_from
from kiroworkers_client.responses import error_within
from kiroworkers_client.sending import EVENT_STREAM, KEY, Deadline, Reply, Request, Sender
from kiroworkers_client.steps import Script, Sleep

#: Seconds for a question about the server's state.
_STATE_TIMEOUT = 10.0

#: Seconds for any other request that needs no agent, retries included.
_AGENTLESS_TIMEOUT = 30.0

#: Seconds for a look at a job that is waited for: the server may restart meanwhile.
_RESTART_TIMEOUT = 60.0

#: The wait before a job is looked at again, if the server does not suggest one.
_POLL_DELAY = 1.0


class Calls:
    """
    Make requests to one server.

    Args:
        sender: Sends requests to the server.
        timeout: The seconds that a request to a task may take if its caller does not say; None
            for no limit.
        new_key: Returns a new idempotency key.

    Raises:
        ValueError: If the timeout is invalid.
    """

    def __init__(self, sender: Sender, timeout: float | None, new_key: Callable[[], str]) -> None:
        self._sender = sender
        self._timeout = timeout_from({}, timeout)
        self._new_key = new_key

    @property
    def base(self) -> str:
        """
        Return the address of the server.
        """
        return self._sender.base

    def ask(
        self, task: str, input: Mapping[str, Any], **options: Unpack[Options]
    ) -> Script[Answer[dict[str, Any]]]:
        """
        Return the answer of the task named `task` to `input`.

        Args:
            task: The name of the task.
            input: The input: a JSON object that fits the task's input schema.
            **options: The options of `Options`.

        Raises:
            KiroError: There is no answer.
        """
        reply = yield from self._sender.send(*self._task_request(task, input, options))
        return answer_from_headers(reply.value, reply.headers)

    def generate_story(
        self,
        idea: str,
        parent_story: Mapping[str, Any] | None = None,
        components: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> Script[Answer[Story]]:
        """
        Return a user story for `idea`.

        Args:
            idea: The idea, in plain text.
            parent_story: The story that the new one is a part of; it has at least a title.
            components: The components that the story may name.
            **options: The options of `Options`.

        Raises:
            KiroError: There is no answer.
        """
        fields = {"idea": idea, "parentStory": parent_story, "components": components}
        answer = yield from self.ask("generate-story", _present(fields), **options)
        return cast(Answer[Story], answer)

    def generate_test(
        self, story: Mapping[str, Any], idea: str | None = None, **options: Unpack[Options]
    ) -> Script[Answer[Test]]:
        """
        Return an acceptance test for a story.

        Args:
            story: The story; it has at least a title.
            idea: The idea that the story was made from.
            **options: The options of `Options`.

        Raises:
            KiroError: There is no answer.
        """
        fields = {"story": story, "idea": idea}
        answer = yield from self.ask("generate-test", _present(fields), **options)
        return cast(Answer[Test], answer)

    def analyze_invest(
        self, story: Mapping[str, Any], **options: Unpack[Options]
    ) -> Script[Answer[Review]]:
        """
        Return a review of a story by the INVEST criteria.

        Args:
            story: The story; it has at least a title.
            **options: The options of `Options`.

        Raises:
            KiroError: There is no answer.
        """
        answer = yield from self.ask("analyze-invest", {"story": story}, **options)
        return cast(Answer[Review], answer)

    def stream(
        self, task: str, input: Mapping[str, Any], **options: Unpack[Options]
    ) -> Script[None]:
        """
        Ask a task, and iterate over the events of the request; the last one is `Answered`.

        Use it in a ``with`` statement, whose end cancels the request if it is still running.  The
        statement begins after the first event.  An error is raised where the next event would be.

        Args:
            task: The name of the task.
            input: The input: a JSON object that fits the task's input schema.
            **options: The options of `Options`.

        Raises:
            KiroError: There is no answer.
        """
        request, deadline = self._task_request(task, input, options)
        headers = {**request.headers, "Accept": EVENT_STREAM}
        reply = yield from self._sender.send(replace(request, headers=headers), deadline)
        yield Answered(answer_from_headers(reply.value, reply.headers))

    def submit(
        self, task: str, input: Mapping[str, Any], **options: Unpack[JobOptions]
    ) -> Script[JobReceipt]:
        """
        Store a job that asks a task; the server runs it without an open connection.

        Args:
            task: The name of the task.
            input: The input: a JSON object that fits the task's input schema.
            **options: The options of `JobOptions`.

        Raises:
            KiroError: The server did not accept the job.
        """
        request, _ = self._task_request(task, input, options)
        headers = {**request.headers, "Prefer": "respond-async"}
        timeout = timeout_from(options, None)
        if timeout is not None:
            headers["X-Request-Timeout"] = f"{timeout:.3f}"
        # A job cannot be stored without its key if the storage fails.
        request = replace(request, headers=headers, accepted=(202,), own_key=False)
        reply = yield from self._sender.send(request, self._sender.deadline(_AGENTLESS_TIMEOUT))
        answer = answer_from_headers(None, reply.headers)
        match reply.value:
            case {"id": str(id), "state": str(state), "location": str(location)}:
                request_id = reply.value.get("requestId")
                return JobReceipt(
                    id,
                    state,
                    location,
                    answer.replayed,
                    answer.ignored,
                    request_id if isinstance(request_id, str) else None,
                )
        raise InvalidResponseError(
            f"{self._sender.base} did not describe the job", status=reply.status
        )

    def job(self, id: str) -> Script[Job]:
        """
        Return a job as it is now.

        Args:
            id: The identifier of the job.

        Raises:
            UnknownJobError: There is no such job, or it is another client's.
            KiroError: The request failed in another way.
        """
        reply = yield from self._get(_job_path(id), _AGENTLESS_TIMEOUT)
        return job_from(reply.value)

    def jobs(self, limit: int = 50, before: str | None = None) -> Script[JobPage]:
        """
        Return the newest of this client's jobs, without their answers.

        Args:
            limit: The maximum number of jobs, up to 200.
            before: The identifier of a job: return those that are older than it.  It is
                `JobPage.next` of the page before.

        Raises:
            KiroError: The request failed.
        """
        path = f"/jobs?limit={limit}"
        if before is not None:
            path += f"&before={quote(before, safe='')}"
        reply = yield from self._get(path, _AGENTLESS_TIMEOUT)
        return page_from(reply.value)

    def wait(self, id: str, timeout: float | None = None) -> Script[Job]:
        """
        Return a job after it has ended; `Job.result` then returns or raises its outcome.

        The job is looked at as often as the server suggests.  If the server restarts meanwhile, it
        may take a minute.

        Args:
            id: The identifier of the job.
            timeout: Seconds after which not to wait any longer; None for no limit.

        Raises:
            TimedOutError: The job has not ended in time.  It goes on.
            UnknownJobError: There is no such job, or it is another client's.
            KiroError: The server could not be asked.
        """
        deadline = self._sender.deadline(timeout_from({}, timeout))
        while True:
            left = deadline.left()
            # The last look may take a second of its own.
            seconds = _RESTART_TIMEOUT if left is None else max(1.0, left)
            look = self._sender.deadline(min(seconds, _RESTART_TIMEOUT))
            request = Request("GET", _job_path(id), {}, patient=True)
            reply = yield from self._sender.send(request, look)
            job = job_from(reply.value)
            if job.finished:
                return job
            left = deadline.left()
            if left is not None and left <= 0:
                raise TimedOutError(f"the job {id} has not ended within {timeout:g} seconds")
            suggested = reply.headers.get("retry-after", "")
            delay = float(suggested) if re.fullmatch("[0-9]{1,5}", suggested) else _POLL_DELAY
            delay = max(delay, _POLL_DELAY)
            yield Sleep(delay if left is None else min(delay, left))

    def follow(self, id: str, timeout: float | None = None) -> Script[None]:
        """
        Iterate over the events of a job from its acceptance; the last one is `Answered`.

        Use it in a ``with`` statement.  Leaving it does not cancel the job.  If the connection is
        lost or the server restarts, which may take a minute, the events continue where they ended.
        Events that the server no longer has are reported as `Missed`.  An error is raised where the
        next event would be.

        Args:
            id: The identifier of the job.
            timeout: Seconds after which not to wait any longer; None for no limit.

        Raises:
            JobCancelledError: The job was cancelled.
            TimedOutError: The job has not ended in time.  It goes on.
            UnknownJobError: There is no such job, or it is another client's.
            KiroError: The job failed, or the server could not be asked.
        """
        deadline = self._sender.deadline(timeout_from({}, timeout))
        request = Request("GET", f"{_job_path(id)}/events", {})
        reply = yield from self._sender.follow(request, deadline)
        yield Answered(answer_from_headers(reply.value, reply.headers))

    def cancel(self, id: str) -> Script[Job | None]:
        """
        Cancel an unfinished job and return it, or delete one that has ended and return None.

        Args:
            id: The identifier of the job.

        Raises:
            UnknownJobError: There is no such job, or it is another client's.
            KiroError: The request failed in another way.
        """
        # If the server has cancelled the job, the same request again would delete it.
        request = Request("DELETE", _job_path(id), {}, accepted=(200, 204), repeatable=False)
        reply = yield from self._sender.send(request, self._sender.deadline(_AGENTLESS_TIMEOUT))
        return job_from(reply.value) if reply.status == 200 else None

    def health(self) -> Script[dict[str, Any]]:
        """
        Return the state of the server and of each worker: the body of ``GET /health``.

        Raises:
            KiroError: The request failed.  It is not sent again.
        """
        request = Request("GET", "/health", {})
        reply = yield from self._sender.send_once(request, self._sender.deadline(_STATE_TIMEOUT))
        return reply.value

    def ready(self, agent: str | None = None) -> Script[Readiness]:
        """
        Return whether a worker can take requests; the result is true if so.

        Args:
            agent: Consider only this agent's workers.

        Raises:
            KiroError: The request failed.  It is not sent again.
        """
        path = "/ready" if agent is None else f"/ready?agent={quote(agent, safe='')}"
        request = Request("GET", path, {}, accepted=(200, 503))
        reply = yield from self._sender.send_once(request, self._sender.deadline(_STATE_TIMEOUT))
        readiness = readiness_from(reply.value)
        if readiness is None:
            raise error_within({"status": reply.status, **reply.value})
        return readiness

    def tasks(self) -> Script[dict[str, dict[str, Any]]]:
        """
        Return every task of the server by its name, with its schemas and an example.

        Raises:
            KiroError: The request failed.
        """
        reply = yield from self._get("/kiro", _AGENTLESS_TIMEOUT)
        try:
            return {task["name"]: task for task in reply.value["tasks"]}
        except (KeyError, TypeError):
            problem = f"{self._sender.base} is not a kiroworkers server"
            raise InvalidResponseError(problem, status=reply.status) from None

    def _task_request(
        self, task: str, input: Mapping[str, Any], options: Options | JobOptions
    ) -> tuple[Request, Deadline]:
        """
        Return the request to a task, and its deadline.

        If requests are sent again, it has an idempotency key, so that a repetition is no second
        turn.
        """
        headers = {"Content-Type": "application/json", **headers_from(options)}
        own_key = self._sender.retries and KEY not in headers
        if own_key:
            headers[KEY] = self._new_key()
        body = json.dumps(input, separators=(",", ":"), allow_nan=False).encode()
        path = f"/kiro/{_path_segment('task', task)}"
        repeatable = KEY in headers
        request = Request("POST", path, headers, body, repeatable=repeatable, own_key=own_key)
        timeout = timeout_from(options, self._timeout)
        return request, self._sender.deadline(timeout, announced=True)

    def _get(self, path: str, seconds: float) -> Script[Reply]:
        return self._sender.send(Request("GET", path, {}), self._sender.deadline(seconds))


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _job_path(id: str) -> str:
    return f"/jobs/{_path_segment('id', id)}"


def _path_segment(name: str, value: str) -> str:
    """
    Return `value` as one part of a path.

    Raises:
        ValueError: If it would change the path, because it is empty or consists of dots.
    """
    if value in ("", ".", ".."):
        raise ValueError(f"{name} must not be {value!r}")
    return quote(value, safe="")
