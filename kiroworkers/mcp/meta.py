"""
Read what each request says about itself and its client, in ``params._meta``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from kiroworkers.mcp.errors import invalid_params
from kiroworkers.mcp.jsonrpc import Notification, Request, is_request_id

#: Identifies the request in notifications of its progress.
ProgressToken: TypeAlias = str | int

#: The members of the stateless revision.
PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


def declared_revision(message: Request | Notification) -> Any:
    """
    Return what `message` says about its revision, whatever its type; None if it says nothing.
    """
    meta = message.params.get("_meta")
    return meta.get(PROTOCOL_VERSION) if isinstance(meta, dict) else None


def client_capabilities(message: Request) -> Mapping[str, Any]:
    """
    Return the capabilities of the client that has sent a `message` of the stateless revision.

    Raises:
        McpError: The message does not have what the revision demands.
    """
    meta = message.params.get("_meta")
    if not isinstance(meta, dict):
        raise invalid_params("params._meta", "params._meta must be an object")
    for name in (PROTOCOL_VERSION, CLIENT_CAPABILITIES):
        if name not in meta:
            raise invalid_params(f"params._meta.{name}", f"params._meta must have {name}")
    capabilities = meta[CLIENT_CAPABILITIES]
    if not isinstance(capabilities, dict):
        field = f"params._meta.{CLIENT_CAPABILITIES}"
        raise invalid_params(field, f"{field} must be an object")
    return capabilities


def extensions(capabilities: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Return the extensions that `capabilities` declare, with their settings.
    """
    declared = capabilities.get("extensions")
    return declared if isinstance(declared, dict) else {}


def progress_token(message: Request) -> ProgressToken | None:
    """
    Return the token with which the client asks for notifications of progress, or None.

    Raises:
        McpError: It is neither a string nor a whole number.
    """
    meta = message.params.get("_meta")
    if meta is None:
        return None
    if not isinstance(meta, dict):
        raise invalid_params("params._meta", "params._meta must be an object")
    token = meta.get("progressToken")
    if token is None or is_request_id(token):
        return token
    field = "params._meta.progressToken"
    raise invalid_params(field, f"{field} must be a string or a whole number")
