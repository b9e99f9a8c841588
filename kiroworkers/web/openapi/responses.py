"""
Define the responses that routes declare.
"""

from __future__ import annotations

from typing import Any

from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.openapi.schemas import TASK_ANSWER, Schema, ref, string
from kiroworkers.web.openapi.stream_events import (
    JOB_EVENTS,
    TASK_EVENTS,
    WATCH_EVENTS,
    describe_events,
)
from kiroworkers.web.routing import ResponseDoc

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

#: Headers of every answer of an agent.
_ANSWER_HEADERS = tuple(name.decode() for name in ANSWER_HEADERS if name != b"X-Kiroworkers-Usage")


def json_response(description: str, schema: Schema, *headers: str, **links: Any) -> ResponseDoc:
    """
    Describe a response whose body is JSON.

    Args:
        description: A sentence about the response.
        schema: The schema of the body.
        headers: Names of header components.
        links: OpenAPI links by name.
    """
    return ResponseDoc(description, {JSON: schema}, headers, links)


def _job_link(operation: str, description: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "description": description,
        "parameters": {"id": "$response.body#/id"},
    }


#: The answer of a task in each of its formats.
TASK_RESPONSE = ResponseDoc(
    "The answer.",
    {
        JSON: TASK_ANSWER,
        "text/plain": string("The agent's own words, if the request has `raw=1`."),
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events, if the request has `Accept: text/event-stream`. "
            "The data of each is one JSON object, see `TaskEvents`:\n\n"
            + describe_events(TASK_EVENTS),
        },
    },
    (*_ANSWER_HEADERS, "X-Kiroworkers-Ignored", "Idempotency-Replayed", "Preference-Applied"),
)

#: The response to a request that has become a job.
JOB_RESPONSE = json_response(
    "The job, if the request has `Prefer: respond-async`.",
    ref("Accepted"),
    "Location",
    "Preference-Applied",
    "Retry-After",
    "Idempotency-Replayed",
    "X-Kiroworkers-Ignored",
    job=_job_link("job", "Retrieve the job."),
    cancel=_job_link("cancel", "Cancel the job."),
)

#: The events of a job.
JOB_EVENTS_RESPONSE = ResponseDoc(
    "The events.",
    {
        EVENT_STREAM: {
            # Tools differ in what a schema of events describes: one, or all of them.
            "description": "Server-sent events. Each has an `id`, and its data is one JSON object, "
            "see `JobEvents`:\n\n" + describe_events(JOB_EVENTS),
        },
    },
)

#: What the page follows.
WATCH_RESPONSE = ResponseDoc(
    "The stream, which does not end.",
    {
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events. The data of each is one JSON object, see "
            "`WatchEvents`:\n\n" + describe_events(WATCH_EVENTS),
        },
    },
)

#: A chat completion in each of its formats.
CHAT_RESPONSE = ResponseDoc(
    "The completion.",
    {
        JSON: ref("ChatCompletion"),
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events, if `stream` is true: chunks as in OpenAI's API, "
            "then `[DONE]`.",
        },
    },
    (*_ANSWER_HEADERS, "X-Kiroworkers-Usage"),
)

#: A response of OpenAI's Responses API in each of its formats.
MODEL_RESPONSE = ResponseDoc(
    "The response.",
    {
        JSON: ref("ModelResponse"),
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events, if `stream` is true, as in OpenAI's API: from "
            "`response.created` to `response.completed`, or `error` and `response.failed`.",
        },
    },
    (*_ANSWER_HEADERS, "X-Kiroworkers-Usage"),
)

#: A message in each of its formats.
MESSAGE_RESPONSE = ResponseDoc(
    "The message.",
    {
        JSON: ref("Message"),
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events, if `stream` is true, as in Anthropic's API.",
        },
    },
    (*_ANSWER_HEADERS, "X-Kiroworkers-Usage"),
)
