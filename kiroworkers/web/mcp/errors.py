"""
Report failures of HTTP as JSON-RPC errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: JSON-RPC 2.0, section 5.1: what was sent is not JSON, not a request, or the server failed.
_PARSE_ERROR, _INVALID_REQUEST, _INTERNAL_ERROR = -32700, -32600, -32603


def json_rpc_error(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert the error `body` that other paths send to a JSON-RPC error without a request's id.

    Args:
        status: HTTP status of the failure.
        body: The error, with ``error`` and ``code``; the code and further fields are its data.
    """
    if body["code"] == "invalid_json":
        code = _PARSE_ERROR
    else:
        code = _INTERNAL_ERROR if status >= 500 else _INVALID_REQUEST
    data = {name: value for name, value in body.items() if name != "error"}
    error = {"code": code, "message": body["error"], "data": data}
    return {"jsonrpc": "2.0", "id": None, "error": error}
