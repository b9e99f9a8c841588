"""
Talk to an agent over the Agent Client Protocol (ACP), version 1: JSON-RPC over pipes.

Nothing is drawn and nothing is guessed: a prompt is a request, and its response is the
end of the turn.  Each conversation is an ACP session, which should know nothing of the
sessions before it, so starting a new session makes the agent forget.  A session with the
identifier of an earlier one is not used.  Source of the messages: agentclientprotocol.com,
schema 1.19.

The agent may also send requests.  It may ask whether it may use a tool, which is reported
as `NeedsApproval`.  A request for a feature that this client does not offer is answered
with an error, so that the agent need not wait.

`Sessions` holds what is known about the agent's sessions, `Turn` what is known about the
running turn, and `kiro` what Kiro adds to the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from kiroworkers.conversations.acp import jsonrpc, kiro
from kiroworkers.conversations.acp.clear_in_place import ClearInPlace
from kiroworkers.conversations.acp.handshake import (
    INITIALIZE,
    accepts_images,
    refusal,
    version_failure,
    ways_to_leave,
)
from kiroworkers.conversations.acp.known_sessions import KnownSessions, remedy_for
from kiroworkers.conversations.acp.permissions import PermissionRequests, cancelled
from kiroworkers.conversations.acp.recent_output import RecentOutput
from kiroworkers.conversations.acp.requests import PendingRequests, RequestKind
from kiroworkers.conversations.acp.session_setup import SessionNeeds, model_gone
from kiroworkers.conversations.acp.sessions import Sessions
from kiroworkers.conversations.acp.texts import answer_text, error_text
from kiroworkers.conversations.acp.tools import ToolCalls
from kiroworkers.conversations.acp.turn import MAX_DETAIL_LENGTH, Turn
from kiroworkers.conversations.conversation import Conversation
from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import (
    AgentFailure,
    Cleared,
    Event,
    LateOutput,
    NeedsApproval,
    NotCleared,
    Overflowed,
    Ready,
    Submitted,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.errors import FailureKind
from kiroworkers.images import Image

#: The maximum number of bytes that JSON needs for one byte of UTF-8 text (``\u00e9`` is 6
#: for 2), and an allowance in bytes for the message around the text.
_MAX_ESCAPE_FACTOR = 3
_MAX_ENVELOPE = 64 * 1024

#: The maximum length of a message, in bytes.
_MAX_MESSAGE = 16 * 1024 * 1024

#: Kiro sends much about itself, such as the descriptions of all its tools.  The size of such a
#: message is divided by this number.
_HOUSEKEEPING_FACTOR = 16

#: The seconds of silence after which a turn that gets no response is over.
_ENDING_TIMEOUT = 10.0

#: Updates that carry output of a turn. The others (available commands, modes, usage)
#: may be sent at any time.
_OUTPUT_UPDATES = {
    "agent_message_chunk",
    "agent_thought_chunk",
    "tool_call",
    "tool_call_update",
    "plan",
}


#: The content blocks of a prompt.
_Prompt: TypeAlias = Sequence[Mapping[str, str]]


class AcpConversation(Conversation):
    """
    Follow one agent that speaks ACP.

    Args:
        dialect: The agent's dialect.
        folder: The agent's working directory, as an absolute path.
        max_output: The maximum output of a turn, in bytes.
        agent_name: The configuration of the agent that must run; empty for any.
        model: The model that each session selects; empty for the agent's own choice.
        effort: The reasoning effort that each session selects; empty likewise.
        session_meta: The ``_meta`` of the request for a session; None for none.
        known_sessions: The identifiers of this agent's earlier sessions, shared by all
            conversations with it; None if this is the only one.
    """

    completion = "response"
    source = "protocol"
    interrupt_can_race = False
    sends_late = True
    slow_clear = True

    def __init__(
        self,
        dialect: Dialect,
        folder: str,
        max_output: int,
        agent_name: str = "",
        model: str = "",
        effort: str = "",
        session_meta: Mapping[str, Any] | None = None,
        known_sessions: KnownSessions | None = None,
    ) -> None:
        self._dialect = dialect
        self._engine = "" if dialect.acp is None else dialect.acp.engine
        self._folder = folder
        self._max_output = max_output
        self._reader = jsonrpc.Reader(
            min(_MAX_ESCAPE_FACTOR * max_output + _MAX_ENVELOPE, _MAX_MESSAGE)
        )
        self._requests = PendingRequests()
        needs = SessionNeeds(
            folder,
            self._engine,
            agent_name,
            model,
            effort,
            session_meta,
            dialect.failures,
            remedy_for(dialect),
        )
        if known_sessions is None or dialect.isolates_sessions:
            # An identifier names a conversation in the folder where the agent keeps it.
            known_sessions = KnownSessions()
        self._sessions = Sessions(needs, self._requests, known_sessions)
        self._clear_in_place = ClearInPlace(self._engine == "v2")
        self.selects_models = self._sessions.offers_models
        # Whether the current session has had a prompt.
        self._prompted = False

        # The running turn.
        self._at_prompt = False
        # Whether the agent has the prompt of a turn, and has not responded to it.
        self._running = False
        self._submitted = True
        # Whether the output of the running turn is still wanted.
        self._answering = False
        self._tools = ToolCalls(folder)
        # Tools of turns that are over, which are reported when no other turn runs.
        self._late_tools: list[Event] = []
        self._turn = self._new_turn()
        self._size = 0
        self._permissions = PermissionRequests()
        self._failure: AgentFailure | None = None
        # The prompt to send when its model has been selected.
        self._next_prompt: _Prompt | None = None
        self._next_model = ""

        # The events that are due at the next quiet moment.
        self._due: list[Event] = []
        self._recent_output = RecentOutput()
        self._data_to_send = self._requests.send(RequestKind.INITIALIZE, "initialize", INITIALIZE)

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
    def models(self) -> tuple[str, ...]:
        """
        Return the identifiers of the models that the agent offers; empty if it names none.
        """
        return self._sessions.current.models if self._sessions.any_current else ()

    @property
    def recent_output(self) -> str:
        """
        Return the end of standard error and of the lines that were not messages.
        """
        return self._recent_output.text()

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that ended the last request, or None.

        Before there is a session it may also come from standard error, where an agent
        that cannot start says why.
        """
        if self._failure is None and not self._sessions.any_current:
            return find_failure(self._dialect.failures, self.recent_output)
        return self._failure

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the seconds of silence after which events are due.

        They are due at once after a request that needs nothing from the agent, and after a
        while in a turn that gets no response.
        """
        if self._due:
            return 0.0
        return _ENDING_TIMEOUT if self._answering and self._turn.ending is not None else None

    # What to write.

    def data_to_send(self) -> bytes:
        """
        Return the requests and responses that have become due since the last call.
        """
        data, self._data_to_send = self._data_to_send, b""
        return data

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the request that submits `prompt`, or the one that must come before it.

        Call it only at the prompt.
        """
        assert self._at_prompt, "a session takes one prompt at a time"
        session = self._sessions.current
        self._start_request()
        self._tools.begin_turn(session.id)
        self._submitted, self._answering = False, True
        wanted = model or self._sessions.own_model
        if not self._can_select(model):
            self._failure = model_gone(wanted or "of its own")
            self._due.append(self._failure)
            return b""
        content = _prompt_content(prompt, images)
        if not wanted or wanted == session.model:
            return self._send_prompt(content)
        self._next_prompt, self._next_model = content, wanted
        return self._sessions.select_model(wanted)

    def _can_select(self, model: str) -> bool:
        """
        Return whether the next turn can have `model`, or the session's own if it is empty.

        A turn must not have the model that another client has chosen for the turn before.
        """
        if not model:
            return self._sessions.can_restore_model
        if not self.expects_clear and not self._sessions.knows_own_model:
            return False
        offered = self._sessions.current.models
        return not offered or model in offered

    def clear(self) -> bytes:
        """
        Return the request that makes the agent forget; empty if none is needed.

        Call it only at the prompt.
        """
        assert self._at_prompt, "a session is left only between two turns"
        session = self._sessions.current
        self._start_request()
        data = self._sessions.take_prepared()
        if data is not None:
            self._prompted = False
            self._clear_in_place.begin_session()
            self._due.append(Cleared())
            return data
        # A model that was chosen for a turn stays in the session.
        is_over = self._clear_in_place.is_safe(session) and not self.turn_may_go_on
        if is_over and self._sessions.can_restore_model:
            return self._requests.send(RequestKind.CLEAR, *self._clear_in_place.request(session))
        return self._sessions.replace()

    def deny(self) -> bytes:
        """
        Return the response that denies the oldest permission request.
        """
        return self._permissions.deny()

    def allow(self) -> bytes:
        """
        Return the response that grants the oldest permission request, this one time.
        """
        return self._permissions.allow()

    def interrupt(self) -> bytes:
        """
        Return the messages that cancel the running turn; empty if none is running.
        """
        self._answering = False
        self._discard_output()
        if self._due:
            self._failure, self._due = None, [Ready()]
        # If the model is not selected yet, the agent has no prompt, and gets none later.
        self._next_prompt = None
        if not self._running:
            return b""
        return self._permissions.cancel() + jsonrpc.notification(
            "session/cancel", {"sessionId": self._sessions.current.id}
        )

    # What was read.

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in the messages that end in `data`.
        """
        events: list[Event] = []
        for message, size in self._reader.feed(data):
            match message:
                case jsonrpc.Notification(method, params):
                    size = self._handle_notification(method, params, size, events)
                case jsonrpc.Request():
                    self._handle_request(message, events)
                case jsonrpc.Response(id) if (kind := self._requests.pop(id)) is not None:
                    self._handle_response(kind, message, events)
                    continue
                case jsonrpc.Garbage(start):
                    self.feed_stderr(start + b"\n")
            self._count(size, events)
        if self._late_tools and not self._answering:
            events += self._late_tools
            self._late_tools = []
        return events

    def feed_stderr(self, data: bytes) -> None:
        """
        Keep the end of `data`, for `recent_output` and `failure`.
        """
        self._recent_output.append(data)

    def on_quiet(self) -> list[Event]:
        """
        Return the events that are due.
        """
        if self._due:
            events, self._due = self._due, []
            self._answering, self._at_prompt = False, True
            return events
        if not self._answering or self._turn.ending is None:
            return []
        self._answering = False
        self._failure = self._turn.ending
        self._data_to_send += self._permissions.cancel()
        self._discard_output()
        return [self._failure]

    # Notifications.

    def _handle_notification(
        self, method: str, params: Mapping[str, Any], size: int, events: list[Event]
    ) -> int:
        """
        Handle a notification, and return its size as output of the turn.
        """
        update = params.get("update")
        if method != "session/update" or not isinstance(update, dict):
            self._handle_facts(method, params, events)
            return size // _HOUSEKEEPING_FACTOR if method.startswith("_kiro") else size
        session = params.get("sessionId")
        match update.get("sessionUpdate"):
            case str(kind) if kind in _OUTPUT_UPDATES:
                if self._sessions.is_current(session):
                    return self._handle_output(update, size, events)
                self._handle_foreign_output(session, update, events)
                return size
            case "config_option_update":
                self._sessions.update_options(session, update)
                self.selects_models = self._sessions.offers_models
            case "session_info_update":
                taken = self._answering and self._running and kiro.begins_turn(update)
                if taken and self._sessions.is_current(session):
                    # The first output may be seconds away.
                    self._note_submitted(events)
                self._handle_facts(method, params, events)
        return size // _HOUSEKEEPING_FACTOR

    def _handle_facts(self, method: str, params: Mapping[str, Any], events: list[Event]) -> None:
        """
        Handle a notification that Kiro adds to the protocol, about our session or about none.
        """
        session = params.get("sessionId")
        own = self._sessions.is_current(session)
        concerns_turn = self._answering and self._running and (own or session is None)
        for fact in kiro.read_notification(method, params):
            match fact:
                # The session may not be known yet, because its first notifications come
                # before the response that names it.
                case kiro.McpProblem(detail):
                    self.feed_stderr(detail.encode() + b"\n")
                case kiro.AgentMissing(detail):
                    self._sessions.note_missing_agent(detail)
                case kiro.ConversationCleared() if own:
                    self._clear_in_place.note_told()
            if concerns_turn:
                events += self._turn.add_fact(fact)
            elif own and self._running:
                # Its error may have no words of its own, also after an interrupt.
                self._turn.add_fact(fact)

    def _handle_output(self, update: Mapping[str, Any], size: int, events: list[Event]) -> int:
        """
        Handle output in our session, and return its size.

        Drop output of an abandoned turn, and report output that no request asked for.
        """
        agent_initiated = kiro.is_agent_initiated(update)
        session = self._sessions.current.id
        if not self._running or agent_initiated:
            self._handle_late_output(update, agent_initiated, events)
            if self._prompted or agent_initiated:
                self._add_late_tool(session, update)
            return size
        if not self._answering:
            self._add_late_tool(session, update)
            return size
        self._note_submitted(events)
        output, size = self._turn.add_update(session, update, size)
        events += output
        return size

    def _note_submitted(self, events: list[Event]) -> None:
        """
        Report once in a turn that the agent has read the prompt, and prepare a session.
        """
        if self._submitted:
            return
        self._submitted = True
        events.append(Submitted())
        can_clear = self._clear_in_place.is_possible(self._sessions.current)
        if self.expects_clear and not can_clear:
            self._data_to_send += self._sessions.prepare()

    def _handle_late_output(
        self, update: Mapping[str, Any], agent_initiated: bool, events: list[Event]
    ) -> None:
        """
        Report output that follows the end of its turn, or begins a turn of the agent's own.
        """
        if not self._prompted and not agent_initiated:
            return
        self._clear_in_place.distrust()
        # It is also reported while a model is being selected for the next turn.
        if (not self._at_prompt and not self._answering) or self._running:
            return
        text = answer_text(update)
        match events[-1:]:
            case [LateOutput(earlier)]:
                # One event for each read, because each event is appended to a long text.
                events[-1] = LateOutput(earlier + text)
            case _:
                events.append(LateOutput(text))

    def _handle_foreign_output(
        self, session: Any, update: Mapping[str, Any], events: list[Event]
    ) -> None:
        """
        Find the tools that are used in another session.

        The agent opens a separate session for a subagent.
        """
        if self._sessions.is_unknown(session):
            if self._answering:
                events += self._turn.add_subagent_update(session, update)
            else:
                self._add_late_tool(session, update)
        elif self._sessions.was_left(session):
            self._add_late_tool(session, update)

    def _add_late_tool(self, session: str, update: Mapping[str, Any]) -> None:
        """
        Find a tool that runs when its turn is over, or was given up.
        """
        tool = self._tools.feed(session, update)
        if tool is not None:
            self._late_tools.append(tool)

    # Requests of the agent.

    def _handle_request(self, request: jsonrpc.Request, events: list[Event]) -> None:
        """
        Report a permission request; answer every other request with an error.
        """
        if request.method != "session/request_permission":
            self._data_to_send += refusal(request)
        else:
            question = self._queue_permission(request)
            if question is None:
                self._data_to_send += cancelled(request)
            else:
                events.append(question)

    def _queue_permission(self, request: jsonrpc.Request) -> NeedsApproval | None:
        """
        Return the question of a permission request; None if the request must be cancelled.
        """
        session = request.params.get("sessionId")
        if not (self._answering and self._running and isinstance(session, str)):
            return None
        if not self._sessions.is_current(session):
            if not self._sessions.is_unknown(session):
                return None
            self._turn.note_subagent()
        return self._permissions.add(request, *self._turn.add_question(session, request.params))

    # Responses to our requests.

    def _handle_response(
        self, kind: RequestKind, response: jsonrpc.Response, events: list[Event]
    ) -> None:
        """
        Handle the response to a request of ours.
        """
        result, error = response.result, response.error
        match kind:
            case RequestKind.INITIALIZE:
                self._initialized(result, error, events)
            case RequestKind.SESSION:
                self._take_session(result, error, events)
            case RequestKind.CLEAR:
                self._cleared_in_place(result, error, events)
            case RequestKind.MODEL:
                self._model_selected(result, error, events)
            case RequestKind.PROMPT:
                self._at_prompt, self._running = True, False
                events.append(self._end_turn(result, error))

    def _initialized(
        self, result: Mapping[str, Any], error: Mapping[str, Any] | None, events: list[Event]
    ) -> None:
        failure = self._failure_from(error) if error is not None else version_failure(result)
        if failure is not None:
            self._fail(failure, events)
        else:
            self._sessions.ways_to_leave = ways_to_leave(result)
            self.accepts_images = accepts_images(result)
            self._data_to_send += self._sessions.open_first()

    def _end_turn(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> Event:
        wanted, self._answering = self._answering, False
        turn = self._turn
        self._data_to_send += self._permissions.cancel()
        self._discard_output()
        event = turn.end(result, error)
        if isinstance(event, AgentFailure):
            if not wanted and not event.affects_all_sessions:
                return Ready()
            self._failure = event
        elif not wanted:
            return Ready()
        elif turn.is_tidy:
            self._clear_in_place.end_turn()
        return event

    def _model_selected(
        self, result: Mapping[str, Any], error: Mapping[str, Any] | None, events: list[Event]
    ) -> None:
        """
        Send the prompt that waited for its model to be selected.
        """
        prompt, self._next_prompt = self._next_prompt, None
        selected = self._sessions.take_model(result, error)
        if prompt is not None and selected:
            self._data_to_send += self._send_prompt(prompt)
            return
        self._at_prompt, self._answering = True, False
        if prompt is None:
            events.append(Ready())
        else:
            failure = find_failure(self._dialect.failures, error_text(error or {}))
            self._fail(failure or model_gone(self._next_model), events)

    def _take_session(
        self, result: Mapping[str, Any], error: Mapping[str, Any] | None, events: list[Event]
    ) -> None:
        """
        Take in the response to a request that opens a session.
        """
        data, event = self._sessions.take_response(result, error)
        self._data_to_send += data
        match event:
            case None:
                return
            case AgentFailure():
                self._failure = event
            case Ready() | Cleared():
                self._prompted = False
                self.selects_models = self._sessions.offers_models
                self._clear_in_place.begin_session()
                self._at_prompt = True
            case NotCleared():
                self._at_prompt = True
        events.append(event)

    def _cleared_in_place(
        self, result: Mapping[str, Any], error: Mapping[str, Any] | None, events: list[Event]
    ) -> None:
        """
        Report the clear if it is proven, and open another session otherwise.
        """
        if self._clear_in_place.is_proven(result, error):
            self._at_prompt = True
            events.append(Cleared())
        else:
            self._clear_in_place.distrust()
            self._data_to_send += self._sessions.replace()

    # Helpers.

    def _new_turn(self) -> Turn:
        return Turn(self._dialect.failures, self._tools)

    def _send_prompt(self, prompt: _Prompt) -> bytes:
        self._prompted = self._running = True
        self._clear_in_place.begin_turn()
        params = {"sessionId": self._sessions.current.id, "prompt": prompt}
        return self._requests.send(RequestKind.PROMPT, "session/prompt", params)

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
        self._turn = self._new_turn()

    def _count(self, size: int, events: list[Event]) -> None:
        """
        Add `size` bytes to the turn's size, and report if that makes it too large.
        """
        self._size += size
        if self._size > self._max_output:
            self._answering = False
            self._discard_output()
            events.append(Overflowed(self._max_output))

    def _fail(self, failure: AgentFailure, events: list[Event]) -> None:
        self._failure = failure
        events.append(failure)

    def _failure_from(self, error: Mapping[str, Any]) -> AgentFailure:
        """
        Return the failure that an error object stands for.
        """
        text = error_text(error)
        failure = find_failure(self._dialect.failures, text)
        return failure or AgentFailure(FailureKind.AGENT_ERROR, text[:MAX_DETAIL_LENGTH])


def _prompt_content(text: str, images: Sequence[Image]) -> _Prompt:
    """
    Return a prompt as content blocks: its text, then its images in their order.
    """
    return [
        {"type": "text", "text": text},
        *({"type": "image", "mimeType": image.media_type, "data": image.data} for image in images),
    ]
