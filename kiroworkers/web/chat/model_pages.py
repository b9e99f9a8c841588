"""
List models in the format of Anthropic's API, page by page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kiroworkers.errors import InvalidInput

#: The number of models on a page: by default, and at most.
DEFAULT_LIMIT, MAX_LIMIT = 20, 1000


def anthropic_model(name: str, created: float) -> dict[str, Any]:
    """
    Return the JSON of the model `name`.

    Args:
        name: The name of the model.
        created: When the server started, in seconds since the epoch.
    """
    time = datetime.fromtimestamp(created, UTC)
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }


def model_page(
    names: Sequence[str], created: float, query: Mapping[bytes, Sequence[bytes]]
) -> dict[str, Any]:
    """
    Return the JSON of the page of models that a request asks for.

    Args:
        names: The names of all models.
        created: When the server started, in seconds since the epoch.
        query: The parameters of the request: ``limit``, ``after_id`` and ``before_id``.

    Raises:
        InvalidInput: A parameter is invalid.
    """
    limit = _limit(query)
    after, before = (_position(names, query, field) for field in ("after_id", "before_id"))
    start = 0 if after is None else after + 1
    if before is None:
        end = min(start + limit, len(names))
        has_more = end < len(names)
    else:
        end = before
        has_more = end - limit > start
        start = max(start, end - limit)
    page = names[start:end]
    return {
        "data": [anthropic_model(name, created) for name in page],
        "has_more": has_more,
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


def _limit(query: Mapping[bytes, Sequence[bytes]]) -> int:
    text = _value(query, "limit") or str(DEFAULT_LIMIT)
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInput("limit", f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _position(
    names: Sequence[str], query: Mapping[bytes, Sequence[bytes]], field: str
) -> int | None:
    """
    Return the position in `names` of the one in the parameter `field`; None without it.
    """
    name = _value(query, field)
    if not name:
        return None
    if name not in names:
        raise InvalidInput(field, f"{field} must be the id of a model")
    return names.index(name)


def _value(query: Mapping[bytes, Sequence[bytes]], name: str) -> str:
    """
    Return the first value of the parameter `name`; empty without one.
    """
    return query.get(name.encode(), [b""])[0].decode("utf-8", "replace")
