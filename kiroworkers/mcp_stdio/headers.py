"""
Make the headers of an HTTP request from the message that it sends.

Before 2026-07-28 a handshake gives a session its identifier and its revision.  Since then each
message names its revision, and the headers repeat what routes it: its method, and the name that
it is about.  ``Mcp-Param-`` headers are left out: no tool of kiroworkers asks for one.

Source: pages "Streamable HTTP" of 2025-11-25 and 2026-07-28, SEP-2243, and SEP-2663 for tasks.
"""

from __future__ import annotations

import base64
import re

from attrs import frozen

from kiroworkers.mcp_stdio.messages import Message

#: The parameter that the header ``Mcp-Name`` repeats, for each method that has one.
_NAMES = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ENCODED = re.compile(r"=\?base64\?.*\?=")


@frozen
class Session:
    """
    Hold what a handshake has agreed on.

    Attributes:
        id: The server's identifier of the session; None if it gave none.
        version: The revision.
    """

    id: str | None = None
    version: str | None = None


def headers_for(message: Message, session: Session | None) -> dict[str, str]:
    """
    Return the headers of the protocol for a request that sends `message`.

    Args:
        message: The message.
        session: The session, if there was a handshake.
    """
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    version = message.version
    if version is not None and message.method is not None:
        headers["MCP-Protocol-Version"] = encode_value(version)
        headers["Mcp-Method"] = encode_value(message.method)
        name = message.params.get(_NAMES.get(message.method, ""))
        if isinstance(name, str):
            headers["Mcp-Name"] = encode_value(name)
    elif session is not None and message.method != "initialize":
        headers |= session_headers(session)
    return headers


def session_headers(session: Session) -> dict[str, str]:
    """
    Return the headers that say which session a request belongs to.
    """
    headers = {"Mcp-Session-Id": session.id, "MCP-Protocol-Version": session.version}
    return {name: value for name, value in headers.items() if value is not None}


def encode_value(text: str) -> str:
    """
    Return `text` as the value of a header: in base64 if the value could change on its way.
    """
    if _PLAIN.fullmatch(text) and not _ENCODED.fullmatch(text):
        return text
    # A surrogate has no encoding; the server refuses the message for it.
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    return f"=?base64?{encoded}?="
