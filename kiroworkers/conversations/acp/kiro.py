"""
Read the messages that Kiro's engines v2 and v3 add to the protocol.

The names of engine v2's notifications begin with ``_kiro.dev/``.  Engine v3 sends some that
begin with ``_kiro/``, and ``session_info_update`` with a ``_meta.kiro``.  `read_notification`
turns both into facts, and ignores all others.  Sources: captures of Kiro 2.1 to 2.28, and
Kiro's own client.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from attrs import frozen

from kiroworkers.conversations.acp.texts import one_line
from kiroworkers.conversations.events import Notice, NoticeKind

#: The maximum number of characters that are reported of a text.
_MAX_TEXT = 500

#: The method of a request for the token of the login.
GET_ACCESS_TOKEN = "_kiro/auth/getAccessToken"

#: The whole text of a chunk of the answer if the service has stopped a tool.  No response
#: follows.
INTERRUPTED = "Tool uses were interrupted, waiting for the next user prompt"

#: The stop reasons in ``metadata`` that mean that an answer was filtered, although the response
#: may say ``end_turn``.
_FILTERED = {"content_filtered", "refusal"}

#: The largest number that is accepted as a share, a cost or a delay.
_MAX_NUMBER = 1e9

#: The maximum number of MCP servers whose state is read.
_MAX_SERVERS = 100

_RETRY = re.compile("retry", re.IGNORECASE)


@frozen
class Spent:
    """
    Report what the turn has cost so far.

    Attributes:
        credits: The credits; None if the message does not say.
        context_percent: How full the context is; None if the message does not say.
    """

    credits: float | None
    context_percent: float | None


@frozen
class Filtered:
    """
    Report whether the service has filtered the answer.

    Attributes:
        detail: Why; empty if the answer was not filtered.
    """

    detail: str


@frozen
class ServiceError:
    """
    Report an error of the agent's service.  The turn may go on, or fail with it.

    Attributes:
        text: The text of the error.
        rate_limit: Whether the agent calls it a rate limit.
        retry_after: The seconds to wait; None if the agent does not say.
    """

    text: str
    rate_limit: bool
    retry_after: int | None = None


@frozen
class TurnFailed:
    """
    Report whether the turn, which is about to end, has failed.
    """

    failed: bool


@frozen
class StreamDiscarded:
    """
    Report that the answer of this turn starts again.
    """


@frozen
class StreamRetried:
    """
    Report that a part of the answer may be sent a second time.
    """

    notice: Notice


@frozen
class CompactionFailed:
    """
    Report that the agent could not summarize the conversation.  Perhaps no response follows.

    Attributes:
        reason: Why, in the agent's words; empty if it does not say.
    """

    reason: str


@frozen
class ConversationCleared:
    """
    Report that the agent has forgotten the conversation.
    """


@frozen
class AgentMissing:
    """
    Report that the requested configuration does not exist, so that another one runs.
    """

    detail: str


@frozen
class McpProblem:
    """
    Report a problem of one of the user's MCP servers.

    Attributes:
        detail: A description of the problem.
        waits: Whether a turn may wait until somebody has solved the problem.
    """

    detail: str
    waits: bool


Fact: TypeAlias = (
    Spent
    | Filtered
    | ServiceError
    | TurnFailed
    | StreamDiscarded
    | StreamRetried
    | CompactionFailed
    | ConversationCleared
    | AgentMissing
    | McpProblem
    | Notice
)


def is_agent_initiated(update: Mapping[str, Any]) -> bool:
    """
    Return whether an update belongs to a turn that the agent began by itself.
    """
    return _meta(update).get("agentInitiated") is True


def begins_turn(update: Mapping[str, Any]) -> bool:
    """
    Return whether an update reports that a turn begins.
    """
    return _meta(update).get("kind") == "turn_start"


def replay_id(update: Mapping[str, Any]) -> str:
    """
    Return the identifier of the piece of text that a chunk is part of; empty if it has none.
    """
    id = _meta(update).get("replayId")
    return id if isinstance(id, str) else ""


def read_notification(method: str, params: Mapping[str, Any]) -> Iterator[Fact]:
    """
    Yield the facts in a notification.
    """
    match method.removeprefix("_kiro.dev/"), params:
        case "session/update", {"update": {"sessionUpdate": "session_info_update"} as update}:
            yield from _read_info(_meta(update))
        case "session/update", {"update": {"sessionUpdate": str(kind)} as update} if (
            method != "session/update"
        ):
            yield from _read_update(kind, update)
        case "metadata", _:
            yield from _read_metadata(params)
        case "error/rate_limit", {"message": str(message)}:
            yield ServiceError(one_line(message, _MAX_TEXT), rate_limit=True)
        case "compaction/status", {"status": {"type": str(status), **more}}:
            yield from _read_compaction(status, more.get("error"))
        case "clear/status", _:
            yield ConversationCleared()
        case "mcp/server_init_failure", {"serverName": str(name), "error": str(error)}:
            yield McpProblem(one_line(f"MCP server {name}: {error}", _MAX_TEXT), waits=False)
        case "mcp/oauth_request", {"serverName": str(name)}:
            yield _mcp_login(name)
        case "agent/not_found", _:
            yield _agent_missing(params)
        case _:
            yield from _read_v3(method.removeprefix("_kiro/"), params)


def _read_v3(name: str, params: Mapping[str, Any]) -> Iterator[Fact]:
    match name, params:
        case "error/rate_limit", {"message": str(message)}:
            delay = _number(params.get("retryAfterMs"))
            yield ServiceError(
                one_line(message, _MAX_TEXT),
                rate_limit=True,
                retry_after=None if delay is None else math.ceil(delay / 1000),
            )
        case "system/notify", {"level": "warning" | "error", "message": str(message)}:
            # It names no session.
            text = one_line(message, _MAX_TEXT)
            if _RETRY.search(text):
                yield StreamRetried(Notice("retry", text))
            else:
                yield Notice("stall", text)
        case "mcp/status", {"servers": [*servers]}:
            for server in servers[:_MAX_SERVERS]:
                match server:
                    case {"name": str(server_name), "authorizationUrl": str()}:
                        yield _mcp_login(server_name)
        case "customAgent/not_found" | "customAgent/config_error", _:
            yield _agent_missing(params)


def _read_update(kind: str, update: Mapping[str, Any]) -> Iterator[Fact]:
    """
    Yield the facts in an update that engine v2 adds to the protocol.
    """
    match kind, update:
        case "stream_discarded", _:
            yield StreamDiscarded()
        case "stream_stall_notice", _:
            yield _notice("stall", update, "the agent's service is silent")
        case "retry_warning", _:
            yield _notice("retry", update, "the agent asks its service again")
        case "model_fallback", {"from": str(model), "to": str(other)}:
            text = f"the model {model} is not available; {other} answers instead"
            yield Notice("model_fallback", one_line(text, _MAX_TEXT))
        case "model_fallback", {"from": str(model)}:
            text = f"the model {model} is not available, and no other model answers"
            yield Notice("model_fallback", one_line(text, _MAX_TEXT))


def _read_info(meta: Mapping[str, Any]) -> Iterator[Fact]:
    """
    Yield the facts in a ``session_info_update`` of engine v3.
    """
    match meta:
        case {"kind": "context_usage"}:
            yield Spent(None, _percent(meta.get("usagePercentage")))
        case {"kind": "turn_completion"}:
            yield Spent(_sum(meta.get("promptTurnSummaries"), "usage"), None)
            yield TurnFailed(meta.get("status") == "failed")
        case {"kind": "display_error", "message": str(message)}:
            # An error of an MCP server also appears in turns that succeed.
            if meta.get("errorType") != "mcp_connection_error":
                kind = meta.get("errorType")
                text = f"{message} ({kind})" if isinstance(kind, str) else message
                yield ServiceError(one_line(text, _MAX_TEXT), rate_limit=False)
        case {"kind": "summarization_started"}:
            yield from _read_compaction("started", None)
        case {"kind": "summarization_completed"}:
            yield from _read_compaction("completed", None)
        case {"kind": "summarization_failed"}:
            reason = meta.get("reason")
            text = f": {reason}" if isinstance(reason, str) else ""
            yield Notice("compaction", one_line(f"{_NOT_SUMMARIZED}{text}", _MAX_TEXT))


_NOT_SUMMARIZED = "the agent could not summarize the conversation"

_COMPACTION: Mapping[str, str] = {
    "started": "the agent summarizes the conversation",
    "completed": "the agent has summarized the conversation",
    "unsummarized_dropped": "the agent has dropped the beginning of the conversation",
}


def _read_compaction(status: str, error: Any) -> Iterator[Fact]:
    if status == "failed":
        yield CompactionFailed(one_line(error, _MAX_TEXT) if isinstance(error, str) else "")
    elif status in _COMPACTION:
        yield Notice("compaction", _COMPACTION[status])


def _read_metadata(params: Mapping[str, Any]) -> Iterator[Fact]:
    yield Spent(
        _sum(params.get("meteringUsage"), "value"), _percent(params.get("contextUsagePercentage"))
    )
    match params:
        case {"stopReason": str(reason)}:
            filtered = reason.lower() in _FILTERED
        case {"refusal": dict()}:
            filtered = True
        case _:
            return
    match params:
        case {"refusal": {"category": str(category)}}:
            why = f" ({one_line(category, _MAX_TEXT)})"
        case _:
            why = ""
    yield Filtered(f"the answer was filtered{why}" if filtered else "")


def _notice(kind: NoticeKind, update: Mapping[str, Any], default: str) -> Notice:
    message = update.get("message")
    return Notice(kind, one_line(message if isinstance(message, str) else default, _MAX_TEXT))


def _mcp_login(server: str) -> McpProblem:
    # The login's address may hold secrets, so it is not shown.
    text = f"the MCP server {server} needs a login; log in to it with Kiro"
    return McpProblem(one_line(text, _MAX_TEXT), waits=True)


def _agent_missing(params: Mapping[str, Any]) -> AgentMissing:
    requested, fallback = (params.get(name) for name in ("requestedAgent", "fallbackAgent"))
    missing = requested if isinstance(requested, str) else "that was requested"
    other = fallback if isinstance(fallback, str) else "another one"
    text = f"the agent configuration {missing} does not exist; {other} runs instead"
    return AgentMissing(one_line(text, _MAX_TEXT))


def _meta(update: Mapping[str, Any]) -> Mapping[str, Any]:
    match update:
        case {"_meta": {"kiro": dict() as meta}}:
            return meta
    return {}


def _number(value: Any) -> float | None:
    """
    Return `value` as a float if it is a number from 0 to the maximum; None otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MAX_NUMBER else None


def _percent(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else min(number, 100.0)


def _sum(entries: Any, name: str) -> float | None:
    """
    Return the sum of `name` in all entries whose unit is credits; None if there is none.

    Each call of a model has its own entry.
    """
    values = [
        number
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
        and entry.get("unit") == "credit"
        and (number := _number(entry.get(name))) is not None
    ]
    return sum(values) if values else None
