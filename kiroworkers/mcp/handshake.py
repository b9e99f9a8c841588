"""
Read the parameters of ``initialize``.
"""

from __future__ import annotations

from kiroworkers.mcp.errors import invalid_params
from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.mcp.revisions import negotiated


def parse_initialize(message: Request) -> str:
    """
    Return the revision of the new session.

    Raises:
        McpError: A parameter is missing or has the wrong type.
    """
    version = message.params.get("protocolVersion")
    if not isinstance(version, str):
        field = "params.protocolVersion"
        raise invalid_params(field, f"{field} must be a string")
    if not isinstance(message.params.get("capabilities"), dict):
        field = "params.capabilities"
        raise invalid_params(field, f"{field} must be an object")
    return negotiated(version)
