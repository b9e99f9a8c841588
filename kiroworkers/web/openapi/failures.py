"""
Every code that a failure can have, by the status that it comes with.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiroworkers.conversations.failures import FAILURE_KINDS
from kiroworkers.errors import AgentRefused, AgentUnavailable
from kiroworkers.web.errors import STATUS

#: Those that no `WorkError` has.
_OF_HTTP: Mapping[int, tuple[str, ...]] = {
    400: ("invalid_json", "bad_request", "bad_host", "bad_path"),
    401: ("no_token", "wrong_token"),
    403: ("wrong_scope", "operators_only", "wrong_host", "wrong_origin"),
    404: ("not_found", "unknown_job", "unknown_worker", "model_not_found"),
    405: ("wrong_method",),
    408: ("too_slow",),
    413: ("too_large",),
    414: ("path_too_long",),
    415: ("not_json",),
    429: ("rate_limited",),
    431: ("headers_too_large",),
    500: ("fault",),
    503: ("too_many_connections",),
}

#: What each of the statuses means.
MEANING: Mapping[int, str] = {
    400: "Something in the request is wrong, and `field` says where.",
    401: "The request needs a token that is known here.",
    403: "The request may not do this, or comes from where it may not.",
    404: "There is no such thing.",
    405: "The path takes another method.",
    408: "The request came too slowly.",
    409: "The key was used for another request.",
    413: "The body, or the prompt that it makes, is too large.",
    414: "The path is too long.",
    415: "The body does not say that it is JSON.",
    429: "Too many requests: ask again after `Retry-After` seconds.",
    431: "The headers are too large, or too many.",
    500: "The server has a fault, which its log tells.",
    502: "The agent gave no answer that fits, or lost it.",
    503: "Nobody can answer now: ask again after `Retry-After` seconds.",
    504: "The answer did not come in time.",
}


def codes() -> dict[int, tuple[str, ...]]:
    """
    The codes of every status.
    """
    found: dict[int, list[str]] = {}
    for kind, (status, code) in STATUS.items():
        # The kinds of trouble are codes of their own.
        more = FAILURE_KINDS if issubclass(kind, AgentUnavailable | AgentRefused) else ()
        found.setdefault(status, []).extend((code, *more))
    for status, others in _OF_HTTP.items():
        found.setdefault(status, []).extend(others)
    return {status: tuple(dict.fromkeys(each)) for status, each in sorted(found.items())}
