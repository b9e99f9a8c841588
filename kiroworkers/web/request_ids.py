"""
Choose the identifier of a request, which stands in its response and in everything about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from secrets import token_hex
from typing import TypeAlias

from kiroworkers.trace_context import TraceContext

#: What a client may choose as the identifier of its request.
REQUEST_ID_PATTERN = r"[A-Za-z0-9._-]{1,128}"

_VALID = re.compile(REQUEST_ID_PATTERN)

#: Returns a new identifier, which has the form of a trace's.
NewId: TypeAlias = Callable[[], str]

new_request_id: NewId = partial(token_hex, 16)


def choose_request_id(given: str, trace: TraceContext | None, new_id: NewId) -> str:
    """
    Return the identifier of a request.

    Args:
        given: The client's X-Request-ID; empty if it sent none.
        trace: The trace that the request belongs to, if any.
        new_id: Makes an identifier if the client has sent none that can be used.
    """
    if _VALID.fullmatch(given):
        return given
    return new_id() if trace is None else trace.trace_id
