"""
Send requests to a server of a cluster, or to HAProxy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from bench.chaos.world import authorization
from tests.cost_cases import STORY

_CLIENT = "alpha"

#: How many clients create jobs at a time.
_CREATORS = 8


def ask(port: int, name: str, think: float = 0.0) -> None:
    """
    Send a live request, and check its answer.

    Args:
        port: The port.
        name: The name of the idea.
        think: How long the turn takes, in seconds.

    Raises:
        RuntimeError: There is no answer, or it is another request's.
    """
    idea = _idea(name, think)
    status, body = _post(port, idea, {})
    if status != 200 or json.loads(body)["title"] != idea:
        raise RuntimeError(f"{status}: {body!r}")


def create_job(port: int, name: str, think: float = 0.0) -> str:
    """
    Create a job, and return its id; the arguments are those of `ask`.

    Raises:
        RuntimeError: It was refused.
    """
    status, body = _post(port, _idea(name, think), {"Prefer": "respond-async"})
    if status != 202:
        raise RuntimeError(f"{status}: {body!r}")
    return str(json.loads(body)["id"])


def create_jobs(port: int, names: Sequence[str], think: float = 0.0) -> None:
    """
    Create several jobs, some at a time.
    """
    with ThreadPoolExecutor(_CREATORS) as together:
        list(together.map(lambda name: create_job(port, name, think), names))


def _idea(name: str, think: float) -> str:
    return f"idea {name} [[think={think}]]" if think else f"idea {name}"


def _post(port: int, idea: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(
            "POST",
            STORY,
            json.dumps({"idea": idea}),
            {**authorization(_CLIENT), "Content-Type": "application/json", **headers},
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
