"""
Describe the messages of MCP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.mcp.meta import CLIENT_CAPABILITIES, PROTOCOL_VERSION
from kiroworkers.mcp.revisions import STATELESS
from kiroworkers.web.openapi.responses import EVENT_STREAM, JSON
from kiroworkers.web.openapi.schemas import (
    Schema,
    any_object,
    constant,
    integer,
    record,
    ref,
    string,
)
from kiroworkers.web.routing import ResponseDoc

_VERSION = constant("Always `2.0`.", "2.0")
_ID: Schema = {
    "description": "What the response repeats.",
    "type": ["string", "integer"],
}

#: The schemas of messages, by name.
MCP_SCHEMAS: Mapping[str, Any] = {
    "JsonRpcMessage": record(
        "A request of JSON-RPC, or a notification if it has no `id`.",
        ("id", "params"),
        jsonrpc=_VERSION,
        id=_ID,
        method=string("Name of the method, such as `tools/call`."),
        params=any_object("Parameters, as the revision of MCP defines them."),
    ),
    "JsonRpcResponse": record(
        "The response to a request of JSON-RPC.",
        jsonrpc=_VERSION,
        id=_ID,
        result=any_object("The result, as the revision of MCP defines it."),
    ),
    "JsonRpcError": {
        "description": "Why a request of MCP failed.",
        "type": "object",
        "required": ["error"],
        "properties": {
            "jsonrpc": _VERSION,
            "id": {
                "description": "The `id` of the request; null if it is not known.",
                "type": ["string", "integer", "null"],
            },
            "error": record(
                "The error.",
                code=integer("The code of JSON-RPC or MCP."),
                message=string("One sentence for people. Its wording may change."),
                data={
                    "description": "Details, and the code of the failure.",
                    "type": "object",
                    "required": ["code"],
                    "properties": {
                        "code": string("One word for programs. It does not change."),
                        "requestId": string("Identifier of the request."),
                    },
                },
            ),
        },
    },
}

#: A call of a tool.
MCP_EXAMPLE: Mapping[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {"_meta": {PROTOCOL_VERSION: STATELESS, CLIENT_CAPABILITIES: {}}},
}

#: An example of the response, by the name of its schema.
MCP_EXAMPLES: Mapping[str, Any] = {
    "JsonRpcResponse": {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "resultType": "complete",
            "tools": [{"name": "generate-story", "inputSchema": {"type": "object"}}],
            "ttlMs": 60_000,
            "cacheScope": "private",
        },
    }
}

#: The response to a request of MCP.
MCP_RESPONSE = ResponseDoc(
    "The response to a request.",
    {
        JSON: ref("JsonRpcResponse"),
        EVENT_STREAM: {
            "type": "string",
            "description": "Server-sent events, if the request has a `progressToken`: "
            "notifications, then the response.",
        },
    },
    ("Mcp-Session-Id",),
)

#: The response to a notification.
MCP_ACCEPTED = ResponseDoc("The message was a notification.")
