"""
Make the first request to an agent, and read its response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers import __version__
from kiroworkers.conversations.acp import jsonrpc, kiro
from kiroworkers.conversations.events import AgentFailure
from kiroworkers.errors import FailureKind

PROTOCOL_VERSION = 1

#: The parameters of the first request.
INITIALIZE: Mapping[str, Any] = {
    "protocolVersion": PROTOCOL_VERSION,
    # Without all of these, Kiro does not respond.
    "clientCapabilities": {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
    },
    "clientInfo": {"name": "kiroworkers", "version": __version__},
}


def version_failure(result: Mapping[str, Any]) -> AgentFailure | None:
    """
    Return a failure if the agent does not speak our version of the protocol.
    """
    version = result.get("protocolVersion")
    if version == PROTOCOL_VERSION:
        return None
    detail = f"the agent speaks ACP version {str(version)[:100]}, not {PROTOCOL_VERSION}"
    return AgentFailure(FailureKind.PROTOCOL, detail)


def ways_to_leave(result: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the requests that the agent offers to end a session, in the order to send them.

    Without the last one, the history of the session stays on the agent's disk.
    """
    match result:
        case {"agentCapabilities": {"sessionCapabilities": dict(offered)}}:
            names = (name for name in ("close", "delete") if isinstance(offered.get(name), dict))
            return tuple(f"session/{name}" for name in names)
    return ()


def accepts_images(result: Mapping[str, Any]) -> bool:
    """
    Return whether the agent says that a prompt may contain images.
    """
    match result:
        case {"agentCapabilities": {"promptCapabilities": {"image": True}}}:
            return True
    return False


def refusal(request: jsonrpc.Request) -> bytes:
    """
    Return the response to a request for a feature that we do not offer.
    """
    reason = f"kiroworkers does not support {request.method[:100]}"
    if request.method == kiro.GET_ACCESS_TOKEN:
        # Without a response, Kiro waits.  After an error, its turns fail because of an expired
        # token, which is reported as such.
        reason = "kiroworkers has no access token; Kiro uses its own with --auth-method cli"
    return jsonrpc.error(request.id, jsonrpc.METHOD_NOT_FOUND, reason)
