"""
Read how the client wants a request to be handled, from its headers and query.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput, UnknownModel
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from kiroworkers.web.recorded_request import record_of

#: The number of entries on a page: by default, and at most.
DEFAULT_LIMIT, MAX_LIMIT = 50, 200

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.I)

_MODEL = re.compile(r"[!-~]{1,200}")

_ASYNC = re.compile(r"(?:^|,)\s*respond-async\s*(?=$|[,;])", re.I)


def request_options(
    request: IRequest,
    client: str,
    label: str,
    max_timeout: float | None = None,
    model: str = "",
    *,
    is_job: bool = False,
) -> RequestOptions:
    """
    Return the timeout and priority of `request`.

    The timeout is the shortest of ``X-Request-Timeout`` (seconds), ``Prefer: wait=N``
    (seconds, RFC 7240) and `max_timeout`.  If ``wait`` is followed, the response gets the
    header ``Preference-Applied``; for a job it is ignored.  The priority is
    ``X-Priority`` (0 to 9).

    Args:
        request: The request to read.
        client: The client that sent it, as `Authorizer.authorize` returned it.
        label: What is asked for, such as the name of a task.
        max_timeout: The maximum duration in seconds; None for no limit.
        model: The model that is to answer; empty for the agent's own.
        is_job: Whether the request becomes a job although it has no ``respond-async``.

    Raises:
        InvalidInput: A header is invalid; the error names it.
    """
    timeout = _timeout(request)
    wait = None if is_job or wants_job(request) else _WAIT.search(header(request, "Prefer") or "")
    if wait is not None and int(wait[1]) > 0:
        preferred = float(wait[1])
        if timeout is None or preferred <= timeout:
            timeout = preferred
            request.setHeader(b"preference-applied", b"wait=" + wait[1].encode())
    if max_timeout is not None:
        timeout = max_timeout if timeout is None else min(timeout, max_timeout)
    record = record_of(request)
    record.task, record.model = label, model or None
    return RequestOptions(timeout, _priority(request), client, label, record, model)


def wants_job(request: IRequest) -> bool:
    """
    Return whether the client prefers a job whose answer it fetches later.

    It says so with ``Prefer: respond-async`` (RFC 7240).
    """
    return _ASYNC.search(header(request, "Prefer") or "") is not None


def requested_agent(request: IRequest) -> str | None:
    """
    Return the agent that ``X-Agent`` names, or None without that header.
    """
    return header(request, "X-Agent")


def requested_model(request: IRequest) -> str | None:
    """
    Return the model that ``X-Model`` names, or None without that header.
    """
    return header(request, "X-Model")


def may_choose(group: AgentGroup, model: str) -> bool:
    """
    Return whether clients may choose `model` of the agent of `group`.
    """
    # A response header names it.
    return _MODEL.fullmatch(model) is not None and group.allows_model(model)


def model_names(groups: Iterable[AgentGroup]) -> tuple[str, ...]:
    """
    Return the models that clients may choose, as ``AGENT/MODEL``.

    An agent names its models when its first session has started.
    """
    return tuple(
        f"{group.name}/{name}"
        for group in groups
        for name in group.models()
        if may_choose(group, name)
    )


def check_model(group: AgentGroup, model: str, field: str) -> None:
    """
    Check that clients may choose `model` of the agent of `group`.

    Args:
        group: The agent that is to answer.
        model: The name of the model.
        field: The header or the field that named it.

    Raises:
        UnknownModel: If they may not.
    """
    if not may_choose(group, model):
        raise UnknownModel(field, model, group.name)


def queried_agent(request: IRequest) -> str | None:
    """
    Return the agent that ``?agent=NAME`` names, or None, which stands for all agents.

    Raises:
        InvalidInput: The query has ``agent`` more than once.
    """
    names = request.args.get(b"agent", [])
    if len(names) > 1:
        raise InvalidInput("agent", "agent must appear only once in the query")
    return names[0].decode("utf-8", "replace") if names else None


def wants_raw(request: IRequest) -> bool:
    """
    Return whether ``?raw=1`` asks for the agent's own text instead of the parsed answer.

    Raises:
        InvalidInput: ``raw`` is neither 0 nor 1, or appears more than once.
    """
    values: list[bytes] = request.args.get(b"raw", [b"0"])
    if values not in ([b"0"], [b"1"]):
        raise InvalidInput("raw", "raw must be 0 or 1, and appear only once")
    return values == [b"1"]


def _timeout(request: IRequest) -> float | None:
    name = "X-Request-Timeout"
    text = header(request, name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidInput(name, f"{name} must be a positive number of seconds")
    return seconds


def _priority(request: IRequest) -> int:
    name = "X-Priority"
    text = header(request, name)
    if text is None:
        return DEFAULT_PRIORITY
    if not re.fullmatch("[0-9]", text):
        raise InvalidInput(
            name, f"{name} must be a digit from {MIN_PRIORITY} (least urgent) to {MAX_PRIORITY}"
        )
    return int(text)


def header(request: IRequest, name: str) -> str | None:
    """
    Return the value of the header `name` without surrounding white space, or None.

    It is decoded as Latin-1, so that every sequence of bytes is accepted.
    """
    value = request.getHeader(name.encode())
    return None if value is None else value.decode("latin-1").strip()


def page_limit(request: IRequest) -> int:
    """
    Return the number of entries that a page may have, from the parameter ``limit``.

    Raises:
        InvalidInput: It is not a number within the limits.
    """
    text = request.args.get(b"limit", [b"%d" % DEFAULT_LIMIT])[0]
    if not re.fullmatch(rb"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInput("limit", f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)
