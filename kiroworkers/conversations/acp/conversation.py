"""
Talk to an agent over the Agent Client Protocol (ACP), version 1: JSON-RPC over pipes.

Nothing is drawn and nothing is guessed: a prompt is a request, and its response is the
end of the turn.  Each conversation is an ACP session, which knows nothing of the sessions
before it, so starting a new session makes the agent forget.  Source of the messages:
agentclientprotocol.com, schema 1.19.

The agent may also send requests.  It may ask whether it may use a tool, which is reported
as `NeedsApproval`.  A request for a feature that this client does not offer is answered
with an error, so that the agent need not wait.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from io import StringIO
from typing import Any

from kiroworkers import __version__
from kiroworkers.conversations.acp import jsonrpc
from kiroworkers.conversations.conversation import Conversation
from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    LateOutput,
    NeedsApproval,
    NotCleared,
    Overflowed,
    Ready,
    Submitted,
    TextChunk,
    Working,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.transcript import plain_text
from kiroworkers.errors import FailureKind

PROTOCOL_VERSION = 1

#: ACP's error code for an agent that needs a login first.
_LOGIN_REQUIRED = -32000

#: The bytes that are kept of standard error and of lines that are not messages.
_MAX_STDERR = 8192

#: The maximum number of characters of a tool's title that are reported.
_MAX_TITLE_LENGTH = 200

#: The maximum number of bytes that JSON needs for one byte of UTF-8 text (``\u00e9`` is 6
#: for 2), and an allowance in bytes for the message around the text.
_MAX_ESCAPE_FACTOR = 3
_MAX_ENVELOPE = 64 * 1024

#: The maximum length of a message, in bytes.
_MAX_MESSAGE = 16 * 1024 * 1024

#: The maximum number of permission requests that wait for an answer at a time.
_MAX_PERMISSION_REQUESTS = 100

#: An update with text counts towards the turn's size with the bytes of its text, or with
#: its whole size divided by this number if that is more.
_ENVELOPE_FACTOR = 256

#: The maximum number of characters that are read of an error, and reported of a failure.
_MAX_ERROR_LENGTH = 2000
_MAX_DETAIL_LENGTH = 300

_SURROGATE = re.compile("[\ud800-\udfff]")

#: The stop reasons that mean that there is no answer, and how each is reported.
_STOP_REASONS: Mapping[FailureKind, str] = {
    FailureKind.MAX_TOKENS: "the model reached its maximum answer length",
    FailureKind.MAX_TURN_REQUESTS: "the agent reached its limit of model requests in one turn",
    FailureKind.REFUSAL: "the model refused to answer",
    FailureKind.CANCELLED: "the agent cancelled the turn",
}


#: Updates that carry output of a turn. The others (available commands, modes, usage)
#: may be sent at any time.
_OUTPUT_UPDATES = {
    "agent_message_chunk",
    "agent_thought_chunk",
    "tool_call",
    "tool_call_update",
    "plan",
}


class _RequestKind(Enum):
    """
    Name what one of our requests is for.
    """

    INITIALIZE = auto()
    NEW_SESSION = auto()
    CLEAR = auto()
    PROMPT = auto()
    CLOSE_SESSION = auto()


class AcpConversation(Conversation):
    """
    Follow one agent that speaks ACP.

    Args:
        dialect: The agent's dialect.
        folder: The agent's working directory, as an absolute path.
        max_output: The maximum output of a turn, in bytes.
    """

    completion = "response"
    source = "protocol"
    interrupt_can_race = False
    sends_late = True
    slow_clear = True

    def __init__(self, dialect: Dialect, folder: str, max_output: int) -> None:
        self._dialect = dialect
        self._folder = folder
        self._max_output = max_output
        self._reader = jsonrpc.Reader(
            min(_MAX_ESCAPE_FACTOR * max_output + _MAX_ENVELOPE, _MAX_MESSAGE)
        )
        self._last_id = 0
        self._pending_requests: dict[int | str, _RequestKind] = {}
        self._session = ""
        self._used_sessions: set[str] = set()
        self._at_prompt = False
        self._prompted = False
        self._can_close_sessions = False
        self._data_to_send = self._request(
            _RequestKind.INITIALIZE,
            "initialize",
            {
                "protocolVersion": PROTOCOL_VERSION,
                "clientCapabilities": {
                    "fs": {"readTextFile": False, "writeTextFile": False},
                    "terminal": False,
                },
                "clientInfo": {"name": "kiroworkers", "version": __version__},
            },
        )
        self._submitted = True
        # Whether the output of the running turn is still wanted.
        self._answering = False
        self._text = StringIO()
        self._size = 0
        self._permission_requests: deque[jsonrpc.Request] = deque()
        self._failure: AgentFailure | None = None
        self._stderr = bytearray()

    @property
    def at_prompt(self) -> bool:
        """
        Return whether there is a session in which no turn is running.
        """
        return self._at_prompt

    @property
    def can_clear(self) -> bool:
        """
        Return True: every agent can make a new session.
        """
        return True

    @property
    def recent_output(self) -> str:
        """
        Return the end of standard error and of the lines that were not messages.
        """
        return plain_text(bytes(self._stderr[-_MAX_STDERR:])).strip()

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that ended the last request, or None.

        Before there is a session it may also come from standard error, where an agent
        that cannot start says why.
        """
        if self._failure is None and not self._session:
            return find_failure(self._dialect.failures, self.recent_output)
        return self._failure

    # What to write.

    def data_to_send(self) -> bytes:
        """
        Return the requests and responses that have become due since the last call.
        """
        data, self._data_to_send = self._data_to_send, b""
        return data

    def ask(self, prompt: str) -> bytes:
        """
        Return the request that submits `prompt`.  Call it only at the prompt.
        """
        assert self._at_prompt, "a session takes one prompt at a time"
        self._start_request()
        self._submitted, self._answering = False, True
        self._prompted = True
        content = [{"type": "text", "text": prompt}]
        return self._request(
            _RequestKind.PROMPT, "session/prompt", {"sessionId": self._session, "prompt": content}
        )

    def clear(self) -> bytes:
        """
        Return the request for a new session.  Call it only at the prompt.
        """
        assert self._at_prompt, "a session is left only between two turns"
        self._start_request()
        return self._new_session(_RequestKind.CLEAR)

    def deny(self) -> bytes:
        """
        Return the response that denies the oldest permission request.
        """
        return self._answer_permission("reject_once", "reject_always")

    def allow(self) -> bytes:
        """
        Return the response that grants the oldest permission request, this one time.
        """
        # Never allow_always.
        return self._answer_permission("allow_once")

    def interrupt(self) -> bytes:
        """
        Return the messages that cancel the running turn; empty if none is running.
        """
        self._answering = False
        self._discard_output()
        if self._at_prompt:
            return b""
        return self._cancel_permissions() + jsonrpc.notification(
            "session/cancel", {"sessionId": self._session}
        )

    # What was read.

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in the messages that end in `data`.
        """
        events: list[Event] = []
        for message, size in self._reader.feed(data):
            match message:
                case jsonrpc.Notification("session/update", params):
                    self._handle_update(params, size, events)
                    continue
                case jsonrpc.Request():
                    self._handle_request(message, events)
                case jsonrpc.Response(id) if (kind := self._pop_request(id)) is not None:
                    self._handle_response(kind, message, events)
                    continue
                case jsonrpc.Garbage(start):
                    self.feed_stderr(start + b"\n")
            self._count(size, events)
        return events

    def feed_stderr(self, data: bytes) -> None:
        """
        Keep the end of `data`, for `recent_output` and `failure`.
        """
        self._stderr += data
        if len(self._stderr) > 2 * _MAX_STDERR:
            del self._stderr[:-_MAX_STDERR]

    def _handle_update(self, params: Mapping[str, Any], size: int, events: list[Event]) -> None:
        """
        Handle an update of the turn.

        Drop updates for an abandoned session; report output that follows the end of its
        turn.
        """
        update = params.get("update")
        if not self._answering or params.get("sessionId") != self._session:
            if self._is_late(params):
                text = _late_text(update)
                match events[-1:]:
                    case [LateOutput(earlier)]:
                        # One event for each read: each is appended to a long text.
                        events[-1] = LateOutput(earlier + text)
                    case _:
                        events.append(LateOutput(text))
            self._count(size, events)
            return
        if not self._submitted:
            self._submitted = True
            events.append(Submitted())
        match update:
            case {"sessionUpdate": str(kind), "content": {"type": "text", "text": str(text)}}:
                if kind == "agent_message_chunk":
                    self._text.write(text)
                    events.append(TextChunk(text))
                length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                size = max(length, size // _ENVELOPE_FACTOR)
            case {"sessionUpdate": "tool_call", "title": str(title)}:
                events.append(Working(_printable(title, _MAX_TITLE_LENGTH)))
        self._count(size, events)

    def _is_late(self, params: Mapping[str, Any]) -> bool:
        """
        Return whether an update is output of the turn that has just ended.
        """
        match params:
            case {"sessionId": session, "update": {"sessionUpdate": str(kind)}}:
                between_turns = self._at_prompt and self._prompted
                return between_turns and session == self._session and kind in _OUTPUT_UPDATES
        return False

    def _handle_request(self, request: jsonrpc.Request, events: list[Event]) -> None:
        """
        Report a permission request; answer every other request with an error.
        """
        if request.method != "session/request_permission":
            self._data_to_send += jsonrpc.error(
                request.id,
                jsonrpc.METHOD_NOT_FOUND,
                f"kiroworkers does not support {request.method[:100]}",
            )
        elif (
            not self._answering
            or request.params.get("sessionId") != self._session
            or len(self._permission_requests) >= _MAX_PERMISSION_REQUESTS
        ):
            self._data_to_send += _cancelled(request)
        else:
            self._permission_requests.append(request)
            events.append(NeedsApproval(_tool_title(request.params), str(request.id)))

    def _pop_request(self, id: int | str | None) -> _RequestKind | None:
        """
        Return what the request `id` was for, and forget it; None if there is none.

        A response without an id belongs to the only pending request.
        """
        if id is None and len(self._pending_requests) == 1:
            [id] = self._pending_requests
        return None if id is None else self._pending_requests.pop(id, None)

    def _handle_response(
        self, kind: _RequestKind, response: jsonrpc.Response, events: list[Event]
    ) -> None:
        """
        Handle the response to a request of ours.
        """
        result, error = response.result, response.error
        match kind:
            case _RequestKind.CLOSE_SESSION:
                pass
            case _RequestKind.PROMPT:
                self._at_prompt = True
                events.append(self._end_turn(result, error))
            case _RequestKind.CLEAR if error is not None:
                self._at_prompt = True
                events.append(NotCleared(_error_text(error)))
            case _ if error is not None:
                self._failure = self._failure_from(error)
                events.append(self._failure)
            case _RequestKind.INITIALIZE:
                self._initialized(result, events)
            case _RequestKind.NEW_SESSION | _RequestKind.CLEAR:
                self._session_created(kind, result, events)

    def _initialized(self, result: Mapping[str, Any], events: list[Event]) -> None:
        version = result.get("protocolVersion")
        if version != PROTOCOL_VERSION:
            self._failure = AgentFailure(
                FailureKind.PROTOCOL,
                f"the agent speaks ACP version {str(version)[:100]}, not {PROTOCOL_VERSION}",
            )
            events.append(self._failure)
            return
        match result:
            case {"agentCapabilities": {"sessionCapabilities": {"close": dict()}}}:
                self._can_close_sessions = True
        self._data_to_send += self._new_session(_RequestKind.NEW_SESSION)

    def _session_created(
        self, kind: _RequestKind, result: Mapping[str, Any], events: list[Event]
    ) -> None:
        session = result.get("sessionId")
        # A session with an id that was used before would remember that conversation.
        if not isinstance(session, str) or not session or session in self._used_sessions:
            self._failure = AgentFailure(
                FailureKind.PROTOCOL, "the agent returned no new session ID"
            )
            events.append(self._failure)
            return
        self._used_sessions.add(session)
        if self._session and self._can_close_sessions:
            self._data_to_send += self._request(
                _RequestKind.CLOSE_SESSION, "session/close", {"sessionId": self._session}
            )
        self._session = session
        self._at_prompt = True
        self._prompted = False
        events.append(Ready() if kind is _RequestKind.NEW_SESSION else Cleared())

    def _end_turn(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> Event:
        wanted, self._answering = self._answering, False
        text, reason = self._take_text(), result.get("stopReason")
        self._data_to_send += self._cancel_permissions()
        if not wanted:
            return Ready()
        if error is not None:
            self._failure = self._failure_from(error)
            return self._failure
        if reason == "end_turn":
            return Answered(text, self.completion)
        kind = next((kind for kind in _STOP_REASONS if kind == reason), None)
        if kind is not None:
            self._failure = AgentFailure(kind, _STOP_REASONS[kind])
        else:
            detail = f"the turn ended with stop reason {str(reason)[:100]}"
            self._failure = AgentFailure(FailureKind.AGENT_ERROR, detail)
        return self._failure

    def _take_text(self) -> str:
        text = self._text.getvalue()
        self._discard_output()
        return _repair_surrogates(text)

    def _failure_from(self, error: Mapping[str, Any]) -> AgentFailure:
        """
        Return the failure that an error object stands for.
        """
        text = _error_text(error)
        failure = find_failure(self._dialect.failures, text)
        if failure is not None:
            return failure
        if error.get("code") == _LOGIN_REQUIRED:
            return AgentFailure(FailureKind.LOGIN_REQUIRED, text[:_MAX_DETAIL_LENGTH])
        return AgentFailure(FailureKind.AGENT_ERROR, text[:_MAX_DETAIL_LENGTH])

    # Helpers.

    def _start_request(self) -> None:
        """
        Reset the state of the previous turn, because a new request is about to be sent.
        """
        self._at_prompt = self._answering = False
        self._failure = None
        self._discard_output()

    def _discard_output(self) -> None:
        """
        Forget the output of the turn so far.
        """
        self._size = 0
        self._text = StringIO()

    def _count(self, size: int, events: list[Event]) -> None:
        """
        Add `size` bytes to the turn's size, and report if that makes it too large.
        """
        self._size += size
        if self._size > self._max_output:
            self._answering = False
            self._discard_output()
            events.append(Overflowed(self._max_output))

    def _request(self, kind: _RequestKind, method: str, params: Mapping[str, Any]) -> bytes:
        self._last_id += 1
        self._pending_requests[self._last_id] = kind
        return jsonrpc.request(self._last_id, method, params)

    def _new_session(self, kind: _RequestKind) -> bytes:
        return self._request(kind, "session/new", {"cwd": self._folder, "mcpServers": []})

    def _answer_permission(self, *kinds: str) -> bytes:
        """
        Answer the oldest permission request with an option of one of `kinds`.

        The kinds are tried in order.  Without a suitable option the request is cancelled,
        so the tool does not run.
        """
        if not self._permission_requests:
            return b""
        request = self._permission_requests.popleft()
        options = request.params.get("options")
        for kind in kinds:
            for option in options if isinstance(options, list) else []:
                match option:
                    case {"kind": str(option_kind), "optionId": str(id)} if option_kind == kind:
                        outcome = {"outcome": "selected", "optionId": id}
                        return jsonrpc.result(request.id, {"outcome": outcome})
        return _cancelled(request)

    def _cancel_permissions(self) -> bytes:
        """
        Return the responses that cancel all permission requests.
        """
        responses = b"".join(map(_cancelled, self._permission_requests))
        self._permission_requests.clear()
        return responses


def _late_text(update: Any) -> str:
    """
    Return the text of an update that came after its turn, empty where it has none.
    """
    match update:
        case {
            "sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": str(text)},
        }:
            return _repair_surrogates(text)
    return ""


def _repair_surrogates(text: str) -> str:
    """
    Join surrogates that were sent in two chunks; replace those without a partner.
    """
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _cancelled(request: jsonrpc.Request) -> bytes:
    return jsonrpc.result(request.id, {"outcome": {"outcome": "cancelled"}})


def _tool_title(params: Mapping[str, Any]) -> str:
    match params:
        case {"toolCall": {"title": str(title)}}:
            return _printable(title, _MAX_TITLE_LENGTH)
    return "a tool"


def _printable(text: str, max_length: int) -> str:
    """
    Return the first `max_length` characters of an agent's text, safe to log.
    """
    return plain_text(text[:max_length].encode("utf-8", "replace"))


def _error_text(error: Mapping[str, Any]) -> str:
    """
    Return an error object as one line, to be searched for the dialect's failures.
    """
    code, message, data = (error.get(name) for name in ("code", "message", "data"))
    # Other data may quote the request, and with it the words of a client.
    match data:
        case str(details) | {"details": str(details)} | {"message": str(details)}:
            text = f"{code}: {message} ({details})"
        case _:
            text = f"{code}: {message}"
    return " ".join(_printable(text, _MAX_ERROR_LENGTH).split())
