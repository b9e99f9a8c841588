"""
Say what the server is and what it can do: the results of ``initialize`` and ``server/discover``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers import __version__
from kiroworkers.mcp.meta import SERVER_INFO
from kiroworkers.mcp.revisions import SUPPORTED

#: What identifies the server.
IMPLEMENTATION = {"name": "kiroworkers", "title": "kiroworkers", "version": __version__}

#: How long a client may keep what the server says of itself and of its tools, in milliseconds.
#: Tasks may change while the server runs.
_FRESH = 60_000

_INSTRUCTIONS = (
    "Each tool is a task that an AI agent does: it takes a JSON object and returns a JSON object "
    "that matches the tool's output schema. A call takes from seconds to minutes. Put everything "
    "that the agent needs to know into the arguments, because it remembers nothing of other calls."
)


def capabilities(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the server can do.

    Args:
        extensions: The settings of its extensions by name.
    """
    tools: dict[str, Any] = {"tools": {}}
    return {**tools, "extensions": {**extensions}} if extensions else tools


def initialize_result(revision: str) -> dict[str, Any]:
    """
    Return the result of the handshake, with the `revision` that was chosen.
    """
    return {
        "protocolVersion": revision,
        "capabilities": capabilities({}),
        "serverInfo": IMPLEMENTATION,
        "instructions": _INSTRUCTIONS,
    }


def discover_result(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the result of ``server/discover``.

    Args:
        extensions: The settings of the server's extensions by name.
    """
    return cacheable(
        {
            "supportedVersions": [*SUPPORTED],
            "capabilities": capabilities(extensions),
            "instructions": _INSTRUCTIONS,
        }
    )


def cacheable(result: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return `result` with how long, and for whom, a client of the stateless revision may keep it.
    """
    return {**result, "ttlMs": _FRESH, "cacheScope": "private"}


def complete(result: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return `result` with what each result of the stateless revision has.
    """
    meta = {SERVER_INFO: IMPLEMENTATION, **result.get("_meta", {})}
    return {"resultType": "complete", **result, "_meta": meta}
