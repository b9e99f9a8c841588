"""
The Agent Client Protocol, version 1: JSON-RPC over the program's pipes.

Nothing is drawn and nothing is guessed: a prompt is a request, and its response
is the end of the turn.  Each turn has a session of the protocol's own, which
knows nothing of those before; that is the clear.  Source of the messages:
agentclientprotocol.com, schema 1.19.

The agent may ask, too: whether it may use a tool, which is told as
`NeedsApproval`, and for things that we said we do not have, which is refused so
that it need not wait.
"""

from __future__ import annotations

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
from kiroworkers.conversations.transcript import plain

PROTOCOL_VERSION = 1

#: The error code of an agent that nobody is logged in to.
_LOGIN_REQUIRED = -32000

#: How much is kept of what is no message, to say what was last seen.
_LAST_SEEN = 8192

#: Most characters of a tool's name that are told.
_LONGEST_TITLE = 200

#: JSON may need three bytes for one of the text (``\u00e9``), and some for what is
#: around it.
_ESCAPED = 3
_ENVELOPE = 64 * 1024

#: What is around a piece of text counts only where there is far more of it.
_USUAL_ENVELOPE = 256

#: Most characters of a failure that are told.
_LONGEST_WORDS = 300

#: The ends of a turn that are no answer, as the words of the one who asked.
_STOPS: Mapping[str, str] = {
    "max_tokens": "the model stopped at its longest answer",
    "max_turn_requests": "the agent asked its model too often",
    "refusal": "the model refused",
    "cancelled": "the agent cancelled the turn",
}


#: Updates that carry output of a turn. The others (available commands, modes, usage)
#: may be sent at any time.
_OUTPUT = {
    "agent_message_chunk",
    "agent_thought_chunk",
    "tool_call",
    "tool_call_update",
    "plan",
}


class _Asked(Enum):
    """
    What a request of ours was for.
    """

    INITIALIZE = auto()
    SESSION = auto()
    CLEAR = auto()
    PROMPT = auto()
    CLOSE = auto()


class AcpConversation(Conversation):
    """
    Follows one agent by its `dialect`, which works in `folder`; keeps at most
    `max_output` bytes of a turn.
    """

    completion = "response"
    source = "protocol"
    interrupts_cross = False
    sends_late = True
    clears_as_it_starts = True

    def __init__(self, dialect: Dialect, folder: str, max_output: int) -> None:
        self._dialect = dialect
        self._folder = folder
        self._max_output = max_output
        self._reader = jsonrpc.Reader(_ESCAPED * max_output + _ENVELOPE)
        self._numbers = 0
        self._waiting: dict[int | str, _Asked] = {}
        self._session = ""
        self._sessions: set[str] = set()
        self._ready = False
        self._prompted = False
        self._closes = False
        self._data_to_send = self._request(
            _Asked.INITIALIZE,
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
        self._answering = False
        self._said = StringIO()
        self._size = 0
        self._permissions: deque[jsonrpc.Request] = deque()
        self._failure: AgentFailure | None = None
        self._aside = bytearray()

    @property
    def at_prompt(self) -> bool:
        return self._ready

    @property
    def can_clear(self) -> bool:
        return True

    @property
    def last_seen(self) -> str:
        return plain(bytes(self._aside[-_LAST_SEEN:])).strip()

    @property
    def failure(self) -> AgentFailure | None:
        if self._failure is None and not self._session:
            # An agent that does not even start says why beside the protocol.
            return find_failure(self._dialect.failures, self.last_seen)
        return self._failure

    # What to write.

    def data_to_send(self) -> bytes:
        written, self._data_to_send = self._data_to_send, b""
        return written

    def ask(self, prompt: str) -> bytes:
        assert self._ready, "a session takes one prompt at a time"
        self._begin()
        self._submitted, self._answering = False, True
        self._prompted = True
        content = [{"type": "text", "text": prompt}]
        return self._request(
            _Asked.PROMPT, "session/prompt", {"sessionId": self._session, "prompt": content}
        )

    def clear(self) -> bytes:
        assert self._ready, "a session is left only between two turns"
        self._begin()
        return self._new_session(_Asked.CLEAR)

    def deny(self) -> bytes:
        return self._decide("reject_once", "reject_always")

    def allow(self) -> bytes:
        # Never for longer than this once.
        return self._decide("allow_once")

    def interrupt(self) -> bytes:
        self._answering = False
        self._drop()
        if self._ready:
            return b""
        return self._cancel_permissions() + jsonrpc.notification(
            "session/cancel", {"sessionId": self._session}
        )

    # What was read.

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for message, size in self._reader.feed(data):
            match message:
                case jsonrpc.Notification("session/update", params):
                    self._update(params, size, events)
                    continue
                case jsonrpc.Request():
                    self._asked(message, events)
                case jsonrpc.Response(id) if (asked := self._asked_for(id)) is not None:
                    self._answered(asked, message, events)
                    continue
                case jsonrpc.Garbage(start):
                    self.feed_stderr(start + b"\n")
            self._count(size, events)
        return events

    def feed_stderr(self, data: bytes) -> None:
        self._aside += data
        if len(self._aside) > 2 * _LAST_SEEN:
            del self._aside[:-_LAST_SEEN]

    def _update(self, params: Mapping[str, Any], size: int, events: list[Event]) -> None:
        """
        Read an update of the turn.  Drop updates for a session that was left; report
        output that follows the end of its turn.
        """
        update = params.get("update")
        if not self._answering or params.get("sessionId") != self._session:
            if self._is_late(params):
                events.append(LateOutput(_late_text(update)))
            self._count(size, events)
            return
        if not self._submitted:
            self._submitted = True
            events.append(Submitted())
        match update:
            case {"sessionUpdate": str(kind), "content": {"type": "text", "text": str(text)}}:
                if kind == "agent_message_chunk":
                    self._said.write(text)
                    events.append(TextChunk(text))
                size = max(len(text.encode("utf-8", "surrogatepass")), size // _USUAL_ENVELOPE)
            case {"sessionUpdate": "tool_call", "title": str(title)}:
                events.append(Working(_shown(title, _LONGEST_TITLE)))
        self._count(size, events)

    def _is_late(self, params: Mapping[str, Any]) -> bool:
        """
        Return whether an update is output of the turn that has just ended.
        """
        match params:
            case {"sessionId": session, "update": {"sessionUpdate": str(kind)}}:
                between_turns = self._ready and self._prompted
                return between_turns and session == self._session and kind in _OUTPUT
        return False

    def _asked(self, request: jsonrpc.Request, events: list[Event]) -> None:
        """
        The agent waits for an answer.
        """
        if request.method != "session/request_permission":
            self._data_to_send += jsonrpc.error(
                request.id, jsonrpc.METHOD_NOT_FOUND, f"kiroworkers has no {request.method[:100]}"
            )
        elif not self._answering or request.params.get("sessionId") != self._session:
            self._data_to_send += _cancelled(request)
        else:
            self._permissions.append(request)
            events.append(NeedsApproval(_title(request.params), str(request.id)))

    def _asked_for(self, id: int | str | None) -> _Asked | None:
        """
        What the response `id` is for; one without an id is for the only request
        that waits.
        """
        if id is None and len(self._waiting) == 1:
            [id] = self._waiting
        return None if id is None else self._waiting.pop(id, None)

    def _answered(self, asked: _Asked, response: jsonrpc.Response, events: list[Event]) -> None:
        """
        The agent answers what was asked.
        """
        result, error = response.result, response.error
        match asked:
            case _Asked.CLOSE:
                pass
            case _Asked.PROMPT:
                self._ready = True
                events.append(self._end_turn(result, error))
            case _Asked.CLEAR if error is not None:
                self._ready = True
                events.append(NotCleared(_words(error)))
            case _ if error is not None:
                self._failure = self._name(error)
                events.append(self._failure)
            case _Asked.INITIALIZE:
                self._greeted(result, events)
            case _Asked.SESSION | _Asked.CLEAR:
                self._entered(asked, result, events)

    def _greeted(self, result: Mapping[str, Any], events: list[Event]) -> None:
        spoken = result.get("protocolVersion")
        if spoken != PROTOCOL_VERSION:
            self._failure = AgentFailure(
                "protocol", f"it speaks version {str(spoken)[:100]} of ACP, not 1"
            )
            events.append(self._failure)
            return
        match result:
            case {"agentCapabilities": {"sessionCapabilities": {"close": dict()}}}:
                self._closes = True
        self._data_to_send += self._new_session(_Asked.SESSION)

    def _entered(self, asked: _Asked, result: Mapping[str, Any], events: list[Event]) -> None:
        session = result.get("sessionId")
        if not isinstance(session, str) or not session or session in self._sessions:
            self._failure = AgentFailure(
                "protocol", "it made no session that has a name of its own"
            )
            events.append(self._failure)
            return
        self._sessions.add(session)
        if self._session and self._closes:
            self._data_to_send += self._request(
                _Asked.CLOSE, "session/close", {"sessionId": self._session}
            )
        self._session = session
        self._ready = True
        self._prompted = False
        events.append(Ready() if asked is _Asked.SESSION else Cleared())

    def _end_turn(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> Event:
        wanted, self._answering = self._answering, False
        said, reason = self._text(), result.get("stopReason")
        self._data_to_send += self._cancel_permissions()
        if not wanted:
            return Ready()
        if error is not None:
            self._failure = self._name(error)
            return self._failure
        if reason == "end_turn":
            return Answered(said, self.completion)
        known = isinstance(reason, str) and reason in _STOPS
        detail = _STOPS[str(reason)] if known else f"the turn ended with {str(reason)[:100]}"
        self._failure = AgentFailure(str(reason) if known else "agent_error", detail)
        return self._failure

    def _text(self) -> str:
        text = self._said.getvalue()
        self._drop()
        return _whole(text)

    def _name(self, error: Mapping[str, Any]) -> AgentFailure:
        """
        The trouble that an error is.
        """
        words = _words(error)
        found = find_failure(self._dialect.failures, words)
        if found is not None:
            return found
        if error.get("code") == _LOGIN_REQUIRED:
            return AgentFailure("login_required", words[:_LONGEST_WORDS])
        return AgentFailure("agent_error", words[:_LONGEST_WORDS])

    # Steps of all this.

    def _begin(self) -> None:
        """
        Something is asked.
        """
        self._ready = self._answering = False
        self._failure = None
        self._drop()

    def _drop(self) -> None:
        """
        What was said so far belongs to nobody.
        """
        self._size = 0
        self._said = StringIO()

    def _count(self, size: int, events: list[Event]) -> None:
        """
        Text counts as text, everything else as it was written.
        """
        self._size += size
        if self._size > self._max_output:
            self._answering = False
            self._drop()
            events.append(Overflowed(self._max_output))

    def _request(self, asked: _Asked, method: str, params: Mapping[str, Any]) -> bytes:
        self._numbers += 1
        self._waiting[self._numbers] = asked
        return jsonrpc.request(self._numbers, method, params)

    def _new_session(self, asked: _Asked) -> bytes:
        return self._request(asked, "session/new", {"cwd": self._folder, "mcpServers": []})

    def _decide(self, *kinds: str) -> bytes:
        """
        Answer the oldest question for a tool with the first option of one of
        `kinds`; without one, the tool is not run.
        """
        if not self._permissions:
            return b""
        request = self._permissions.popleft()
        options = request.params.get("options")
        for kind in kinds:
            for option in options if isinstance(options, list) else []:
                match option:
                    case {"kind": str(offered), "optionId": str(name)} if offered == kind:
                        outcome = {"outcome": "selected", "optionId": name}
                        return jsonrpc.result(request.id, {"outcome": outcome})
        return _cancelled(request)

    def _cancel_permissions(self) -> bytes:
        """
        No to whatever is still asked.
        """
        written = b"".join(map(_cancelled, self._permissions))
        self._permissions.clear()
        return written


def _late_text(update: Any) -> str:
    """
    Return the text of an update that came after its turn, empty where it has none.
    """
    match update:
        case {
            "sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": str(text)},
        }:
            return _whole(text)
    return ""


def _whole(text: str) -> str:
    """
    Join surrogates that were sent in two pieces; replace those without a partner.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _cancelled(request: jsonrpc.Request) -> bytes:
    return jsonrpc.result(request.id, {"outcome": {"outcome": "cancelled"}})


def _title(params: Mapping[str, Any]) -> str:
    match params:
        case {"toolCall": {"title": str(title)}}:
            return _shown(title, _LONGEST_TITLE)
    return "a tool"


def _shown(text: str, most: int) -> str:
    """
    The first so many characters of a text of the agent's, fit for a log.
    """
    return plain(text[:most].encode("utf-8", "replace"))


def _words(error: Mapping[str, Any]) -> str:
    """
    An error in one line, as a dialect's troubles are looked for in it.
    """
    code, message, data = (error.get(name) for name in ("code", "message", "data"))
    # What else stands there may be the request's, and so a client's.
    match data:
        case str(more) | {"details": str(more)} | {"message": str(more)}:
            words = f"{code}: {message} ({more})"
        case _:
            words = f"{code}: {message}"
    return " ".join(_shown(words, 2000).split())
