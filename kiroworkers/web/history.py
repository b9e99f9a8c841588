"""
Serve the request history: a client sees its own requests, and an operator all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode, InvalidInput
from kiroworkers.telemetry.request_history import (
    OUTCOMES,
    HistoryEntry,
    HistoryFilter,
    HistoryGap,
    RequestHistory,
)
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import HttpError, respond
from kiroworkers.web.request_options import page_limit
from kiroworkers.web.views import milliseconds

#: The largest number of a request: it has up to 15 digits.
MAX_BEFORE = 10**15 - 1


class HistoryRoutes:
    """
    Handle requests for the request history.

    Args:
        history: The history.
        authorizer: Decides who is an operator.
        recordings_of: Returns the names of the recordings that a request is in.
    """

    def __init__(
        self,
        history: RequestHistory,
        authorizer: Authorizer,
        recordings_of: Callable[[str], Sequence[str]],
    ) -> None:
        self._history = history
        self._authorizer = authorizer
        self._recordings_of = recordings_of

    def list_page(self, request: IRequest, client: str) -> bytes:
        """
        Respond with a page of requests, newest first, without their events.

        Raises:
            InvalidInput: A parameter is invalid.
        """
        limit, before = page_limit(request), _before(request)
        parameters = {name: _parameter(request, name) for name in ("worker", "task", "outcome")}
        if parameters["outcome"] not in (None, *OUTCOMES):
            raise InvalidInput("outcome", f"outcome must be one of {', '.join(OUTCOMES)}")
        chosen = HistoryFilter(client=self._owner(request, client), **parameters)
        entries = [*islice(self._history.find(chosen, before), limit + 1)]
        page = entries[:limit]
        next_path = None
        if len(entries) > limit:
            query = {"limit": limit, "before": page[-1].number, **parameters}
            given = {name: value for name, value in query.items() if value is not None}
            next_path = f"/requests?{urlencode(given)}"
        return respond(
            request,
            200,
            {
                "requests": [self._history.summary(entry) for entry in page],
                "next": next_path,
                "dropped": self._history.dropped,
                "gaps": [*map(_gap_json, self._history.gaps)],
            },
        )

    def retrieve(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Respond with the newest request that has the identifier `id`, and with its events.

        Raises:
            HttpError: There is none, or only other clients' (404 in both cases).
            InvalidInput: A parameter is invalid.
        """
        chosen = HistoryFilter(client=self._owner(request, client), id=id)
        entries = [*islice(self._history.find(chosen, _before(request)), 2)]
        if not entries:
            raise HttpError(ErrorCode.UNKNOWN_REQUEST, "Request not found")
        body = entry_json(self._history, entries[0])
        if self._authorizer.is_operator(request):
            body["recordings"] = [*self._recordings_of(id)]
        body["older"] = None
        if len(entries) > 1:
            body["older"] = f"/requests/{quote(id, safe='')}?before={entries[0].number}"
        return respond(request, 200, body)

    def _owner(self, request: IRequest, client: str) -> str | None:
        """
        Return the client whose requests may be shown; None for all clients.
        """
        return None if self._authorizer.is_operator(request) else client


def entry_json(history: RequestHistory, entry: HistoryEntry) -> dict[str, Any]:
    """
    Return a request with its events, and what is missing of them.
    """
    return {**history.summary(entry), "events": entry.events(), "gaps": entry.gaps()}


def _gap_json(gap: HistoryGap) -> dict[str, Any]:
    return {
        "reason": gap.reason,
        "begins": None if gap.begins is None else milliseconds(gap.begins),
        "ends": milliseconds(gap.ends),
    }


def _parameter(request: IRequest, name: str) -> str | None:
    values = request.args.get(name.encode())
    return None if values is None else str(values[0].decode("utf-8", "replace"))


def _before(request: IRequest) -> int | None:
    text = _parameter(request, "before")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise InvalidInput("before", "before must be a number from the path of a page")
    return int(text)
