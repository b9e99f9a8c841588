"""
Convert what stores keep to JSON and back: results of jobs, responses, and request history.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import asdict

from kiroworkers.errors import CATALOGUE, ErrorCode, FailureCode
from kiroworkers.jobs.job import JobAnswer, JobFailure, JobState
from kiroworkers.jobs.stored_response import StoredResponse


def to_json(value: Any) -> str:
    """
    Return `value` as compact JSON.
    """
    # ASCII, because a lone surrogate cannot be encoded as UTF-8.
    return json.dumps(value, separators=(",", ":"))


def result_to_json(result: JobAnswer | JobFailure) -> str:
    """
    Return the result of a job as JSON.
    """
    return to_json(asdict(result, recurse=False))


def result_from_json(state: JobState, text: str) -> JobAnswer | JobFailure:
    """
    Return the result of a job in `state`, which `result_to_json` returned as `text`.
    """
    result = json.loads(text)
    if state == "done":
        return JobAnswer(**result)
    return JobFailure(_failure_code(result.pop("code")), **result)


def response_to_json(response: StoredResponse) -> str:
    """
    Return a response to be stored as JSON.
    """
    return to_json(
        {"status": response.status, "body": response.body, "headers": dict(response.headers)}
    )


def response_from_json(text: str | None) -> StoredResponse | None:
    """
    Return the response that `response_to_json` returned as `text`; None for None.
    """
    return None if text is None else StoredResponse(**json.loads(text), cacheable=True)


def content_from_json(text: str) -> dict[str, object]:
    """
    Return the content of an entry of the request history; an empty one if it cannot be read.
    """
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _failure_code(name: str) -> FailureCode:
    """
    Return the entry called `name` of the catalogue.

    A later version of the server may have stored a code that this one does not know.
    """
    return next((code for code in CATALOGUE if code == name), ErrorCode.FAULT)
